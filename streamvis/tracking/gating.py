"""Which detections could be which tracks' own, and which tracks thereby depend on each other."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
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
    near = np.ones((len(z_hat), len(z)), dtype=bool)
    for k in range(z.shape[1]):
        nu = z_hat[:, k, None] - z[None, :, k]
        near &= nu * nu <= gate * (variance[:, k, None] + noise[None, :, k])
    return np.stack(np.nonzero(near))


def clusters(gated: Array) -> Array:
    """Number the connected groups of a gate matrix (N, M): one label for each track (N,)."""
    n, m = gated.shape
    track, detection = np.nonzero(gated)
    graph = coo_array((np.ones(len(track)), (track, n + detection)), shape=(n + m, n + m))
    return connected_components(graph, directed=False)[1][:n]
