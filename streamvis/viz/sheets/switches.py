"""A page of identity switches: the last frame with the old track, the first with the new one.

    side = side_of([before, after], height, width)
    pair = [draw(pixels, moment, side) for pixels, moment in …]
    page = switch_page("PETS09-S2L1", [Pair(("person 3: 5 -> 9", "frames 12 -> 19"), *pair)])

Pictures are RGB arrays (H, W, 3) uint8.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.viz.contact_sheet import contact_sheet
from streamvis.viz.sheets.layout import BACKGROUND, FAINT, TITLE, blank, square
from streamvis.viz.style import DARK, PALE, Colour, Style, colour_of, rectangle, shade

TRUTH: Colour = (255, 255, 255)
SIDE = 236  # px of a crop on the page
COLUMNS = 3
SEAM = 4  # px between the two
CONTEXT = 2.0  # a crop's side over the longest box in it
SMALLEST = 72  # px of the frame; less context than that says nothing
TEXT = Style.for_size(480, 640)
PLATE = Style.for_size(420, 560)


class Moment(NamedTuple):
    """One frame of a switch."""

    frame: int
    person: Array  # (4,) where the truth has the person
    box: Array  # (4,) the track on that person
    track: int  # its id
    others: Array  # (N, 4) all other tracks
    ids: Array  # (N,)


class Pair(NamedTuple):
    """The crops of one identity switch, before and after."""

    lines: tuple[str, ...]  # above
    before: Array  # (SIDE, SIDE, 3)
    after: Array  # (SIDE, SIDE, 3)


def side_of(moments: Sequence[Moment], height: int, width: int) -> int:
    """Return the side in px of the crops of a switch, the same before and after."""
    boxes = np.concatenate([(m.person, m.box) for m in moments])
    longest = float((boxes[:, 2:] - boxes[:, :2]).max())
    side = max(SMALLEST, round(CONTEXT * longest))
    return min(side, max(round(1.1 * longest), min(height, width)))  # no more border than needed


def draw(pixels: Array, moment: Moment, side: int) -> Array:
    """Return the crop around the person: ground truth dashed white, its track bold, others thin."""
    image, place = square(pixels, (moment.person[:2] + moment.person[2:]) / 2, side, SIDE)
    scale = SIDE / side
    others = (moment.others - place) * scale
    seen = np.flatnonzero((others[:, 2:] > 0).all(axis=1) & (others[:, :2] < SIDE).all(axis=1))
    for i in seen:
        rectangle(image, others[i], colour_of(int(moment.ids[i])), 1)
    box = (moment.box - place) * scale
    rectangle(image, box, DARK, 5)  # shows on any ground
    rectangle(image, box, colour_of(moment.track), 3)
    rectangle(image, (moment.person - place) * scale, TRUTH, 1, dashed=True)
    for i in seen:
        _plate(image, int(moment.ids[i]), others[i])
    _plate(image, moment.track, box)
    _corner(image, f"frame {moment.frame}")
    return image


def switch_page(title: str, pairs: Sequence[Pair]) -> Array:
    """Return the pairs in rows below a title."""
    cells = [_cell(pair) for pair in pairs]
    body = contact_sheet(cells, COLUMNS, background=BACKGROUND) if cells else blank(0, 3 * SIDE)
    width = max(body.shape[1], TITLE.width(title) + 48)
    head = blank(TITLE.text + 36, width)
    TITLE.write(head, title, 12, TITLE.text + 20, DARK)
    if width > body.shape[1]:
        body = np.concatenate([body, blank(body.shape[0], width - body.shape[1])], axis=1)
    return np.concatenate([head, body])


def _cell(pair: Pair) -> Array:
    step = TEXT.text + 8
    head = blank(step * len(pair.lines) + 4, 2 * SIDE + SEAM)
    for i, line in enumerate(pair.lines):
        TEXT.write(head, line, 0, step * i + TEXT.text + 2, FAINT if i else DARK)
    crops = np.concatenate([pair.before, blank(SIDE, SEAM), pair.after], axis=1)
    return np.concatenate([head, crops, blank(10, crops.shape[1])])


def _plate(image: Array, track: int, box: Array) -> None:
    x, y = np.clip(box[:2], 0, SIDE).round().astype(int).tolist()
    PLATE.plate(image, str(track), x, y, colour_of(track))


def _corner(image: Array, text: str) -> None:
    height = TEXT.text + 10
    shade(image[-height:, : TEXT.width(text) + 12], DARK, 0.7)
    TEXT.write(image, text, 6, image.shape[0] - 5, PALE)
