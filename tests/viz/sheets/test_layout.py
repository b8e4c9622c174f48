"""What all sheets share: crops lie inside where they can, and notes are cut to fit."""

import numpy as np
import pytest

from streamvis.viz.sheets.layout import BACKGROUND, MARGIN, blank, heading, square
from streamvis.viz.style import DARK, Style

PIXELS = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)


@pytest.mark.parametrize(
    ("centre", "corner"), [((30, 20), (20, 10)), ((0, 0), (0, 0)), ((60, 40), (40, 20))]
)
def test_a_crop_is_moved_into_the_picture(centre, corner):
    x, y = corner
    crop, origin = square(PIXELS, np.array(centre), side=20, size=20)
    assert origin.tolist() == [x, y, x, y]
    assert (crop == PIXELS[y : y + 20, x : x + 20]).all()


def test_a_crop_larger_than_the_picture_has_a_dark_border():
    crop, origin = square(PIXELS, np.array([30, 20]), side=80, size=80)
    assert origin.tolist() == [-10, -20, -10, -20]
    assert (crop[20:60, 10:70] == PIXELS).all()
    assert (crop[:20] == DARK).all()


def test_a_heading_keeps_its_margins():
    band = heading("title", "note " * 200, width=400, gap=10, text=Style.for_size(480, 640))
    assert band.shape[1] == 400
    assert (band[:, :MARGIN] == BACKGROUND).all()
    assert (band[:, -MARGIN:] == BACKGROUND).all()
    assert (blank(3, 4) == BACKGROUND).all()
