"""Walks of a simulated crowd, and the camera that sees them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis import geometry
from streamvis.synthetic.scene import STEP_S, Camera, dress, simulate


def test_people_pause():
    walks = simulate(seed=5, people=10, seconds=30, camera=Camera(640, 480))
    speeds = np.concatenate([[state[4] for state in walk.states] for walk in walks])
    assert 0.03 < (speeds < 0.1).mean() < 0.5
    assert 0.8 < np.median(speeds) < 1.8


def test_a_longer_simulation_begins_with_the_same_walks():
    camera = Camera(640, 480)
    short, long = (simulate(seed=5, people=6, seconds=s, camera=camera) for s in (5, 12))
    for one, other in zip(short, long, strict=False):
        assert (one.person.id, one.start) == (other.person.id, other.start)
        assert one.states == other.states[: len(one.states)]
    assert len(long) >= len(short)


def test_as_many_people_as_asked_for_are_there_at_any_time():
    walks = simulate(seed=5, people=7, seconds=10, camera=Camera(640, 480))
    for t in np.arange(0, 10, 0.37):
        assert sum(walk.at(t) is not None for walk in walks) in (6, 7)  # one may just be replaced
    assert len({walk.person.id for walk in walks}) == len(walks)


def test_people_keep_apart_from_each_other():
    walks = simulate(seed=1, people=12, seconds=10, camera=Camera(640, 480))
    nearest = []
    for t in np.arange(0, 10, 0.5):
        places = np.array([state[:2] for walk in walks if (state := walk.at(t)) is not None])
        apart = np.linalg.norm(places[:, None] - places[None], axis=2)
        nearest.append(apart[~np.eye(len(places), dtype=bool)].min())
    assert np.median(nearest) > 0.5
    assert min(nearest) > 0.2


def test_a_walk_between_two_steps_is_on_the_line_between_them():
    (walk, *_) = simulate(seed=5, people=1, seconds=3, camera=Camera(640, 480))
    for step in (0, 7, len(walk.states) - 2):
        for share in (0.0, 0.25, 0.9):
            found = walk.at((walk.start + step + share) * STEP_S)
            expected = np.array(walk.states[step]) * (1 - share) + share * np.array(
                walk.states[step + 1]
            )
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert walk.at((walk.start - 0.5) * STEP_S) is None
    assert walk.at((walk.start + len(walk.states)) * STEP_S) is None


def test_a_gait_cycle_takes_a_stride_in_proportion_to_the_height():
    walks = simulate(seed=5, people=5, seconds=10, camera=Camera(640, 480))
    for walk in walks:
        x, y, _, phase, _ = np.array(walk.states).T
        walked = np.hypot(np.diff(x), np.diff(y)).sum()
        cycles = (phase[-1] - phase[0]) / (2 * np.pi)
        assert walked == pytest.approx(0.85 * walk.person.height * cycles, rel=1e-9)


cameras = st.builds(
    Camera,
    st.integers(64, 2000),
    st.integers(64, 2000),
    st.floats(1, 12),
    st.floats(math.radians(5), math.radians(80)),
)


@given(cameras, st.floats(-9, 9), st.floats(3, 30))
def test_the_homography_takes_projected_ground_back(camera, x, y):
    pixels, depth = camera.project(np.array([[x, y, 0.0]]))
    assert depth[0] == pytest.approx(
        y * math.cos(camera.pitch) + camera.height * math.sin(camera.pitch)
    )
    back, _ = geometry.to_ground(np.reshape(camera.homography, (3, 3)), pixels)
    np.testing.assert_allclose(back, [[x, y]], rtol=1e-6, atol=1e-6)


@given(cameras, st.floats(3, 30))
def test_the_edges_of_the_picture_are_where_the_camera_says(camera, y):
    half = camera.half_width(y)
    pixels, _ = camera.project(np.array([[-half, y, 0], [half, y, 0], [0, camera.nearest, 0]]))
    np.testing.assert_allclose(pixels[:2, 0], [0, camera.width], atol=1e-6 * camera.width)
    assert pixels[2, 1] == pytest.approx(camera.height_px)


@given(st.integers(0, 10_000))
def test_people_are_dressed_within_human_bounds_and_by_the_seed(seed):
    one, same = (dress(np.random.default_rng(seed), 7) for _ in range(2))
    assert one.id == 7
    assert 1.45 <= one.height <= 1.98
    assert 0.8 <= one.speed <= 1.8
    for name in ("skin", "hair", "shirt", "trim", "trousers", "shoes"):
        colour = getattr(one, name)
        assert ((colour >= 8) & (colour <= 250)).all()
        np.testing.assert_array_equal(colour, getattr(same, name))
    assert (one.pattern, one.legs, one.bag) == (same.pattern, same.legs, same.bag)
