"""Unsupervised, online calibration of detector scores to probabilities.

    calibration = ScoreCalibration()
    probabilities = calibration(scores)  # of one frame, from the scores up to it

Public detections have scores on any scale. Scores in [0, 1] are used unchanged: they may be badly
calibrated, but unlike the estimates below they do not depend on the threshold at which a detection
file was cut off.

Classifier margins and boosted sums have no natural zero or unit. Two estimates are averaged as log
odds; both depend on the shape of the distribution alone, so they are invariant to an affine change
of the scale.

*Standard score*: detection files are usually cut off where about two thirds of the rows are people,
so log odds rise linearly with the standard score from a fixed value at the mean. This is robust but
coarse. *Mixture*: clutter decays exponentially from the lowest score, people form a normal density
above it. The fit estimates the share of clutter, but cannot tell it from the lower tail of people.
"""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.tracking.existence import sigmoid

MEMORY = 5000  # number of latest scores that the fits use
AT_MEAN, PER_SIGMA = 1.8, 2.5  # log odds at the mean score, and per standard deviation
SHRINK = 20.0  # number of scores at which half of that slope is used
TRUST = 0.3  # weight of the mixture against the standard score
LIMIT = 8.0  # nats
REFIT = 0.02  # share of new scores that triggers a new fit
KNOTS = 201  # quantiles that replace a large sample
STEPS = 30  # of expectation maximisation; the prior makes it converge fast

# Prior of the mixture, in standard deviations above the floor.
PRIOR = 60.0  # its weight in scores or quantiles
PEOPLE = 0.75  # share
CENTRE, VARIANCE = 1.8, 0.55  # of people's scores
DECAY = 0.5  # mean of clutter's scores


class ScoreMixture(NamedTuple):
    """Clutter λ exp(−λ y) and people N(y; m, σ²), y = (score − floor) / unit."""

    floor: float
    unit: float
    people: float  # share
    m: float
    sigma: float
    decay: float  # λ

    def log_odds(self, scores: Array) -> Array:
        """Return log of people's density over clutter's, constant beyond its maximum."""
        top = self.m + self.decay * self.sigma**2
        return self._log_odds(np.minimum((scores - self.floor) / self.unit, top))

    def _log_odds(self, y: Array) -> Array:
        hump = -0.5 * ((y - self.m) / self.sigma) ** 2 - np.log(self.sigma * np.sqrt(2 * np.pi))
        slope = np.log(self.decay) - self.decay * y
        return np.log(self.people) - np.log1p(-self.people) + hump - slope


class ScoreCalibration:
    """Maps scores to probabilities, learning from the scores of one sequence."""

    def __init__(self, believe_shares: bool = True) -> None:
        self.shares = believe_shares  # no score has been outside of [0, 1]
        self.seen = np.empty(0)  # (K,) the latest scores
        self.fresh = 0  # number of scores since the last fit
        self.mean = 0.0
        self.mixture: ScoreMixture | None = None  # None while all scores are equal

    def __call__(self, scores: Array) -> Array:
        """Learn from the finite scores (M,) of a frame and return their probabilities (M,)."""
        scores = np.asarray(scores, np.float64)
        self.seen = np.concatenate([self.seen, np.sort(scores)])[-MEMORY:]
        self.fresh += len(scores)
        self.shares &= bool(((scores >= 0) & (scores <= 1)).all())
        if self.shares and self.seen.any():
            return scores
        if self.fresh > REFIT * len(self.seen):
            self._refit()
        if self.mixture is None:
            return np.full(len(scores), sigmoid(np.array(AT_MEAN)))
        sure = len(self.seen) / (len(self.seen) + SHRINK)
        standard = AT_MEAN + PER_SIGMA * sure * (scores - self.mean) / self.mixture.unit
        log_odds = TRUST * self.mixture.log_odds(scores) + (1 - TRUST) * standard
        return sigmoid(np.clip(log_odds, -LIMIT, LIMIT))

    def _refit(self) -> None:
        alike = self.seen.std() <= 1e-9 * np.abs(self.seen).max()
        self.mixture = None if alike else fit(self.seen)
        self.mean = float(self.seen.mean())
        self.fresh = 0


def fit(scores: Array) -> ScoreMixture:
    """Fit the mixture to scores (K,), at least two of them different, by MAP estimation."""
    n = len(scores)
    low, mean = float(scores.min()), float(scores.mean())
    floor = low - (mean - low) / max(n - 1, 1)  # expected gap from the origin to the minimum of n
    unit = float(scores.std())
    y = (scores - floor) / unit
    if n > 2 * KNOTS:
        y = np.quantile(y, np.linspace(0, 1, KNOTS))
    mixture = ScoreMixture(floor, unit, PEOPLE, CENTRE, VARIANCE**0.5, 1 / DECAY)
    for _ in range(STEPS):
        mixture = _step(mixture, y)
    return mixture


def _step(mixture: ScoreMixture, y: Array) -> ScoreMixture:
    share = sigmoid(mixture._log_odds(y))  # (K,) of people in each score
    people, all_people = PRIOR * PEOPLE, PRIOR * PEOPLE + share.sum()
    clutter, all_clutter = PRIOR - people, PRIOR - people + (1 - share).sum()
    m = (people * CENTRE + share @ y) / all_people
    variance = (people * VARIANCE + share @ (y - m) ** 2) / all_people
    return mixture._replace(
        people=float(all_people / (all_people + all_clutter)),
        m=float(m),
        sigma=float(np.sqrt(variance)),
        decay=float(all_clutter / (clutter * DECAY + (1 - share) @ y)),
    )
