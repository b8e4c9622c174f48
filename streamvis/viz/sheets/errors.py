"""A sheet of a detector's worst errors: crops with ground truth and detections.

    sheet = mistake_sheet("person-lite", [Section("PETS09-S2L1", "threshold 0.92", rows)])

Pictures and the sheet are RGB arrays (H, W, 3) uint8.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.style import DARK, GREY, PALETTE, Colour, Style, rectangle

TRUTH: Colour = PALETTE[1]  # sky
FOUND: Colour = PALETTE[5]  # vermilion
BACKGROUND: Colour = (250, 250, 250)
FAINT: Colour = (96, 102, 110)  # of lesser text
SIDE = 236  # px of a tile's picture
GAP = 12
MARGIN = 24
CONTEXT = 1.9  # a crop's side over the longer side of the box it shows
THIN, BOLD = 1, 3  # px
SMALLEST = 72  # px of the frame; less context than that says nothing
TITLE, TEXT = Style.for_size(800, 1067), Style.for_size(480, 640)
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


def mistake_sheet(title: str, sections: Sequence[Section], columns: int = 6) -> Array:
    """Return the sections below each other, their tiles in rows of `columns`."""
    width = 2 * MARGIN + columns * (SIDE + GAP) - GAP
    bands = [_head(title, width)]
    for section in sections:
        bands.append(_heading(section, width))
        for name, tiles in section.rows:
            bands.append(_label(name, width))
            bands += [_row(tiles[i : i + columns], width) for i in range(0, len(tiles), columns)]
    return np.concatenate([*bands, _blank(MARGIN, width)])


def draw_tile(tile: Tile) -> Array:
    """Return the crop (SIDE, SIDE, 3) around the box, which is bold; all others are thin."""
    x, y, side = _window(tile.box, *tile.pixels.shape[:2])
    height, width = tile.pixels.shape[:2]
    part = tile.pixels[max(y, 0) : min(y + side, height), max(x, 0) : min(x + side, width)]
    crop = np.full((side, side, 3), DARK, np.uint8)
    crop[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]] = part
    smooth = cv2.INTER_AREA if side > SIDE else cv2.INTER_CUBIC
    image = cv2.resize(crop, (SIDE, SIDE), interpolation=smooth)
    place = np.array([x, y, x, y])
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


def _window(box: Array, height: int, width: int) -> tuple[int, int, int]:
    """Return left, top and side of the crop, inside the picture as far as it fits."""
    longest = float((box[2:] - box[:2]).max())
    side = max(SMALLEST, round(CONTEXT * longest))
    side = min(side, max(round(1.1 * longest), min(height, width)), max(height, width))
    corner = ((box[:2] + box[2:]) / 2 - side / 2).round().astype(int)
    room = np.array([width, height]) - side  # negative: centred with a border
    x, y = np.where(room < 0, room // 2, np.clip(corner, 0, np.maximum(room, 0))).tolist()
    return x, y, side


def _blank(height: int, width: int) -> Array:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _head(title: str, width: int) -> Array:
    band = _blank(MARGIN + TITLE.text + 2 * GAP, width)
    base = MARGIN + TITLE.text
    x = width - MARGIN - sum(24 + TEXT.width(name) + 20 for name, *_ in LEGEND) + 20
    TITLE.write(band, _fitting(title, x - 2 * MARGIN, TITLE), MARGIN, base, DARK)
    for name, colour, line, dashed in LEGEND:
        rectangle(band, np.array([x, base - 13, x + 15, base + 2]), colour, line, dashed)
        TEXT.write(band, name, x + 24, base, DARK)
        x += 24 + TEXT.width(name) + 20
    return band


def _heading(section: Section, width: int) -> Array:
    band = _blank(3 * GAP + TITLE.text + GAP, width)
    band[GAP : GAP + 1, MARGIN : width - MARGIN] = GREY
    base = 3 * GAP + TITLE.text - GAP // 2
    TITLE.write(band, section.title, MARGIN, base, DARK)
    x = MARGIN + TITLE.width(section.title) + 2 * GAP
    TEXT.write(band, _fitting(section.note, width - MARGIN - x, TEXT), x, base, FAINT)
    return band


def _label(name: str, width: int) -> Array:
    band = _blank(TEXT.text + 2 * GAP, width)
    TEXT.write(band, name, MARGIN, GAP // 2 + TEXT.text, DARK)
    return band


def _row(tiles: Sequence[Tile], width: int) -> Array:
    step = TEXT.text + GAP // 2 + 2
    foot = GAP // 2 + step * max(len(tile.lines) for tile in tiles)
    band = _blank(SIDE + foot + GAP, width)
    for i, tile in enumerate(tiles):
        x = MARGIN + i * (SIDE + GAP)
        band[:SIDE, x : x + SIDE] = draw_tile(tile)
        for line, text in enumerate(tile.lines):
            y = SIDE + GAP // 2 + TEXT.text + line * step
            colour = FAINT if line else DARK
            TEXT.write(band, _fitting(text, SIDE, TEXT), x, y, colour)
    return band


def _fitting(text: str, room: int, style: Style) -> str:
    """Return the text, or as much of its end as fits: names differ at their end."""
    if style.width(text) <= room:
        return text
    while text and style.width("..." + text) > room:
        text = text[1:]
    return "..." + text
