"""Appearance embeddings: distances, running means, and a likelihood ratio learnt online.

Embeddings are unit vectors e and d = 1 − e·e' is their distance. The evidence of a distance is
log p(d | same) / p(d | other). Both normal densities are learnt during tracking, because two
people in one frame are never the same person. (Bićanić et al., FUSION 2019, use fixed densities
in the association.)
"""

import math

import msgspec
import numpy as np

from streamvis.messages import Array

SPREAD = 0.03  # smallest standard deviation of a density


class NormalEstimate(msgspec.Struct, frozen=True):
    """A running estimate of a normal density, with its number of samples."""

    mean: float
    variance: float
    weight: float

    def learn(self, samples: Array, most: float) -> "NormalEstimate":
        """Add samples (K,); beyond `most` samples the older ones fade exponentially."""
        if len(samples) == 0:
            return self
        weight = min(self.weight, most) + len(samples)
        share = len(samples) / weight
        mean = self.mean + share * (float(samples.mean()) - self.mean)
        square = float(((samples - self.mean) * (samples - mean)).mean())
        return NormalEstimate(mean, self.variance + share * (square - self.variance), weight)


class AppearanceLikelihood(msgspec.Struct, frozen=True):
    """The densities of embedding distances of one person, and of two different people."""

    same: NormalEstimate = NormalEstimate(0.35, 0.14**2, 60.0)
    other: NormalEstimate = NormalEstimate(0.75, 0.17**2, 60.0)

    def log_ratio(self, distance: Array, limit: float) -> Array:
        """Return log p(d | same) / p(d | other) within ±limit, falling with d; 0 where d is NaN."""
        same, other = self.same, self.other
        d = np.clip(distance, same.mean, max(same.mean, other.mean))
        narrow, wide = (m.variance + SPREAD**2 for m in (same, other))
        ratio = (d - other.mean) ** 2 / wide - (d - same.mean) ** 2 / narrow
        ratio = np.clip((ratio + math.log(wide / narrow)) / 2, -limit, limit)
        return np.where(np.isnan(distance), 0.0, ratio)

    def learn(self, same: Array, other: Array, most: float) -> "AppearanceLikelihood":
        return AppearanceLikelihood(self.same.learn(same, most), self.other.learn(other, most))


def unit(vectors: Array) -> Array:
    """Normalise vectors (N, D) to unit length; rows that are zero or not finite become zeros."""
    vectors = np.asarray(vectors, dtype=np.float64)
    vectors = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 1e-9, vectors / np.maximum(length, 1e-9), 0.0)


def distances(a: Array, b: Array) -> Array:
    """Return d (N, M) of unit vectors (N, D) and (M, D); NaN where one of them is all zeros."""
    d = 1 - np.asarray(a, np.float32) @ np.asarray(b, np.float32).T
    d[~np.any(a, axis=1)] = np.nan
    d[:, ~np.any(b, axis=1)] = np.nan
    return d


def pair_distances(a: Array, b: Array, i: Array, j: Array) -> Array:
    """Return d (K,) of rows i (K,) of a (N, D) and rows j (K,) of b (M, D), as `distances`."""
    d = 1 - np.einsum("kd,kd->k", np.asarray(a, np.float32)[i], np.asarray(b, np.float32)[j])
    d[~np.any(a, axis=1)[i] | ~np.any(b, axis=1)[j]] = np.nan
    return d


def blend(mean: Array, seconds: Array, vectors: Array, dt: Array, memory_s: float) -> Array:
    """Update mean embeddings (N, D) of `seconds` (N,) by vectors (N, D) that count dt (N,) seconds.

    The result has unit length. It is an arithmetic mean until `memory_s`, then an exponential one.
    """
    mean = np.asarray(mean, np.float64)
    share = dt / np.maximum(np.minimum(seconds, memory_s) + dt, 1e-9)
    mixed = mean + share[:, None] * (vectors - mean)
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.where(length > 1e-9, mixed / np.maximum(length, 1e-9), mean)
