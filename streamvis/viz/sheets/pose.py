"""A sheet of people with estimated keypoints beside the labelled ones.

Pictures and the sheet are RGB arrays (H, W, 3) uint8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.sheets.layout import MARGIN, TITLE, blank, heading
from streamvis.viz.style import DARK, PALETTE, Colour, Style

TILE = (192, 128)  # height, width in px
GAP = 8  # px
COLUMNS = 8
SURE = 0.3  # score from which a point is drawn full
TEXT = Style.for_size(440, 587)
LEFT: Colour = PALETTE[4]  # green
RIGHT: Colour = PALETTE[5]  # vermilion
MIDDLE: Colour = PALETTE[1]
TRUTH: Colour = (255, 255, 255)
LEFT_LIMBS = ((5, 7), (7, 9), (11, 13), (13, 15))
RIGHT_LIMBS = ((6, 8), (8, 10), (12, 14), (14, 16))
MIDDLE_LIMBS = ((5, 6), (11, 12), (5, 11), (6, 12), (0, 5), (0, 6))
LIMBS = [
    *((a, b, LEFT) for a, b in LEFT_LIMBS),
    *((a, b, RIGHT) for a, b in RIGHT_LIMBS),
    *((a, b, MIDDLE) for a, b in MIDDLE_LIMBS),
]


@dataclass(frozen=True)
class PoseTile:
    """One person, (*TILE, 3), with points in px of the tile."""

    pixels: Array
    points: Array  # (17, 2) estimated
    scores: Array  # (17,)
    truth: Array  # (17, 2)
    labelled: Array  # (17,) bool
    caption: str


def tile_sheet(title: str, sections: Mapping[str, Sequence[PoseTile]]) -> Array:
    """Return the sections below each other: estimated limbs, a white ring about labelled points."""
    width = 2 * MARGIN + COLUMNS * (TILE[1] + GAP)
    head = blank(MARGIN + TITLE.text + 2 * GAP, width)
    TITLE.write(head, title, MARGIN, MARGIN + TITLE.text, DARK)
    bands = [head]
    for name, tiles in sections.items():
        note = "green: left; vermilion: right; thin: score below 0.3; white rings: labelled"
        bands.append(heading(name, note, width, GAP, TEXT))
        for start in range(0, len(tiles), COLUMNS):
            bands.append(_row(tiles[start : start + COLUMNS], width))
    return np.concatenate([*bands, blank(MARGIN, width)])


def _row(tiles: Sequence[PoseTile], width: int) -> Array:
    band = blank(TILE[0] + TEXT.text + 3 * GAP, width)
    for i, tile in enumerate(tiles):
        x = MARGIN + i * (TILE[1] + GAP)
        band[: TILE[0], x : x + TILE[1]] = drawn(tile)
        TEXT.write(band, tile.caption, x, TILE[0] + TEXT.text + GAP, DARK)
    return band


def drawn(tile: PoseTile) -> Array:
    """Return the picture with its estimated and its labelled points."""
    canvas = np.ascontiguousarray(tile.pixels).copy()
    places = [tuple(p) for p in np.clip(tile.points, -999, 9999).round().astype(int).tolist()]
    for a, b, colour in LIMBS:
        sure = min(tile.scores[a], tile.scores[b]) >= SURE
        cv2.line(canvas, places[a], places[b], colour, 2 if sure else 1, cv2.LINE_AA)
    for k in np.flatnonzero(tile.labelled):
        x, y = tile.truth[k].round().astype(int).tolist()
        cv2.circle(canvas, (x, y), 3, TRUTH, 1, cv2.LINE_AA)
    return canvas
