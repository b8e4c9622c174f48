"""The page layout that sheets share: background, section headings, square crops."""

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.style import DARK, GREY, Colour, Style

BACKGROUND: Colour = (250, 250, 250)
FAINT: Colour = (96, 102, 110)  # of lesser text
MARGIN = 24  # px
TITLE = Style.for_size(800, 1067)


def blank(height: int, width: int) -> Array:
    """Return an empty band of the page."""
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def heading(title: str, note: str, width: int, gap: int, text: Style) -> Array:
    """Return the band that begins a section: a rule, the title, and a note cut to fit."""
    band = blank(4 * gap + TITLE.text, width)
    band[gap : gap + 1, MARGIN : width - MARGIN] = GREY
    base = 3 * gap + TITLE.text - gap // 2
    TITLE.write(band, title, MARGIN, base, DARK)
    x = MARGIN + TITLE.width(title) + 2 * gap
    text.write(band, text.ending(note, width - MARGIN - x), x, base, FAINT)
    return band


def square(pixels: Array, centre: Array, side: int, size: int) -> tuple[Array, Array]:
    """Return the square of `side` px around a point, scaled to `size` px, and its xyxy origin.

    It lies inside the picture as far as it fits; beyond it is dark.
    """
    height, width = pixels.shape[:2]
    corner = (centre - side / 2).round().astype(int)
    room = np.array([width, height]) - side  # negative: centred with a border
    x, y = np.where(room < 0, room // 2, np.clip(corner, 0, np.maximum(room, 0))).tolist()
    crop = np.full((side, side, 3), DARK, np.uint8)
    part = pixels[
        max(y, 0) : max(0, min(y + side, height)), max(x, 0) : max(0, min(x + side, width))
    ]
    if part.size:
        crop[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]] = part
    smooth = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(crop, (size, size), interpolation=smooth), np.array([x, y, x, y])
