"""Which detections could be which tracks' own, and which tracks thereby depend on each other."""

import numpy as np
from scipy.special import chdtri

from streamvis.messages import Array


def threshold(p_gate: float, dimensions: int) -> float:
    """The squared Mahalanobis distance that holds a share `p_gate` of true detections."""
    return float(chdtri(dimensions, 1 - p_gate))


def candidates(z_hat: Array, variance: Array, z: Array, noise: Array, gate: float) -> Array:
    """Pairs (2, K), ordered by track, that may pass the gate: a cheap test without a solve.

    z_hat, variance (N, Z) and z, noise (M, Z) hold means and diagonals. In every dimension
    d² ≥ ν²/S, so whatever fails in one fails in all; what is left is for the exact test.
    """
    nu = z_hat[:, :1] - z[:, 0]  # (N, M)
    near = nu * nu <= gate * (variance[:, :1] + noise[:, 0])
    track, detection = np.divmod(np.flatnonzero(near), len(z))
    for k in range(1, z.shape[1]):
        nu = z_hat[track, k] - z[detection, k]  # of those that are left
        near = nu * nu <= gate * (variance[track, k] + noise[detection, k])
        track, detection = track[near], detection[near]
    return np.stack([track, detection])


def clusters(gated: Array) -> list[Array]:
    """The connected groups of a gate matrix (N, M): rows of tracks that depend on each other.

    Union-find over the detections that several tracks share.
    """
    root = list(range(len(gated)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    detection, track = np.divmod(np.flatnonzero(gated.T), len(gated))  # detection by detection
    same = detection[1:] == detection[:-1]
    for i, j in zip(track[:-1][same].tolist(), track[1:][same].tolist(), strict=True):
        root[find(i)] = find(j)
    groups: dict[int, list[int]] = {}
    for i in range(len(root)):
        groups.setdefault(find(i), []).append(i)
    return [np.array(group) for group in groups.values()]
