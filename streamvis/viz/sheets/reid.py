"""A sheet of re-identification queries: each beside its best matches, framed by identity.

    sheet = lineup_sheet("person-r18", [Section("PETS09-S2L1", "rank-1 0.673", lineups)])

Pictures and the sheet are RGB arrays (H, W, 3) uint8.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.sheets.layout import FAINT, MARGIN, TITLE, blank, heading
from streamvis.viz.style import DARK, PALETTE, Colour, Style

RIGHT: Colour = PALETTE[4]  # green
WRONG: Colour = PALETTE[5]  # vermilion
TILE = (160, 72)  # height, width in px of a person's picture
FRAME = 4  # px
GAP = 10  # px
COLUMNS = 2  # lineups beside each other
TEXT = Style.for_size(440, 587)
STEP = TEXT.text + 7  # px from line to line
LEGEND = (("query", DARK), ("the same person", RIGHT), ("another person", WRONG))


@dataclass(frozen=True)
class Face:
    """One crop of a person, (*TILE, 3), with its caption."""

    pixels: Array
    lines: tuple[str, str]  # beneath
    right: bool = True


@dataclass(frozen=True)
class Lineup:
    """A query and its matches, best first."""

    title: str
    asked: Face
    answers: Sequence[Face]


@dataclass(frozen=True)
class Section:
    """The queries of one data set."""

    title: str
    note: str
    lineups: Sequence[Lineup]


def lineup_sheet(title: str, sections: Sequence[Section]) -> Array:
    """Return the sections below each other, their queries in rows of COLUMNS."""
    most = max((len(one.answers) for s in sections for one in s.lineups), default=1)
    across = (most + 1) * (TILE[1] + GAP) + 2 * GAP
    width = max(2 * MARGIN + COLUMNS * across, 700)
    bands = [_head(title, width)]
    for section in sections:
        bands.append(heading(section.title, section.note, width, GAP, TEXT))
        for start in range(0, len(section.lineups), COLUMNS):
            bands.append(_row(section.lineups[start : start + COLUMNS], across, width))
    return np.concatenate([*bands, blank(MARGIN, width)])


def _head(title: str, width: int) -> Array:
    band = blank(MARGIN + TITLE.text + 2 * GAP, width)
    base = MARGIN + TITLE.text
    TITLE.write(band, title, MARGIN, base, DARK)
    x = width - MARGIN - sum(20 + TEXT.width(name) + 18 for name, _ in LEGEND) + 18
    for name, colour in LEGEND:
        cv2.rectangle(band, (x, base - 12), (x + 12, base), colour, FRAME - 1)
        TEXT.write(band, name, x + 20, base, DARK)
        x += 20 + TEXT.width(name) + 18
    return band


def _row(lineups: Sequence[Lineup], across: int, width: int) -> Array:
    top = TEXT.text + GAP
    band = blank(top + TILE[0] + 2 * STEP + 2 * GAP, width)
    for i, one in enumerate(lineups):
        x = MARGIN + i * across
        TEXT.write(band, one.title, x, TEXT.text, DARK)
        _put(band, one.asked, x, top, DARK)
        for j, face in enumerate(one.answers, 1):
            left = x + j * (TILE[1] + GAP) + GAP
            _put(band, face, left, top, RIGHT if face.right else WRONG)
    return band


def _put(band: Array, face: Face, x: int, y: int, colour: Colour) -> None:
    height, width = TILE
    band[y : y + height, x : x + width] = colour
    inner = slice(FRAME, -FRAME)
    band[y : y + height, x : x + width][inner, inner] = face.pixels[inner, inner]
    for i, text in enumerate(face.lines):
        TEXT.write(band, text, x, y + height + (i + 1) * STEP, FAINT if i else DARK)
