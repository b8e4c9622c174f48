"""Lineups: who is asked for and who is right or wrong must show, whatever is to be shown."""

import numpy as np
import pytest

from streamvis.viz.sheets.reid import RIGHT, TILE, WRONG, Face, Lineup, Section, lineup_sheet
from streamvis.viz.style import DARK


def face(shade, right=True):
    return Face(np.full((*TILE, 3), shade, np.uint8), (f"person {shade}", "0.87 +3 s"), right)


def lineup(*right):
    return Lineup("person 1, frame 5", face(50), [face(90, one) for one in right])


def share_of(sheet, colour):
    """How many frames of a picture are in this colour."""
    around = 2 * 4 * (TILE[0] + TILE[1] - 8)  # px
    return (sheet == colour).all(2).sum() / around


@pytest.mark.parametrize("right", [(), (True,), (False, True), (False, False, True, False, False)])
def test_every_answer_is_framed_by_who_it_is(right):
    bare = lineup_sheet("ours", [Section("street", "rank-1 0.5", [])])
    sheet = lineup_sheet("ours", [Section("street", "rank-1 0.5", [lineup(*right)] * 3)])
    for colour, count in ((RIGHT, sum(right)), (WRONG, len(right) - sum(right)), (DARK, 1)):
        drawn = share_of(sheet, colour) - share_of(bare, colour)
        assert drawn == pytest.approx(3 * count, abs=1.2 if colour == DARK else 0.1)
    faces = (sheet == 90).all(2).sum() / ((TILE[0] - 8) * (TILE[1] - 8))
    assert faces == pytest.approx(3 * len(right), abs=0.05)


def test_a_sheet_of_nothing_is_a_sheet():
    assert lineup_sheet("ours", []).shape[2] == 3
    assert lineup_sheet("ours", [Section("street", "nobody", [])]).dtype == np.uint8
