"""Batched Kalman filters: prediction, update of track-detection pairs, merging of mixtures.

N tracks, M detections, K pairs (i, j) of a track and a detection. Every detection has a noise of
its own, so each pair has its own innovation covariance and gain.
"""

import math
from typing import NamedTuple

import numpy as np
from filterpy.common import Q_continuous_white_noise

from streamvis.messages import Array


class Posterior(NamedTuple):
    """The updated state of each pair, and the likelihood of its detection."""

    x: Array  # (K, D)
    P: Array  # (K, D, D)
    distance2: Array  # (K,) squared Mahalanobis distance of the innovation
    log_density: Array  # (K,) log N(z; Hx, S)


def constant_velocity(dt: float) -> tuple[Array, Array]:
    """Return F and Q (4, 4) for unit spectral density; state x, y, vx, vy; dt in seconds.

    Q = [[dt³/3, dt²/2], [dt²/2, dt]] ⊗ I: white acceleration in continuous time, so that two steps
    of dt/2 equal one of dt whatever the frame rate.
    """
    F = np.eye(4)
    F[0, 2] = F[1, 3] = dt
    return F, Q_continuous_white_noise(dim=2, dt=dt, block_size=2, order_by_dim=False)


def predict(x: Array, P: Array, F: Array, Q: Array) -> tuple[Array, Array]:
    """Predict states x (N, D) and covariances P (N, D, D) by F (D, D) and Q (N, D, D)."""
    return x @ F.T, F @ P @ F.T + Q


def update(x: Array, P: Array, z: Array, R: Array, H: Array) -> Posterior:
    """Update K pairs: x (K, D), P (K, D, D), z (K, Z), R (K, Z, Z), H (Z, D)."""
    PHt = P @ H.T  # (K, D, Z)
    S = H @ PHt + R  # (K, Z, Z)
    nu = z - x @ H.T  # (K, Z)
    inverse = np.linalg.inv(S)
    K = PHt @ inverse  # (K, D, Z)
    log_det = np.linalg.slogdet(S)[1]
    distance2 = np.einsum("ka,kab,kb->k", nu, inverse, nu)
    log_density = -0.5 * (distance2 + log_det + H.shape[0] * math.log(2 * math.pi))
    A = np.eye(x.shape[1]) - K @ H
    joseph = A @ P @ A.mT + K @ R @ K.mT  # stays positive definite under rounding
    return Posterior(x + np.einsum("kdz,kz->kd", K, nu), joseph, distance2, log_density)


def merge(
    x: Array,  # (N, D) predictions, the hypothesis of a missed detection
    P: Array,  # (N, D, D)
    missed: Array,  # (N,) weight of the prediction
    track: Array,  # (K,) ascending: the track of each pair
    posterior: Posterior,
    weight: Array,  # (K,) weight of the pair; missed + its pairs sum to 1 for every track
) -> tuple[Array, Array]:
    """Return mean and covariance of each track's mixture of its prediction and its updates.

    The moments of the mixture itself: the innovation form of PDA holds only where all detections
    share one R.
    """
    if len(track) == 0:
        return x, P
    start = np.flatnonzero(np.diff(track, prepend=-1))
    held = track[start]
    mean = x * missed[:, None]
    mean[held] += np.add.reduceat(weight[:, None] * posterior.x, start)
    apart = x - mean
    cov = missed[:, None, None] * (P + apart[:, :, None] * apart[:, None, :])
    apart = posterior.x - mean[track]
    spread = posterior.P + apart[:, :, None] * apart[:, None, :]
    cov[held] += np.add.reduceat(weight[:, None, None] * spread, start)
    return mean, (cov + cov.mT) / 2
