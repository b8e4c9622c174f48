"""A contact sheet: pictures side by side, each with its caption.

    sheet = contact_sheet([before, after], columns=2, captions=["before", "after"])

Pictures are RGB arrays (H, W, 3) uint8; the text size follows the pictures' size.
"""

from collections.abc import Sequence

import numpy as np

from streamvis.errors import UsageError
from streamvis.messages import Array
from streamvis.viz.style import DARK, Colour, Style


def contact_sheet(
    images: Sequence[Array],
    columns: int,
    captions: Sequence[str] = (),
    background: Colour = (250, 250, 250),
) -> Array:
    """Arrange pictures in rows, each centred in a cell of the largest, its caption below."""
    if not images or columns < 1:
        raise UsageError(
            f"a contact sheet of {len(images)} pictures in {columns} columns; expected at least "
            "one of each"
        )
    if captions and len(captions) != len(images):
        raise UsageError(f"{len(captions)} captions for {len(images)} pictures")
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    style = Style.for_size(height, width)
    gap = max(4, style.text // 2)
    foot = style.text + 2 * gap if captions else gap
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.empty((rows * (height + foot) + gap, columns * (width + gap) + gap, 3), np.uint8)
    sheet[:] = background
    for i, image in enumerate(images):
        h, w = image.shape[:2]
        top = gap + i // columns * (height + foot)
        left = gap + i % columns * (width + gap)
        y, x = top + (height - h) // 2, left + (width - w) // 2
        sheet[y : y + h, x : x + w] = image
        if captions:
            text = style.ending(captions[i], width)
            style.write(sheet, text, left, top + height + gap + style.text, DARK)
    return sheet
