"""The picture to check a plane by: lines where they belong, none in the sky."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.calibration.ground_plane import from_view
from streamvis.geometry import to_ground
from streamvis.viz.ground_plane import HORIZON, MARK, POST, check

SIZE = (1280, 960)  # not enlarged: a pixel is a pixel
H = from_view(4, 20, 1000, SIZE)
GREY = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)


def pixel(x, y):
    ((u, v),), _ = to_ground(np.linalg.inv(H), np.array([[x, y]]))
    return round(u), round(v)


def near(picture, u, v, colour, reach=3):
    region = picture[max(v - reach, 0) : v + reach + 1, max(u - reach, 0) : u + reach + 1]
    return (np.abs(region.astype(int) - colour).max(axis=2) < 40).any()


def test_lines_lie_where_the_metres_are():
    picture = check(GREY, H).astype(int)
    blue = picture[:, :, 2] - picture[:, :, :2].mean(axis=2)  # yellow has none
    for place in [(-2.5, 10), (2.5, 10), (-2.5, 15), (-5, 9)]:  # on lines of 5 m
        u, v = pixel(*place)
        assert blue[v - 2 : v + 3, u - 2 : u + 3].min() < -60
    pale = picture.min(axis=2)
    for place in [(-2.5, 8), (1, 8.5)]:  # on lines of 1 m only
        u, v = pixel(*place)
        assert pale[v - 2 : v + 3, u - 2 : u + 3].max() > 110
    u, v = pixel(1.5, 8.5)  # amid a square
    assert (picture[v - 2 : v + 3, u - 2 : u + 3] == 90).all()


def test_the_sky_is_left_alone_and_the_horizon_drawn():
    picture = check(GREY, H)
    horizon = round(480 - 1000 * np.tan(np.radians(20)))
    assert near(picture, 640, horizon, HORIZON)
    assert (picture[: horizon - 60] == 90).all()


def test_posts_are_as_tall_as_people():
    picture = check(GREY, H)
    u, foot = pixel(5, 10)
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    depth, drop = 10 * c + (4 - 1.7) * s, (4 - 1.7) * c - 10 * s  # of the head, metres
    head = round(480 + 1000 * drop / depth)
    assert foot - head > 120
    assert near(picture, u, foot - 20, POST, reach=8)
    u = round(640 + 5000 / depth)
    knob = picture[head - 6 : head + 7, u - 6 : u + 7].astype(int)
    filled = np.abs(knob - POST).max(axis=2) < 40
    assert filled.sum() > 20  # more than the post's own line
    rows, columns = np.nonzero(filled)
    assert (columns.mean(), rows.mean()) == pytest.approx((6, 6), abs=2)


def test_points_are_marked_where_they_were_clicked():
    metres = np.array([(-2, 8), (2, 8), (3, 14), (-3, 14)], float)
    points, _ = to_ground(np.linalg.inv(H), metres)
    picture = check(GREY, H, points + 4, metres, ["a note"])
    for u, v in points + 4:
        assert near(picture, round(u), round(v), MARK)
    assert picture.shape[0] > SIZE[1]  # the note has its own strip


@pytest.mark.parametrize("width", [64, 320, 1920])
def test_small_pictures_are_enlarged_and_large_ones_are_not(width):
    small = np.zeros((width * 3 // 4, width, 3), np.uint8)
    drawn = check(small, from_view(4, 20, width, (width, width * 3 // 4)))
    assert drawn.shape[1] == max(1280, width)


@settings(max_examples=12)
@given(st.floats(0.5, 200), st.floats(1, 90), st.floats(50, 5000))
def test_no_view_is_too_wild_to_draw(height, tilt, focal):
    size = (160, 120)
    H = from_view(height, tilt, focal, size)
    assert check(np.zeros((120, 160, 3), np.uint8), H).shape == (960, 1280, 3)
