"""The motion of a camera that is known, found in the flow of points whose depths are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.models.ego_motion import (
    LASTING,
    EgoMotion,
    across,
    continued,
    estimate_ego,
    parallax,
    rotated,
)

FOCAL = 540.0  # px
AT = np.stack(np.meshgrid(np.arange(-234, 235, 12.0), np.arange(-174, 175, 12.0)), -1)  # (h, w, 2)


def screw(turn, velocity, steps):
    """Rotation and translation of points by a twist, composed of many small ones."""
    x, y, z = turn
    once = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0], [0, 0, 0]])
    once = np.column_stack([once, [*velocity, 0]])
    whole = np.linalg.matrix_power(np.eye(4) + once * steps / 2**20, 2**20)
    return whole[:3, :3], whole[:3, 3]


def points(seed=0):
    """(h, w, 3) m: a ground below the middle, and something 5 to 60 m away above it."""
    depth = np.random.default_rng(seed).uniform(5, 60, AT.shape[:2])
    depth = np.where(AT[..., 1] > 15, FOCAL * 1.5 / np.maximum(AT[..., 1], 1), depth)
    return np.concatenate([AT / FOCAL, np.ones((*depth.shape, 1))], -1) * depth[..., None]


def seen(there):
    return FOCAL * there[..., :2] / there[..., 2:]


def flow(turn, focus, speed, noise=0.0):
    """Backward flow px of a step, at AT."""
    velocity = speed * np.array([focus[0] / FOCAL, focus[1] / FOCAL, 1])
    rotation, way = screw(turn, velocity, 1.0)
    errors = np.random.default_rng(1).normal(scale=noise, size=AT.shape)
    return seen(points() @ rotation.T + way) - AT + errors


EVERYWHERE = np.ones(AT.shape[:2])
DRIVES = [
    ((0, 0, 0), (20, -10), 1.5),
    ((0, 0.05, 0), (-15, 8), 1.5),
    ((0.01, -0.12, 0.005), (30, 0), 1.0),
    ((-0.02, 0.02, -0.01), (0, 0), 2.5),
]


@pytest.mark.parametrize(("turn", "focus", "speed"), DRIVES)
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_rotation_and_focus_are_found(turn, focus, speed, noise):
    ego = estimate_ego(flow(turn, focus, speed, noise), AT, EVERYWHERE, FOCAL)
    np.testing.assert_allclose(ego.rotation, turn, rtol=0, atol=1e-3 + 2e-3 * noise)
    # the way curves within the step, so that its focus is not that of its beginning
    _, way = screw(turn, speed * np.array([focus[0] / FOCAL, focus[1] / FOCAL, 1]), 1.0)
    np.testing.assert_allclose(ego.focus, FOCAL * way[:2] / way[2], rtol=0, atol=3 + 3 * noise)


def test_depth_follows_from_the_parallax():
    turn, speed = (0.01, -0.05, 0.0), 1.5
    moved = flow(turn, (0, 0), speed)
    ego = estimate_ego(moved, AT, EVERYWHERE, FOCAL)
    shift, r = parallax(moved, AT, ego)
    assert np.abs(across(shift, r)).max() < 0.5
    far = np.hypot(*np.moveaxis(r, -1, 0)) > 60
    q = -(shift * r).sum(-1)[far] / (r * r).sum(-1)[far]
    np.testing.assert_allclose(q / (1 - q), speed / points()[..., 2][far], rtol=0.15, atol=2e-3)


def test_what_moves_by_itself_misleads_nobody():
    turn, focus, speed = DRIVES[1]
    moved = flow(turn, focus, speed, 0.7)
    moved[8:22, 4:18] = (-9, 5)  # a sixth of the picture
    ego = estimate_ego(moved, AT, EVERYWHERE, FOCAL)
    np.testing.assert_allclose(ego.rotation, turn, rtol=0, atol=4e-3)
    weight = EVERYWHERE.copy()
    weight[8:22, 4:18] = 0
    blind = estimate_ego(moved, AT, weight, FOCAL)
    np.testing.assert_allclose(blind.rotation, turn, rtol=0, atol=2.5e-3)


def test_a_camera_that_stands_does_not_move():
    ego = estimate_ego(np.zeros_like(AT), AT, EVERYWHERE, FOCAL)
    assert np.abs([*ego.rotation, *ego.focus]).max() < 1e-9
    path = continued(ego, 3)
    np.testing.assert_allclose(rotated(AT, path.rotation, FOCAL), AT, atol=1e-9)
    assert path.approach == pytest.approx(3)


small = st.floats(-0.1, 0.1)


@settings(max_examples=30)
@given(st.floats(-0.15, 0.15), st.tuples(st.floats(-60, 60), st.floats(-60, 60)), st.floats(0, 3))
def test_a_path_is_the_screw_of_a_step_repeated(yaw, focus, ahead):
    """What one step did to points is undone, as often as there are steps."""
    ego = EgoMotion(np.array([0, yaw, 0]), np.array(focus), FOCAL)
    velocity = np.linalg.solve(_mean_rotation(ego.rotation), [*np.array(focus) / FOCAL, 1.0])
    rotation, way = screw(ego.rotation, velocity, -ahead)
    path = continued(ego, ahead)
    np.testing.assert_allclose(path.rotation, rotation, atol=1e-5)
    before = rotation.T @ way  # of the translation, in the present directions
    assert path.approach == pytest.approx(-before[2], abs=1e-5)
    np.testing.assert_allclose(path.focus * -path.approach, FOCAL * before[:2], atol=5e-3)


def _mean_rotation(turn):
    """The mean of rotations on the way from none to that of a vector."""
    return np.mean([screw(turn, (0, 0, 0), s)[0] for s in (np.arange(100) + 0.5) / 100], 0)


@given(st.tuples(small, small, small))
def test_nodding_and_most_of_rolling_stop(turn):
    ego = EgoMotion(np.array(turn), np.zeros(2), FOCAL)
    rotation, _ = screw(-LASTING * turn, (0, 0, 0), 3.0)
    np.testing.assert_allclose(continued(ego, 3).rotation, rotation, atol=1e-5)
    assert LASTING.tolist()[:2] == [0, 1]


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0, 1e-3, 1.0, 1e3, 1e30]), st.sampled_from([0, 1]))
def test_any_flow_has_a_finite_motion(seed, size, weight):
    moved = (np.random.default_rng(seed).normal(size=AT.shape) * size).astype(np.float32)
    ego = estimate_ego(moved, AT.astype(np.float32), weight * EVERYWHERE, FOCAL)
    path = continued(ego, 20)
    assert np.isfinite([*ego.rotation, *ego.focus, *path.focus, path.approach]).all()
    again = estimate_ego(moved, AT.astype(np.float32), weight * EVERYWHERE, FOCAL)
    np.testing.assert_array_equal(again.rotation, ego.rotation)
