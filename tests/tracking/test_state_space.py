"""Boxes into states and back, noise carried through the homography, and the horizon."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.geometry import foot, to_ground
from streamvis.tracking.state_space import (
    MEASURED,
    SIGMA_ANCHOR,
    SIGMA_COVERED,
    SIGMA_SIZE,
    UNEVEN_M,
    GroundSpace,
    ImageSpace,
)

WIDTH, HEIGHT = 640, 480
HORIZON_Y = 100.0
# a camera 4 m high, focal length 400 px: a foot at y stands 1600 / (y − 100) m away
HOMOGRAPHY = np.array([[4.0, 0, -4.0 * 320], [0, 0, 1600], [0, 1, -HORIZON_Y]])
GROUND = GroundSpace(HOMOGRAPHY, WIDTH, HEIGHT)
SPACES = [ImageSpace(), GROUND]

box = st.tuples(
    st.floats(0, 600), st.floats(HORIZON_Y, 300), st.floats(10, 60), st.floats(30, 180)
).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
boxes = st.lists(box, min_size=1, max_size=5).map(lambda rows: np.array(rows))


def states(space, some_boxes):
    at = space.measure(some_boxes, np.zeros(len(some_boxes)))
    x = np.zeros((len(some_boxes), 6))
    x[:, MEASURED] = at.z
    return x


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@given(boxes)
def test_a_measured_box_comes_back(space, some_boxes):
    np.testing.assert_allclose(space.boxes(states(space, some_boxes)), some_boxes, atol=1e-6)


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@given(boxes, st.floats(0, 1))
def test_noise_is_positive_definite_and_grows_with_what_is_hidden(space, some_boxes, hidden):
    open_, partly = (
        space.measure(some_boxes, np.full(len(some_boxes), share)).R for share in (0, hidden)
    )
    assert np.linalg.eigvalsh(open_).min() > 0
    assert np.linalg.eigvalsh(partly - open_).min() > -1e-9 * np.abs(partly).max()


def test_noise_in_the_image_is_in_proportion_to_the_height():
    one = np.array([[0, 0, 20, 50.0]])
    small, large = (ImageSpace().measure(one * k, np.zeros(1)).R[0] for k in (1, 3))
    np.testing.assert_allclose(large[:2, :2], 9 * small[:2, :2])
    np.testing.assert_allclose(large[2:, 2:], small[2:, 2:])


def test_a_fixed_camera_sees_the_sides_of_people_better_than_their_heads():
    one = np.array([[0, 0, 40, 100.0]])
    fixed, moving = (ImageSpace(fixed=it).measure(one, np.zeros(1)).R[0] for it in (True, False))
    np.testing.assert_allclose(np.sqrt(np.diagonal(fixed)), [3.5, 5, 0.12, 0.12])
    np.testing.assert_allclose(np.sqrt(np.diagonal(moving)), [3.5, 3.5, 0.12, 0.12])


@pytest.mark.parametrize("hidden", [0.0, 0.1])
def test_noise_on_the_ground_is_that_of_boxes_whose_centres_and_lower_edges_are_wrong(hidden):
    """The lower edge is that of the feet and of the height, so that both are wrong together."""
    one = np.array([[300, 200, 340, 320.0]])
    rng = np.random.default_rng(0)
    across = rng.normal(0, SIGMA_ANCHOR * 120, (20_000, 1))
    lower = rng.normal(0, np.hypot(SIGMA_ANCHOR, SIGMA_COVERED * hidden) * 120, (20_000, 1))
    samples = one + across * [1, 0, 1, 0] + lower * [0, 0, 0, 1]
    z = GROUND.measure(samples, np.zeros(len(samples))).z
    R = GROUND.measure(one, np.array([hidden])).R[0]
    of_size = [(SIGMA_SIZE + SIGMA_COVERED * hidden) ** 2, SIGMA_SIZE**2 - SIGMA_ANCHOR**2]
    beside = np.diag([UNEVEN_M**2, UNEVEN_M**2, *of_size])
    deviations = np.sqrt(np.diagonal(R))
    np.testing.assert_allclose(
        np.cov(z.T) / np.outer(deviations, deviations),
        (R - beside) / np.outer(deviations, deviations),
        atol=0.03,
    )


def test_area_of_a_pixel_on_the_ground():
    one = np.array([[300, 200, 340, 320.0]])
    corners, _ = to_ground(HOMOGRAPHY, foot(one) + 0.01 * np.array([[0, 0], [1, 0], [0, 1]]))
    (a, b), (c, d) = corners[1] - corners[0], corners[2] - corners[0]
    area = abs(a * d - b * c) / 1e-4
    np.testing.assert_allclose(np.exp(GROUND.measure(one, np.zeros(1)).log_area), area, rtol=1e-3)


@pytest.mark.parametrize("y", [-50.0, 99.0, 100.0, 100.0001, 104.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_feet_at_or_above_the_horizon_are_not_usable(y, sign):
    space = GroundSpace(sign * HOMOGRAPHY, WIDTH, HEIGHT)
    at = space.measure(np.array([[300, y - 80, 330, y], [300, 200, 330, 300]]), np.zeros(2))
    assert at.usable.tolist() == [False, True]
    assert np.isfinite(at.z).all()
    assert np.isfinite(at.R).all()


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_foot_velocity_is_how_the_foot_moves(space):
    x = states(space, np.array([[300, 200, 340, 320.0]]))
    x[:, 2:4] = [0.7, -0.4]
    dt = 1e-5
    later = x.copy()
    later[:, :2] += dt * x[:, 2:4]
    moved = (foot(space.boxes(later)) - foot(space.boxes(x))) / dt
    np.testing.assert_allclose(space.foot_velocity(x), moved, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
@given(boxes, st.floats(0.25, 4), st.floats(0.25, 4))
def test_a_change_of_resolution_scales_the_boxes(space, some_boxes, sx, sy):
    x = states(space, some_boxes)
    P = np.broadcast_to(np.eye(6), (len(x), 6, 6))
    x, P = space.scaled(x, P, sx, sy)
    scaled = space
    if space is GROUND:
        back = np.diag([1 / sx, 1 / sy, 1])
        scaled = GroundSpace(HOMOGRAPHY @ back, sx * WIDTH, sy * HEIGHT)
    expected = some_boxes * [sx, sy, sx, sy]
    np.testing.assert_allclose(scaled.boxes(x), expected, rtol=1e-6, atol=1e-6)
    again = scaled.measure(expected, np.zeros(len(x)))
    np.testing.assert_allclose(again.z, x[:, MEASURED], rtol=1e-6, atol=1e-6)
    assert (np.linalg.eigvalsh(P) > 0).all()


def test_past_the_horizon_there_is_no_box():
    x = np.zeros((2, 6))
    x[:, 1] = [10.0, -10.0]  # m before and behind the camera
    assert np.isfinite(GROUND.boxes(x)).all(axis=1).tolist() == [True, False]
