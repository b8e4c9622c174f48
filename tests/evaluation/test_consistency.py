"""Normalised errors of linear-Gaussian targets: χ², or of Lyapunov's equation with a wrong R."""

import msgspec
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are, solve_discrete_lyapunov
from scipy.stats import chi2

from streamvis.evaluation.consistency import (
    blank,
    calibration,
    concatenated,
    consistency,
    correlation,
    normalised,
    normalised_errors,
)
from streamvis.tracking import kalman
from streamvis.tracking.state_space import H_STATE

DT = 0.1
R = np.diag([4.0, 4.0, 0.01, 0.02])


def model():
    F, Q = np.eye(6), np.zeros((6, 6))
    F[:4, :4], Q[:4, :4] = kalman.constant_velocity(DT)
    Q[:4, :4] *= 9.0
    Q[[4, 5], [4, 5]] = 0.01
    return F, Q


def draw(rng, covariance, n):
    return rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=n)


def follow(assumed, targets=200, frames=40, seed=0):
    """Filter targets that move by the model, with measurements of noise R taken for `assumed`."""
    rng = np.random.default_rng(seed)
    F, Q = model()
    n = np.arange(targets)
    P = np.tile(np.diag([9.0, 9, 25, 25, 0.04, 0.04]), (targets, 1, 1))
    x = np.zeros((targets, 6))
    truth = x + draw(rng, P[0], targets)
    parts = []
    for frame in range(frames):
        truth = truth @ F.T + draw(rng, Q, targets)
        x, P = kalman.predict(x, P, F, np.broadcast_to(Q, P.shape))
        noise = draw(rng, R, targets)
        z, taken = truth @ H_STATE.T + noise, np.broadcast_to(assumed, (targets, 4, 4))
        part = blank(targets)
        part.track[:], part.frame[:], part.frame_s[:] = n, frame, DT
        part.unseen_s[:], part.existence[:], part.right[:] = 0, 0.9, 1
        part.innovation[:] = z - x @ H_STATE.T
        part.innovation_covariance[:] = H_STATE @ P @ H_STATE.T + assumed
        part.detection_error[:], part.noise[:] = noise, assumed
        of = kalman.innovations(x, P, z, taken, H_STATE, n, n)
        x, P = kalman.update(x, P, H_STATE, of)
        part.error[:], part.covariance[:] = x - truth, P
        parts.append(part)
    return concatenated(parts, apart=False)


def test_errors_of_a_consistent_filter_are_within_the_bounds_of_chi2():
    beliefs = follow(R)
    found = consistency(beliefs)
    assert found.nis.n == 200 * 40
    assert found.nis.low < found.nis.mean < found.nis.high
    assert abs(found.nis.median - 1) < 0.03
    assert abs(found.nis.beyond - 0.05) < 0.01
    last = consistency(beliefs.where(beliefs.frame == 39)).groups["all"]  # independent targets
    for one in (last.nees, last.velocity):
        assert one.n == one.tracks == 200
        assert one.low < one.mean < one.high
    everything = found.groups["all"].nees  # correlated in time: the error over tracks knows it
    assert abs(everything.mean - 1) < 3 * everything.error
    assert (everything.high - 1) / 1.96 < everything.error
    for one in found.components.values():
        assert one.detections == pytest.approx(1, abs=0.05)
        assert abs(one.innovation_correlation) < 0.05
        assert np.abs(one.correlation).max() < 0.05


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_wrong_noise_gives_the_factor_of_lyapunovs_equation(factor):
    F, Q = model()
    H, assumed = H_STATE, R * factor
    prior = solve_discrete_are(F.T, H.T, Q, assumed)  # what the filter believes
    S = H @ prior @ H.T + assumed
    K = prior @ H.T @ np.linalg.inv(S)
    A = (np.eye(6) - K @ H) @ F
    keep = np.eye(6) - K @ H
    actual = solve_discrete_lyapunov(A, keep @ Q @ keep.T + K @ R @ K.T)
    nis = np.trace(np.linalg.solve(S, H @ (F @ actual @ F.T + Q) @ H.T + R)) / 4
    place = np.ix_([0, 1, 4, 5], [0, 1, 4, 5])
    nees = np.trace(np.linalg.solve((prior - K @ S @ K.T)[place], actual[place])) / 4

    beliefs = follow(assumed, targets=400, frames=60)
    found = consistency(beliefs.where(beliefs.frame >= 40))
    assert found.nis.mean == pytest.approx(nis, rel=0.03)
    assert found.groups["all"].nees.mean == pytest.approx(nees, rel=0.05)
    assert abs(found.nis.mean - 1) > 0.3
    assert found.components["log width"].detections == pytest.approx(1 / factor, rel=0.05)


