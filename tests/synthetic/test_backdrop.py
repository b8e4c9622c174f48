"""The empty street: the same for a seed, and everything where the camera sees it."""

import math

import numpy as np
import pytest

from streamvis.synthetic.backdrop import SKY, backdrop
from streamvis.synthetic.scene import WALL_Y, Camera

CAMERA = Camera(320, 240)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return backdrop(CAMERA, seed=3)


def colours_at(picture: np.ndarray, places) -> np.ndarray:
    """Return the mean colours (N, 3) of 3 × 3 px around world places (N, 3)."""
    at, _ = CAMERA.project(np.array(places, np.float64))
    blocks = [picture[int(v) - 1 : int(v) + 2, int(u) - 1 : int(u) + 2] for u, v in at]
    return np.array([block.reshape(-1, 3).mean(0) for block in blocks])


def test_the_same_seed_gives_the_same_place_and_another_seed_another(picture):
    assert (picture.shape, picture.dtype) == ((240, 320, 3), np.uint8)
    np.testing.assert_array_equal(backdrop(CAMERA, seed=3), picture)
    assert (backdrop(CAMERA, seed=4) != picture).mean() > 0.5


def test_lawn_is_green_and_the_lane_is_darker_than_the_paving(picture):
    xs = np.linspace(-3, 3, 7)
    lawn, lane, paving = (
        colours_at(picture, [(x, y, 0) for x in xs]).mean(0) for y in (22.0, 14.2, 9.0)
    )
    assert lawn[1] > lawn[0] + 10 > lawn[2]
    assert lane.mean() < paving.mean() - 25
    assert np.ptp(lane) < 15  # grey


def test_a_door_is_darker_than_the_wall_above_it(picture):
    door, wall = colours_at(picture, [(0, WALL_Y, 1.2), (0, WALL_Y, 2.8)])
    assert door.mean() < wall.mean() - 50


def test_a_camera_that_looks_down_sees_ground_only_and_one_that_looks_up_sky():
    down = backdrop(Camera(64, 48, pitch=math.radians(60)), seed=0)
    assert down.shape == (48, 64, 3)
    up = backdrop(Camera(64, 48, pitch=math.radians(-20)), seed=0)
    np.testing.assert_array_equal(up[0], np.broadcast_to(SKY.astype(np.uint8), (64, 3)))
