"""Appearance embeddings: distances, running means, and a likelihood ratio learnt online.

Embeddings are unit vectors e and d = 1 − e·e' is their distance. The evidence of a distance is
log p(d | same) / p(d | other). Both normal densities are learnt during tracking, because two
people in one frame are never the same person. (Bićanić et al., FUSION 2019, use fixed densities
in the association.) People change: mean and variance of p(d | same) grow with the time since the
mean embedding was updated, which is learnt from copies of it. The ratio has an exponent that is
calibrated on pairs known to be the same or different people. All of this fades with media time.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.messages import Array

SPREAD = 0.03  # smallest standard deviation of a density
DENSE = 8  # pairs of a matrix that take as long as one pair by itself
KNOWN_S = 0.2  # s, time that the first embedding of a mean stands for


class NormalEstimate(msgspec.Struct, frozen=True):
    """A running estimate of a normal density."""

    mean: float
    variance: float
    weight: float  # s, time that it rests on, summed over people

    def learn(self, samples: Array, seconds: float, keep: float) -> "NormalEstimate":
        """Add samples (K,) that count `seconds` together; of what was before, `keep` remains."""
        if len(samples) == 0 or seconds <= 0:
            return self
        weight = keep * self.weight + seconds
        share = seconds / weight
        mean = self.mean + share * (float(samples.mean()) - self.mean)
        square = float(((samples - self.mean) * (samples - mean)).mean())
        return NormalEstimate(mean, self.variance + share * (square - self.variance), weight)


class Growth(msgspec.Struct, frozen=True):
    """How distances of one person grow: by rate · age, with variance · age² (see `age`).

    A running regression through the origin.
    """

    rate: float = 0.1
    variance: float = 0.05**2
    weight: float = 1.0  # s, sum of age² over time and people

    def learn(self, ages: Array, grown: Array, seconds: float, keep: float) -> "Growth":
        """Add samples (K,) of how much distances have grown at these ages (K,)."""
        square = float((ages**2).mean()) if len(ages) else 0.0
        if square * seconds <= 0:
            return self
        weight = keep * self.weight + seconds * square
        left = grown - self.rate * ages
        rate = self.rate + seconds / weight * float((ages * left).mean())
        residual = float((left * (grown - rate * ages)).mean()) - self.variance * square
        return Growth(rate, max(self.variance + seconds / weight * residual, 0.0), weight)


class RatioCalibration(msgspec.Struct, frozen=True):
    """The exponent of the ratio, by a running logistic regression of same against other on it."""

    power: float = 1.0  # from 0, where embeddings tell nobody apart, to 1
    weight: float = 2.0  # s, its Fisher information, summed over people

    def learn(self, same: Array, other: Array, seconds: float, keep: float) -> "RatioCalibration":
        """Add log ratios (K,) of the same person and (L,) of others; both kinds count equally."""
        if len(same) == 0 or len(other) == 0 or seconds <= 0:
            return self
        gradient = information = 0.0
        for ratio in (-same, other):
            wrong = 1 / (1 + np.exp(-self.power * ratio))
            gradient += float((ratio * wrong).mean())
            information += float((ratio**2 * wrong * (1 - wrong)).mean())
        weight = keep * self.weight + seconds * information
        power = self.power - seconds / weight * gradient
        return RatioCalibration(min(max(power, 0.0), 1.0), weight)


class KnownDistances(NamedTuple):
    """Distances between embeddings of one frame and mean embeddings of known people."""

    same: Array  # (K,) to the mean of the same person
    same_age: Array  # (K,)
    copied: Array  # (L,) rows of `same` whose person has an earlier copy of the mean
    copy: Array  # (L,) distance to that copy
    copy_age: Array  # (L,)
    other: Array  # (M,) to means of other people
    other_age: Array  # (M,)
    seconds: float  # that the embeddings stand for, summed over people


class AppearanceLikelihood(msgspec.Struct, frozen=True):
    """The densities of embedding distances of one person, and of two different people."""

    same: NormalEstimate = NormalEstimate(0.2, 0.1**2, 5.0)
    other: NormalEstimate = NormalEstimate(0.65, 0.16**2, 5.0)
    growth: Growth = Growth()
    calibration: RatioCalibration = RatioCalibration()

    def log_ratio(self, distance: Array, limit: float, ages: Array | float = 0.0) -> Array:
        """Return log p(d | same) / p(d | other) within ±limit, falling with d; 0 where d is NaN.

        `ages` are those of the mean embeddings, from `age`.
        """
        return self.calibration.power * self._uncalibrated(distance, limit, ages)

    def _uncalibrated(self, distance: Array, limit: float, ages: Array | float) -> Array:
        other = self.other
        far = max(self.same.mean, other.mean)
        mean = np.minimum(self.same.mean + max(self.growth.rate, 0.0) * ages, far)
        d = np.clip(distance, mean, far)
        narrow = self.same.variance + SPREAD**2 + self.growth.variance * np.square(ages)
        wide = other.variance + SPREAD**2
        ratio = (d - other.mean) ** 2 / wide - (d - mean) ** 2 / narrow
        ratio = np.clip((ratio + np.log(wide / narrow)) / 2, -limit, limit)
        return np.where(np.isnan(distance), 0.0, ratio)

    def learn(self, found: KnownDistances, memory_s: float, limit: float) -> "AppearanceLikelihood":
        """Add the distances of one frame; older ones fade with a time constant of `memory_s`."""
        seconds = found.seconds
        keep = math.exp(-seconds / max(len(found.same), 1) / memory_s)
        ratio = self._uncalibrated(
            np.concatenate([found.same, found.copy, found.other]),
            limit,
            np.concatenate([found.same_age, found.copy_age, found.other_age]),
        )
        same, other = np.split(ratio, [len(found.same) + len(found.copy)])
        grown = found.copy - found.same[found.copied]
        return AppearanceLikelihood(
            self.same.learn(found.same, seconds, keep),
            self.other.learn(found.other, seconds, keep),
            self.growth.learn(found.copy_age, grown, seconds, keep),
            self.calibration.learn(same, other, seconds, keep),
        )


def age(gap_s: Array, known_s: Array) -> Array:
    """Return the age (K,) of mean embeddings over `known_s` seconds, `gap_s` after their update.

    People change in steps of all lengths, so that distances grow with the logarithm of time, and
    slower from a mean over a longer time: log(1 + gap / known).
    """
    return np.asarray(np.log1p(np.maximum(gap_s, 0) / (known_s + KNOWN_S)))


def unit(vectors: Array) -> Array:
    """Normalise vectors (N, D) to float32 of unit length; zeros where that is impossible.

    Impossible it is for rows that are zero or not finite.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    usable = np.isfinite(length) & (length > 1e-9)
    unit_length = np.divide(vectors, length, where=usable, out=np.zeros_like(vectors))
    return unit_length.astype(np.float32)


