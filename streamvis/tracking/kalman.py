"""Batched Kalman filters: prediction, update of track-detection pairs, merging of mixtures.

N tracks, M detections, K pairs (i, j) of a track and a detection. Every detection has a noise of
its own, so each pair has its own innovation covariance and gain.
"""

import math
from typing import NamedTuple

import numpy as np

from streamvis.messages import Array


class Innovations(NamedTuple):
    """Of each pair, how far its detection is from the prediction, and how likely that is."""

    root: Array  # (Z, Z, K) lower triangular L with LLᵀ = S = HPHᵀ + R
    white: Array  # (Z, K) L⁻¹ν, with ν = z − Hx
    distance2: Array  # (K,) squared Mahalanobis distance νᵀS⁻¹ν
    log_density: Array  # (K,) log N(z; Hx, S)

    def take(self, pairs: Array) -> "Innovations":
        """Return those of some pairs."""
        return Innovations(*(field[..., pairs] for field in self))


class Posterior(NamedTuple):
    """The updated state of each pair."""

    x: Array  # (K, D)
    P: Array  # (K, D, D)


def constant_velocity(dt: float) -> tuple[Array, Array]:
    """Return F and Q (4, 4) for unit spectral density; state x, y, vx, vy; dt in seconds.

    Q = [[dt³/3, dt²/2], [dt²/2, dt]] ⊗ I: white acceleration in continuous time, so that two steps
    of dt/2 equal one of dt whatever the frame rate.
    """
    F, Q = np.eye(4), np.zeros((4, 4))
    F[0, 2] = F[1, 3] = dt
    Q[0, 0] = Q[1, 1] = dt**3 / 3
    Q[0, 2] = Q[1, 3] = Q[2, 0] = Q[3, 1] = dt**2 / 2
    Q[2, 2] = Q[3, 3] = dt
    return F, Q


def predict(x: Array, P: Array, F: Array, Q: Array) -> tuple[Array, Array]:
    """Predict states x (N, D) and covariances P (N, D, D) by F (D, D) and Q (N, D, D)."""
    return x @ F.T, F @ P @ F.T + Q


def innovations(
    x: Array, P: Array, z: Array, R: Array, H: Array, track: Array, detection: Array
) -> Innovations:
    """Compare x (N, D), P (N, D, D) with z (M, Z), R (M, Z, Z) by H (Z, D), for K pairs.

    `track` and `detection` (K,) are the rows of the pairs.
    """
    S = np.moveaxis(H @ P @ H.T, 0, 2)[..., track] + np.moveaxis(R, 0, 2)[..., detection]
    nu = (z.T)[:, detection] - (H @ x.T)[:, track]  # (Z, K)
    root = _cholesky(S)
    white = _solve(root, nu[:, None])[:, 0]
    distance2 = (white * white).sum(axis=0)
    log_det = 2 * np.log(np.diagonal(root)).sum(axis=1)
    log_density = -0.5 * (distance2 + log_det + len(H) * math.log(2 * math.pi))
    return Innovations(root, white, distance2, log_density)


def update(x: Array, P: Array, H: Array, of: Innovations) -> Posterior:
    """Update K pairs: x (K, D), P (K, D, D), H (Z, D).

    With Y = L⁻¹HP the updated mean is x + YᵀL⁻¹ν, the covariance P − YᵀY.
    """
    Y = _solve(of.root, np.moveaxis(H @ P, 0, 2)).T  # (K, D, Z)
    return Posterior(x + np.einsum("kdz,zk->kd", Y, of.white), P - Y @ Y.mT)


def _cholesky(S: Array) -> Array:
    """Return L (Z, Z, K), lower triangular, of S (Z, Z, K): all K at once, Z is small."""
    L = np.zeros_like(S)
    for j in range(len(S)):
        L[j, j] = np.sqrt(S[j, j] - (L[j, :j] ** 2).sum(axis=0))
        for i in range(j + 1, len(S)):
            L[i, j] = (S[i, j] - (L[i, :j] * L[j, :j]).sum(axis=0)) / L[j, j]
    return L


def _solve(L: Array, b: Array) -> Array:
    """Return L⁻¹b (Z, C, K) of L (Z, Z, K) and b (Z, C, K)."""
    y = np.empty_like(b)
    for j in range(len(L)):
        y[j] = (b[j] - (L[j, :j, None] * y[:j]).sum(axis=0)) / L[j, j]
    return y


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
