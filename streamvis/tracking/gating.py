"""Which detections could be which tracks' own, and which tracks thereby depend on each other."""

import numpy as np
from scipy.special import chdtri

from streamvis.geometry import meeting
from streamvis.messages import Array

NO_GATE = 1e200  # is as good as infinity, and nothing times it is nothing


def threshold(p_gate: float, dimensions: int) -> float:
    """The squared Mahalanobis distance that holds a share `p_gate` of true detections."""
    return float(chdtri(dimensions, 1 - p_gate))


def candidates(z_hat: Array, variance: Array, z: Array, noise: Array, gate: float) -> Array:
    """Pairs (2, K), ordered by track, that may pass the gate: a cheap test without a solve.

    z_hat, variance (N, Z) and z, noise (M, Z) hold means and diagonals. In every dimension
    d² ≥ ν²/S, so whatever fails in one fails in all; what is left is for the exact test.
    """
    far, wide = (np.sqrt(min(gate, NO_GATE) * of[:, 0]) for of in (variance, noise))
    centre, other = z_hat[:, 0], z[:, 0]  # |ν| ≤ √(gate S) ≤ far + wide
    track, detection = meeting(centre - far, centre + far, other - wide, other + wide)
    for k in range(z.shape[1]):
        nu = z_hat[track, k] - z[detection, k]  # of those that are left
        near = nu * nu <= gate * (variance[track, k] + noise[detection, k])
        track, detection = track[near], detection[near]
    return np.stack(np.divmod(np.sort(track * len(z) + detection), max(len(z), 1)))


def clusters(track: Array, detection: Array, n: int) -> Array:
    """The cluster (N,) of each of n tracks: those that gated pairs (K,), (K,) connect share one.

    Union-find over the detections that several tracks share; a cluster bears the number of one of
    its tracks.
    """
    root = list(range(n))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    order = np.argsort(detection, kind="stable")
    track, detection = track[order], detection[order]
    same = detection[1:] == detection[:-1]
    for i, j in zip(track[:-1][same].tolist(), track[1:][same].tolist(), strict=True):
        root[find(i)] = find(j)
    return np.array([find(i) for i in range(n)], dtype=np.int64)


def grouped(group: Array, groups: int) -> tuple[Array, Array, Array]:
    """K members, group by group: in which order (K,), where in it each group starts (G + 1,).

    And how many of the same group come before each (K,).
    """
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], np.arange(groups + 1))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(group)) - start[group[order]]
    return order, start, rank
