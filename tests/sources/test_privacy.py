"""Pixels under a privacy mask are gone, all others are as before."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.geometry import inside
from streamvis.sources.privacy import COLOUR, hide

COORDINATE = st.integers(0, 60)
POLYGONS = st.lists(
    st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=3), min_size=1, max_size=4
).filter(lambda polygons: all(np.max(one) > 1 for one in polygons))


def picture(height: int = 40, width: int = 50) -> np.ndarray:
    """Noise without the grey of a mask."""
    return np.random.default_rng(0).integers(0, 100, (height, width, 3), dtype=np.uint8)


@given(POLYGONS)
def test_every_pixel_of_every_polygon_is_filled_and_none_far_from_them_is(triangles):
    before = picture()
    pixels = before.copy()
    hide(pixels, triangles)
    hidden = (pixels == COLOUR).all(axis=2)  # (H, W)
    assert (pixels[~hidden] == before[~hidden]).all()
    contours = [np.array(one, np.float32) for one in triangles]
    for y, x in np.ndindex(*hidden.shape):
        depth = max(cv2.pointPolygonTest(one, (float(x), float(y)), True) for one in contours)
        assert hidden[y, x] or depth < 0
        assert not hidden[y, x] or depth > -8  # the margin, which is wider where an edge is cut off


def test_shares_are_of_width_and_height():
    pixels = picture()
    hide(pixels, [[(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)]])
    assert (pixels[:, 25:] == COLOUR).all()
    assert not (pixels[:, :23] == COLOUR).any()


@given(st.lists(st.tuples(*[st.integers(0, 65536)] * 2), min_size=1, max_size=3))
def test_every_pixel_of_a_polygon_that_is_mostly_elsewhere_is_filled(corners):
    pixels = picture()
    polygon = [(0, 0), *corners, (2, 2)]
    hide(pixels, [polygon])
    y, x = np.mgrid[:40, :50]
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    within = inside(points, np.array(polygon, float))
    assert (pixels.reshape(-1, 3)[within] == COLOUR).all()


@pytest.mark.parametrize("far", [60.0, 65536.0])
def test_a_polygon_may_reach_beyond_the_picture(far):
    pixels = picture()
    hide(pixels, [[(-far, -far), (far, -far), (far, far), (-far, far)]])
    assert (pixels == COLOUR).all()


def test_masks_that_overlap_hide_what_both_hide():
    pixels = picture()
    square = [(5, 5), (30, 5), (30, 30), (5, 30)]
    hide(pixels, [square, square])
    assert (pixels[5:31, 5:31] == COLOUR).all()


def test_without_masks_nothing_changes():
    pixels = picture()
    hide(pixels, ())
    assert (pixels == picture()).all()
