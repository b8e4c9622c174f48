"""A sheet of a detector's worst errors: crops with ground truth and detections.

    sheet = mistake_sheet("person-lite", [Section("PETS09-S2L1", "threshold 0.92", rows)])

Pictures and the sheet are RGB arrays (H, W, 3) uint8.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamvis.messages import Array
from streamvis.viz.sheets.layout import FAINT, MARGIN, TITLE, blank, heading, square
from streamvis.viz.style import DARK, GREY, PALETTE, Colour, Style, rectangle

TRUTH: Colour = PALETTE[1]  # sky
FOUND: Colour = PALETTE[5]  # vermilion
SIDE = 236  # px of a tile's picture
GAP = 12
COLUMNS = 6
CONTEXT = 1.9  # a crop's side over the longer side of the box it shows
THIN, BOLD = 1, 3  # px
SMALLEST = 72  # px of the frame; less context than that says nothing
TEXT = Style.for_size(480, 640)
LEGEND = (
    ("ground truth", TRUTH, BOLD, False),
    ("detections", FOUND, BOLD, False),
    ("ground truth that is not scored", GREY, THIN, True),
)


@dataclass(frozen=True)
class Tile:
    """One error: a false detection, or a missed person, in its picture."""

    pixels: Array  # the whole picture
    box: Array  # (4,) the false detection or the missed person
    is_found: bool  # a false detection; else a missed person
    people: Array  # (G, 4) ground truth
    counts: Array  # (G,) bool, False: not scored
    found: Array  # (N, 4) detections
    lines: tuple[str, ...]  # below the crop


@dataclass(frozen=True)
class Section:
    """The errors on one data set."""

    title: str
    note: str
    rows: Sequence[tuple[str, Sequence[Tile]]]  # title and tiles of each row


def mistake_sheet(title: str, sections: Sequence[Section]) -> Array:
    """Return the sections below each other, their tiles in rows of COLUMNS."""
    width = 2 * MARGIN + COLUMNS * (SIDE + GAP) - GAP
    bands = [_head(title, width)]
    for section in sections:
        bands.append(heading(section.title, section.note, width, GAP, TEXT))
        for name, tiles in section.rows:
            bands.append(_label(name, width))
            bands += [_row(tiles[i : i + COLUMNS], width) for i in range(0, len(tiles), COLUMNS)]
    return np.concatenate([*bands, blank(MARGIN, width)])


def draw_tile(tile: Tile) -> Array:
    """Return the crop (SIDE, SIDE, 3) around the box, which is bold; all others are thin."""
    side = _side(tile.box, *tile.pixels.shape[:2])
    image, place = square(tile.pixels, (tile.box[:2] + tile.box[2:]) / 2, side, SIDE)
    for boxes, colour, dashed in (
        (tile.people[~tile.counts], GREY, True),
        (tile.people[tile.counts], TRUTH, False),
        (tile.found, FOUND, False),
    ):
        for box in boxes:
            rectangle(image, (box - place) * SIDE / side, colour, THIN, dashed)
    bold = (tile.box - place) * SIDE / side
    rectangle(image, bold, DARK, BOLD + 2)  # shows on any ground
    rectangle(image, bold, FOUND if tile.is_found else TRUTH, BOLD)
    return image


def _side(box: Array, height: int, width: int) -> int:
    """Return the side of the crop in px of the frame."""
    longest = float((box[2:] - box[:2]).max())
    side = max(SMALLEST, round(CONTEXT * longest))
    return min(side, max(round(1.1 * longest), min(height, width)), max(height, width))


def _head(title: str, width: int) -> Array:
    band = blank(MARGIN + TITLE.text + 2 * GAP, width)
    base = MARGIN + TITLE.text
    x = width - MARGIN - sum(24 + TEXT.width(name) + 20 for name, *_ in LEGEND) + 20
    TITLE.write(band, TITLE.ending(title, x - 2 * MARGIN), MARGIN, base, DARK)
    for name, colour, line, dashed in LEGEND:
        rectangle(band, np.array([x, base - 13, x + 15, base + 2]), colour, line, dashed)
        TEXT.write(band, name, x + 24, base, DARK)
        x += 24 + TEXT.width(name) + 20
    return band


def _label(name: str, width: int) -> Array:
    band = blank(TEXT.text + 2 * GAP, width)
    TEXT.write(band, name, MARGIN, GAP // 2 + TEXT.text, DARK)
    return band


def _row(tiles: Sequence[Tile], width: int) -> Array:
    step = TEXT.text + GAP // 2 + 2
    foot = GAP // 2 + step * max(len(tile.lines) for tile in tiles)
    band = blank(SIDE + foot + GAP, width)
    for i, tile in enumerate(tiles):
        x = MARGIN + i * (SIDE + GAP)
        band[:SIDE, x : x + SIDE] = draw_tile(tile)
        for line, text in enumerate(tile.lines):
            y = SIDE + GAP // 2 + TEXT.text + line * step
            colour = FAINT if line else DARK
            TEXT.write(band, TEXT.ending(text, SIDE), x, y, colour)
    return band
