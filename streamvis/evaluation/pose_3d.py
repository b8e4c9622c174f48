"""Errors of 3D poses: MPJPE, and the same after the best similarity transform (PA-MPJPE)
or at the best size.

Ionescu, Papava, Olaru, Sminchisescu, "Human3.6M", TPAMI 2014; the alignment is that of Umeyama,
TPAMI 1991.
"""

import numpy as np

from streamvis.messages import Array


def mpjpe(found: Array, true: Array) -> Array:
    """Return the mean distance of the points of each pose (N,), in the unit of (N, K, 3) poses."""
    return np.asarray(np.linalg.norm(found - true, axis=2).mean(axis=1))


def aligned(found: Array, true: Array) -> Array:
    """Return poses (N, K, 3) moved, turned and scaled as close to the true ones as possible."""
    x, y = (one - one.mean(axis=1, keepdims=True) for one in (found, true))
    u, s, vt = np.linalg.svd(np.einsum("nki,nkj->nij", y, x))
    mirrored = np.sign(np.linalg.det(u @ vt))
    u[:, :, -1] *= mirrored[:, None]
    s[:, -1] *= mirrored
    turn = u @ vt  # (N, 3, 3)
    size = s.sum(axis=1) / np.maximum((x**2).sum(axis=(1, 2)), 1e-12)
    moved = size[:, None, None] * np.einsum("nij,nkj->nki", turn, x)
    return np.asarray(moved + true.mean(axis=1, keepdims=True))


def pa_mpjpe(found: Array, true: Array) -> Array:
    """Return the mean distance of the points of each pose (N,) after alignment."""
    return mpjpe(aligned(found, true), true)


def sized_mpjpe(found: Array, true: Array) -> Array:
    """Return the mean distance (N,) of poses (N, K, 3) at the size that fits the true ones best.

    Both are about one origin, such as the middle of the hips.
    """
    size = (found * true).sum(axis=(1, 2)) / np.maximum((found**2).sum(axis=(1, 2)), 1e-12)
    return mpjpe(size[:, None, None] * found, true)
