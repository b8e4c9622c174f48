"""The batched filter against filterpy, and mixtures against the formulas of PDA."""

import numpy as np
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import KalmanFilter
from hypothesis import given
from hypothesis import strategies as st

from streamvis.tracking import kalman


def random_covariance(rng, *shape):
    a = rng.normal(size=(*shape, shape[-1]))
    return a @ a.mT + 0.1 * np.eye(shape[-1])


def updated(x, P, z, R, H):
    """Return innovations and posteriors of pairs, each a row of all arguments."""
    pair = np.arange(len(x))
    of = kalman.innovations(x, P, z, R, H, pair, pair)
    return of, kalman.update(x, P, H, of)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_prediction_and_update_equal_filterpy(seed, n):
    rng = np.random.default_rng(seed)
    x, P = rng.normal(size=(n, 4)), random_covariance(rng, n, 4)
    z, R, H = rng.normal(size=(n, 2)), random_covariance(rng, n, 2), np.eye(2, 4)
    F, Q = kalman.constant_velocity(0.3)
    predicted = kalman.predict(x, P, F, np.broadcast_to(Q, (n, 4, 4)))
    innovations, posterior = updated(*predicted, z, R, H)
    for i in range(n):
        oracle = KalmanFilter(dim_x=4, dim_z=2)
        oracle.x, oracle.P, oracle.F, oracle.Q = x[i], P[i], F, Q
        oracle.H, oracle.R = H, R[i]
        oracle.predict()
        oracle.update(z[i])
        np.testing.assert_allclose(posterior.x[i], oracle.x, atol=1e-9)
        np.testing.assert_allclose(posterior.P[i], oracle.P, atol=1e-9)
        np.testing.assert_allclose(innovations.log_density[i], oracle.log_likelihood, atol=1e-9)
        np.testing.assert_allclose(innovations.distance2[i], oracle.mahalanobis**2, rtol=1e-6)


@given(st.floats(0, 100))
def test_the_noise_of_constant_velocity_is_that_of_filterpy(dt):
    expected = Q_continuous_white_noise(dim=2, dt=dt, block_size=2, order_by_dim=False)
    np.testing.assert_array_equal(kalman.constant_velocity(dt)[1], expected)


@given(st.floats(0.01, 2), st.floats(0.01, 2))
def test_two_short_steps_equal_a_long_one(first, second):
    F1, Q1 = kalman.constant_velocity(first)
    F2, Q2 = kalman.constant_velocity(second)
    F, Q = kalman.constant_velocity(first + second)
    np.testing.assert_allclose(F2 @ F1, F, atol=1e-12)
    np.testing.assert_allclose(F2 @ Q1 @ F2.T + Q2, Q, atol=1e-12)


def test_golden_c_pda_update():
    """Stone-Soup's PDA update: one track, detections −6 and −5, weights from P_D .9, P_G .95."""
    F = np.array([[1.0, 1], [0, 1]])
    Q = 0.005 * np.array([[1 / 3, 1 / 2], [1 / 2, 1]])
    x, P = kalman.predict(
        np.array([[-6.45, 0.7]]), np.array([[[0.41123, 0.0013], [0.0013, 0.0365]]]), F, Q
    )
    np.testing.assert_allclose(P[0], [[0.4519966667, 0.0403], [0.0403, 0.0415]], atol=1e-9)
    both = [0, 0]
    innovations, posterior = updated(
        x[both], P[both], np.array([[-6.0], [-5.0]]), np.full((2, 1, 1), 0.04), np.eye(1, 2)
    )
    np.testing.assert_allclose(innovations.distance2, [0.1270338, 1.1433004], atol=1e-6)
    beta = np.array([0.0022564351, 0.6229599793, 0.3747835855])
    mean, cov = kalman.merge(x, P, beta[:1], np.array(both), posterior, beta[1:])
    np.testing.assert_allclose(mean, [[-5.6348432442, 0.7102673705]], atol=1e-9)
    np.testing.assert_allclose(
        cov[0], [[0.2352152892, 0.0209717833], [0.0209717833, 0.0397766972]], atol=1e-9
    )


@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_the_mixture_has_the_moments_of_its_samples_and_stays_positive(seed, k):
    rng = np.random.default_rng(seed)
    x, P = rng.normal(size=(3, 4)), random_covariance(rng, 3, 4)
    track = np.sort(rng.integers(0, 3, k))
    _, posterior = updated(
        x[track], P[track], rng.normal(size=(k, 2)), random_covariance(rng, k, 2), np.eye(2, 4)
    )
    weight = rng.uniform(0.1, 1, k)
    missed = rng.uniform(0.1, 1, 3)
    total = missed + np.bincount(track, weight, 3)
    weight, missed = weight / total[track], missed / total
    mean, cov = kalman.merge(x, P, missed, track, posterior, weight)
    for i in range(3):
        parts = [(missed[i], x[i], P[i])]
        own = track == i
        parts += list(zip(weight[own], posterior.x[own], posterior.P[own], strict=True))
        expected = sum(w * m for w, m, _ in parts)
        np.testing.assert_allclose(mean[i], expected, atol=1e-12)
        second = sum(w * (C + np.outer(m, m)) for w, m, C in parts)
        np.testing.assert_allclose(cov[i], second - np.outer(expected, expected), atol=1e-9)
        assert np.linalg.eigvalsh(cov[i]).min() > 0