def test_errors_that_persist_are_correlated_by_their_time_constant():
    rng = np.random.default_rng(1)
    targets, frames, keep = 50, 200, np.exp(-DT / 0.5)
    value = rng.normal(size=targets)
    parts = []
    for frame in range(frames):
        value = keep * value + np.sqrt(1 - keep**2) * rng.normal(size=targets)
        part = blank(targets)
        part.track[:], part.frame[:], part.frame_s[:] = np.arange(targets), frame, DT
        part.unseen_s[:] = 0
        part.detection_error[:] = value[:, None]
        part.noise[:] = np.eye(4)
        parts.append(part)
    beliefs = concatenated(parts, apart=False)
    one = consistency(beliefs).components["along"]
    lag_s = DT * np.round(np.array(one.lag_s) / DT)  # whole frames
    np.testing.assert_allclose(one.correlation, np.exp(-lag_s / 0.5), atol=0.06)
    shuffled = beliefs.where(rng.permutation(len(beliefs)))
    assert correlation(shuffled.detection_error[:, 1], shuffled, 0.5) == pytest.approx(
        one.correlation[2]
    )
    assert correlation(beliefs.detection_error[:, 1], beliefs, 0.01) is None  # less than a frame


def test_bounds_and_quantiles_are_those_of_chi2():
    values = np.array([1.0, 2.0, 12.0, np.nan])
    found = normalised_errors(values, 4, np.array([1, 1, 2, 3]))
    assert (found.n, found.tracks) == (3, 2)
    assert found.mean == pytest.approx(15 / 3 / 4)
    assert (found.low, found.high) == pytest.approx(tuple(chi2.ppf([0.025, 0.975], 12) / 12))
    assert found.beyond == pytest.approx(1 / 3)  # the 95 % quantile of four degrees is 9.5
    assert found.median == pytest.approx(2 / chi2.median(4))


def test_calibration_counts_each_bin():
    existence = np.array([0.0, 0.05, 0.95, 1.0, 0.95, 0.95])
    right = np.array([0.0, 1.0, 1.0, 1.0, 0.0, np.nan])
    bins = calibration(existence, right)
    assert [one.n for one in bins] == [2, *[0] * 8, 4]
    assert (bins[0].existence, bins[0].right) == (0.025, 0.5)
    assert bins[-1].right == pytest.approx(2 / 3)
    assert bins[4].existence is None


def test_unknown_errors_are_left_out():
    error = np.array([[1.0, 2.0], [np.nan, 0.0]])
    found = normalised(error, np.tile(np.diag([1.0, 4.0]), (2, 1, 1)))
    np.testing.assert_array_equal(found, [2.0, np.nan])


def test_tracks_of_several_sequences_stay_apart():
    one, other = follow(R, targets=3, frames=2), follow(R, targets=4, frames=2)
    assert len(np.unique(concatenated([one, other]).track)) == 7
    nothing = consistency(concatenated([]))
    assert nothing.nis.n == 0
    assert (
        msgspec.json.decode(msgspec.json.encode(nothing))["groups"]["all"]["nees"]["mean"] is None
    )
