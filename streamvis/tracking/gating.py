"""Gating of track-detection pairs, and clusters of tracks that share gated detections."""

import numpy as np
from scipy.special import chdtri

from streamvis.geometry import meeting
from streamvis.messages import Array

NO_GATE = 1e200  # instead of infinity, for 0 · NO_GATE is 0


def threshold(p_gate: float, dimensions: int) -> float:
    """Return the squared Mahalanobis distance that contains a share `p_gate` of detections."""
    return float(chdtri(dimensions, 1 - p_gate))


def candidates(z_hat: Array, variance: Array, z: Array, noise: Array, gate: float) -> Array:
    """Return pairs (2, K), ordered by track, that may pass the gate, without solving for S.

    z_hat, variance (N, Z) and z, noise (M, Z) are means and diagonals. d² ≥ ν²/S holds in every
    dimension, so a pair that fails in one dimension fails the exact test, too.
    """
    far, wide = (np.sqrt(min(gate, NO_GATE) * of[:, 0]) for of in (variance, noise))
    centre, other = z_hat[:, 0], z[:, 0]  # |ν| ≤ √(gate S) ≤ far + wide
    track, detection = meeting(centre - far, centre + far, other - wide, other + wide)
    for k in range(z.shape[1]):
        nu = z_hat[track, k] - z[detection, k]  # innovations of the remaining pairs
        near = nu * nu <= gate * (variance[track, k] + noise[detection, k])
        track, detection = track[near], detection[near]
    return np.stack(np.divmod(np.sort(track * len(z) + detection), max(len(z), 1)))


def clusters(track: Array, detection: Array, n: int) -> Array:
    """Return the cluster (N,) of each of n tracks; gated pairs (K,), (K,) connect tracks.

    Labels are numbers from 0, without gaps, in the order of the first track of each cluster.
    """
    first: dict[int, int] = {}  # detection -> the first track that has it
    above = list(range(n))  # a track of the same cluster with a lower number, or itself
    for i, j in zip(track.tolist(), detection.tolist(), strict=True):
        a, b = _lowest(above, i), _lowest(above, first.setdefault(j, i))
        above[max(a, b)] = min(a, b)
    label: list[int] = []
    count = 0
    for i in range(n):
        lowest = _lowest(above, i)
        label.append(count if lowest == i else label[lowest])
        count += lowest == i
    return np.array(label, dtype=np.int64)


def _lowest(above: list[int], i: int) -> int:
    while above[i] != i:
        above[i] = i = above[above[i]]
    return i


def grouped(group: Array, groups: int) -> tuple[Array, Array, Array]:
    """Sort K members by group: return the order (K,), the start of each group in it (G + 1,),
    and the rank of each member within its group (K,).
    """
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], np.arange(groups + 1))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(group)) - start[group[order]]
    return order, start, rank
