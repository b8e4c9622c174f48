"""Smoothing of keypoints: against filterpy, in any unit and rate, outliers, and exact restarts."""

import msgspec
import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import KalmanFilter
from hypothesis import given
from hypothesis import strategies as st

from streamvis.stages.pose.smoothing import (
    ACCELERATION,
    FORGET_US,
    GATE,
    LEAST_NOISE,
    SPEED,
    KeypointFilter,
    Measured,
)

NONE = np.zeros(0, np.int64)
SIZE = 100.0


def measured(points, ids=(7,), scores=0.9, variance=4.0, size=SIZE) -> Measured:
    points = np.broadcast_to(np.asarray(points, float), (len(ids), 17, 2))
    return Measured(
        np.array(ids, np.int64),
        np.full(len(ids), size),
        points,
        np.broadcast_to(np.asarray(scores, float), points.shape[:2]),
        np.broadcast_to(variance * np.eye(2), (*points.shape[:2], 2, 2)),
    )


def walk(steps: int, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Keypoints (T, 17, 2) of a body that moves evenly, with noise of 2 % of its size."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, 17)[:, None] * [0.3, 1.0] + [1.0, 1.0]
    path = 0.1 * np.arange(steps)[:, None, None] * np.array([1.0, 0.1])
    return SIZE * (at + path + rng.normal(0, noise, (steps, 17, 2)))


def smoothed(points, times_us, *, size=SIZE, **changes) -> tuple[KeypointFilter, np.ndarray]:
    keypoints, out = KeypointFilter(0.3), []
    for at_us, one in zip(times_us.tolist(), points, strict=True):
        keypoints.predict(at_us, NONE)
        keypoints.measure(measured(one, size=size, variance=4.0 * (size / SIZE) ** 2, **changes))
        out.append(keypoints.points[0].copy())
    return keypoints, np.array(out)


def test_each_keypoint_is_filtered_as_filterpy_does():
    points, step = walk(12), 0.2
    keypoints, _ = smoothed(points, np.arange(12) * 200_000)
    noise = 4.0 * np.eye(2) + (LEAST_NOISE * SIZE) ** 2 * np.eye(2)
    for k in (0, 9, 16):
        oracle = KalmanFilter(dim_x=4, dim_z=2)
        oracle.x = np.array([*points[0, k], 0, 0])
        oracle.P = np.diag([*np.diag(noise), *[(SPEED * SIZE) ** 2] * 2])
        oracle.F = np.eye(4) + step * np.eye(4, k=2)
        q = ACCELERATION[k] * SIZE**2
        one = Q_continuous_white_noise(2, step, q)
        oracle.Q = np.kron(one, np.eye(2))
        oracle.H, oracle.R = np.eye(2, 4), noise
        for z in points[1:, k]:
            oracle.predict()
            y = z - oracle.H @ oracle.x
            S = oracle.H @ oracle.P @ oracle.H.T + oracle.R
            assert y @ np.linalg.solve(S, y) < GATE
            oracle.update(z)
        np.testing.assert_allclose(keypoints.x[0, k], oracle.x, rtol=1e-9)
        np.testing.assert_allclose(keypoints.P[0, k], oracle.P, rtol=1e-9, atol=1e-9)


def test_frames_between_two_estimates_change_nothing_after_the_next_one():
    points, times = walk(6), np.arange(6) * 200_000
    one, _ = smoothed(points, times)
    other = KeypointFilter(0.3)
    for at_us, z in zip(times.tolist(), points, strict=True):
        for before in range(160_000, 0, -40_000):
            other.predict(max(at_us - before, other.at_us), NONE)
        other.predict(at_us, NONE)
        other.measure(measured(z))
    np.testing.assert_allclose(one.x, other.x, rtol=1e-9)
    np.testing.assert_allclose(one.P, other.P, rtol=1e-9, atol=1e-9)


@given(st.floats(0.2, 20))
def test_the_size_of_the_person_does_not_matter(scale):
    times = np.arange(6) * 200_000
    _, one = smoothed(walk(6), times)
    _, other = smoothed(scale * walk(6), times, size=scale * SIZE)
    np.testing.assert_allclose(scale * one, other, rtol=1e-9)


def test_it_is_nearer_to_the_truth_than_its_measurements():
    truth, noisy = walk(40, noise=0.0), walk(40)
    _, out = smoothed(noisy, np.arange(40) * 200_000)
    before, after = (np.abs(one - truth)[5:, :7].mean() for one in (noisy, out))
    assert after < 0.95 * before


def test_an_outlier_is_left_out_and_its_score_fades():
    points = walk(8)
    _, undisturbed = smoothed(points[:7], np.arange(7) * 200_000)
    points[6, 9] += 80
    keypoints, out = smoothed(points[:7], np.arange(7) * 200_000)
    assert np.abs(out[6, 9] - undisturbed[6, 9]).max() < 10
    assert keypoints.scores[0, 9] == pytest.approx(0.9 * np.exp(-0.2 / 0.3))
    assert keypoints.scores[0, 8] == pytest.approx(0.9)


def test_the_second_outlier_in_succession_is_where_the_keypoint_is():
    points = walk(8)
    points[6:, 9] += 80
    _, out = smoothed(points, np.arange(8) * 200_000)
    assert np.abs(out[6, 9] - points[6, 9]).max() > 60
    np.testing.assert_allclose(out[7, 9], points[7, 9], atol=1)


def test_a_body_that_jumps_is_where_it_is_at_once():
    points = walk(8)
    points[6:] += [90.0, 60.0]
    _, out = smoothed(points, np.arange(8) * 200_000)
    np.testing.assert_allclose(out[6], points[6])


def test_a_hidden_keypoint_is_predicted_for_a_second_and_then_as_the_network_has_it():
    points, scores = walk(12), np.full((12, 17), 0.9)
    scores[5:, 3] = 0.1
    keypoints = KeypointFilter(0.3)
    for k in range(12):
        keypoints.predict(k * 200_000, NONE)
        wrong = points[k] + np.where(np.arange(17) == 3, 70, 0)[:, None] * (k >= 5)
        keypoints.measure(measured(wrong, scores=scores[k]))
        off = np.abs(keypoints.points[0, 3] - points[k, 3]).max()
        within = k <= 4 + FORGET_US / 200_000
        assert (off > 60) == (not within)
        assert keypoints.known[0, 3] == within
    assert keypoints.scores[0, 3] == pytest.approx(0.1)


def test_people_are_forgotten_after_a_second_unless_nothing_moves():
    keypoints, _ = smoothed(walk(3), np.arange(3) * 200_000)
    still = KeypointFilter(0.3)
    still.restore(keypoints.state())
    keypoints.predict(400_000 + FORGET_US, NONE)
    assert keypoints.ids.tolist() == [7]
    keypoints.predict(400_001 + FORGET_US, NONE)
    assert len(keypoints) == 0
    before = still.points.copy(), still.scores.copy(), still.covariances.copy()
    for k in range(3, 3000):
        still.predict(k * 200_000, np.array([7]))
    np.testing.assert_array_equal(before[0], still.points)
    np.testing.assert_array_equal(before[1], still.scores)
    np.testing.assert_array_equal(before[2], still.covariances)


@given(st.integers(0, 9))
def test_people_do_not_matter_to_each_other_and_a_restart_does_not_matter(cut):
    points = {7: walk(10), 9: walk(10, 1) + 300, 12: walk(10, 2) + 500}
    alone = {id_: smoothed(one, np.arange(10) * 200_000)[0] for id_, one in points.items()}
    together = KeypointFilter(0.3)
    for k in range(10):
        if k == cut:
            state, together = together.state(), KeypointFilter(0.3)
            together.restore(state)
            assert together.state() == state
        together.predict(k * 200_000, NONE)
        for some in ((9,), (7, 12)):
            together.measure(measured([points[id_][k] for id_ in some], some))
    assert together.ids.tolist() == [7, 9, 12]
    for row, id_ in enumerate(together.ids.tolist()):
        np.testing.assert_allclose(together.x[row], alone[id_].x[0], rtol=1e-12)


@given(st.floats(-0.2, 0.2), st.floats(0.8, 1.2), st.floats(-99, 99))
def test_a_moving_camera_does_not_matter_where_its_motion_is_known(turn, zoom, shift):
    points = walk(8)
    A = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    warp, jump = np.column_stack([A, [shift, -shift]]), 5
    moved, size = KeypointFilter(0.3), SIZE
    for k in range(8):
        moved.predict(k * 200_000, NONE)
        z, variance = points[k], 4.0
        if k == jump:
            moved.warp(warp)
        if k >= jump:
            z, variance, size = z @ A.T + [shift, -shift], 4.0 * zoom**2, SIZE * zoom
        moved.measure(measured(z, size=size, variance=variance))
    still, _ = smoothed(points, np.arange(8) * 200_000)
    expected = still.points[0] @ A.T + [shift, -shift]
    np.testing.assert_allclose(moved.points[0], expected, atol=0.3 * SIZE * abs(zoom - 1) + 1e-6)


def test_a_merged_person_goes_on_under_the_other_id():
    keypoints, _ = smoothed(walk(3), np.arange(3) * 200_000)
    keypoints.measure(measured(walk(3)[2] + 200, (9,)))
    before = keypoints.x[0].copy()
    keypoints.rename(7, 12)
    assert keypoints.ids.tolist() == [9, 12]
    np.testing.assert_array_equal(keypoints.x[1], before)
    keypoints.rename(12, 9)
    assert keypoints.ids.tolist() == [9]


@pytest.mark.parametrize("state", [b"", b"\x95\x00\x91\x07\x91\x00\xc4\x00\xc4\x00", b"\xc0"])
def test_what_is_no_state_is_refused(state):
    with pytest.raises((ValueError, msgspec.DecodeError)):
        KeypointFilter(0.3).restore(state)