def distances(a: Array, b: Array) -> Array:
    """Return d (N, M) of unit vectors (N, D) and (M, D); NaN where one of them is all zeros."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    d = 1 - a @ b.T
    d[~np.any(a, axis=1)] = np.nan
    d[:, ~np.any(b, axis=1)] = np.nan
    return np.asarray(d)


def pair_distances(a: Array, b: Array, i: Array, j: Array) -> Array:
    """Return d (K,) of rows i (K,) of a (N, D) and rows j (K,) of b (M, D), as `distances`."""
    if len(i) * DENSE > len(a) * len(b):
        return distances(a, b)[i, j]
    a, b = np.asarray(a[i], np.float32), np.asarray(b[j], np.float32)
    d = 1 - np.einsum("kd,kd->k", a, b)
    d[~(np.any(a, axis=1) & np.any(b, axis=1))] = np.nan
    return np.asarray(d)


def blend(mean: Array, seconds: Array, vectors: Array, dt: Array, memory_s: float) -> Array:
    """Update mean embeddings (N, D) of `seconds` (N,) by vectors (N, D) that count dt (N,) seconds.

    The result has unit length. It is an arithmetic mean until `memory_s`, then an exponential one.
    """
    if len(mean) == 0:
        return mean
    mean = np.asarray(mean, np.float32)
    share = (dt / np.maximum(np.minimum(seconds, memory_s) + dt, 1e-9)).astype(np.float32)
    mixed = mean + share[:, None] * (vectors - mean)
    length = np.sqrt(np.einsum("nd,nd->n", mixed, mixed))[:, None]
    return np.where(length > 1e-6, mixed / np.maximum(length, 1e-6), mean)
