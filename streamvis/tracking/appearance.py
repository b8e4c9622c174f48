"""What people look like, and how far that tells them apart in this scene.

Embeddings are unit vectors e and d = 1 − e·e' is their distance. What a distance says depends on
the scene: it is log p(d | same) / p(d | other), two normal densities that are learnt while people
are followed, for two people in one frame are never the same. (Bićanić et al., FUSION 2019, put
fixed densities into the association.)
"""

import math

import msgspec
import numpy as np

from streamvis.messages import Array

SPREAD = 0.03  # of distances: no density is narrower


class NormalEstimate(msgspec.Struct, frozen=True):
    """A normal density, and how many samples it stands for."""

    mean: float
    variance: float
    weight: float

    def learn(self, samples: Array, most: float) -> "NormalEstimate":
        """With samples (K,) more; beyond `most` the older ones fade."""
        if len(samples) == 0:
            return self
        weight = min(self.weight, most) + len(samples)
        share = len(samples) / weight
        mean = self.mean + share * (float(samples.mean()) - self.mean)
        square = float(((samples - self.mean) * (samples - mean)).mean())
        return NormalEstimate(mean, self.variance + share * (square - self.variance), weight)


class AppearanceLikelihood(msgspec.Struct, frozen=True):
    """Distances between looks of one person, and between those of two."""

    same: NormalEstimate = NormalEstimate(0.35, 0.14**2, 60.0)
    other: NormalEstimate = NormalEstimate(0.75, 0.17**2, 60.0)

    def log_ratio(self, distance: Array, limit: float) -> Array:
        """log p(d | same) / p(d | other) within ±limit, falling with d; 0 where d is NaN."""
        same, other = self.same, self.other
        d = np.clip(distance, same.mean, max(same.mean, other.mean))
        narrow, wide = (m.variance + SPREAD**2 for m in (same, other))
        ratio = (d - other.mean) ** 2 / wide - (d - same.mean) ** 2 / narrow
        ratio = np.clip((ratio + math.log(wide / narrow)) / 2, -limit, limit)
        return np.where(np.isnan(distance), 0.0, ratio)

    def learn(self, same: Array, other: Array, most: float) -> "AppearanceLikelihood":
        return AppearanceLikelihood(self.same.learn(same, most), self.other.learn(other, most))


def unit(vectors: Array) -> Array:
    """Vectors (N, D) of unit length; zeros for what is no direction."""
    vectors = np.asarray(vectors, dtype=np.float64)
    vectors = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 1e-9, vectors / np.maximum(length, 1e-9), 0.0)


def distances(a: Array, b: Array) -> Array:
    """d (N, M) between unit vectors (N, D) and (M, D); NaN where one is all zeros."""
    d = 1 - np.asarray(a, np.float32) @ np.asarray(b, np.float32).T
    d[~np.any(a, axis=1)] = np.nan
    d[:, ~np.any(b, axis=1)] = np.nan
    return d


def pair_distances(a: Array, b: Array, i: Array, j: Array) -> Array:
    """d (K,) between rows i (K,) of a (N, D) and j (K,) of b (M, D), as `distances`."""
    d = 1 - np.einsum("kd,kd->k", np.asarray(a, np.float32)[i], np.asarray(b, np.float32)[j])
    d[~np.any(a, axis=1)[i] | ~np.any(b, axis=1)[j]] = np.nan
    return d


def blend(mean: Array, seconds: Array, vectors: Array, dt: Array, memory_s: float) -> Array:
    """Mean looks (N, D) of `seconds` (N,) with vectors (N, D) of dt (N,) more, unit length again.

    A plain mean at first, an exponential one once it is as old as `memory_s`.
    """
    mean = np.asarray(mean, np.float64)
    share = dt / np.maximum(np.minimum(seconds, memory_s) + dt, 1e-9)
    mixed = mean + share[:, None] * (vectors - mean)
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.where(length > 1e-9, mixed / np.maximum(length, 1e-9), mean)
