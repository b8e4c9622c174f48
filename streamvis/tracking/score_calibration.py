"""What a detector's score says, learned from the scores alone while they come in.

    calibration = Calibration()
    probabilities = calibration(scores)  # of this frame; those of later frames change nothing

Public detections come with scores on any scale. While all of them lie in [0, 1] they stand as they
are: a detector that was trained to say how likely it is right is seldom right about that, but what
it says does not depend on where its file was cut off, and the guesses below do.

Margins of a classifier and sums of trees have no zero and no unit. Two guesses at what they say are
averaged as log odds; both only look at the shape of the distribution, so a scale with another unit
or another zero gives the same probabilities.

*How a file is made*: detectors are cut off where about two thirds of what is left are people, so
log odds go up with the standard score from a known value at the mean. It cannot be far wrong, and
is never quite right. *What the scores look like*: clutter decays exponentially from the floor,
people make a hump above it. The fit learns how much clutter there is, but cannot tell the foot of
the hump from the clutter beneath it.
"""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.tracking.existence import sigmoid

MEMORY = 5000  # scores: the latest ones tell what light and crowd there is now
AT_MEAN, PER_SIGMA = 1.8, 2.5  # log odds at the mean score, and what a standard deviation adds
SHRINK = 20.0  # scores; with so many seen, half of that slope is believed
TRUST = 0.3  # weight of the mixture against the standard score
LIMIT = 8.0  # nats
REFIT = 0.02  # share of new scores from which the fits are made again
KNOTS = 201  # quantiles that stand in for many scores
STEPS = 30  # of expectation maximisation; the prior makes it converge fast

# What the mixture expects, in standard deviations above the floor. Worth so many scores, or knots:
# however many scores there are, their shape is not believed without reserve.
PRIOR = 60.0
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
        """log of people's density over clutter's, level from where it would fall again."""
        top = self.m + self.decay * self.sigma**2
        return self._log_odds(np.minimum((scores - self.floor) / self.unit, top))

    def _log_odds(self, y: Array) -> Array:
        hump = -0.5 * ((y - self.m) / self.sigma) ** 2 - np.log(self.sigma * np.sqrt(2 * np.pi))
        slope = np.log(self.decay) - self.decay * y
        return np.log(self.people) - np.log1p(-self.people) + hump - slope


class ScoreCalibration:
    """Scores to probabilities; what it has seen of a sequence is all that it knows."""

    def __init__(self, believe_shares: bool = True) -> None:
        self.shares = believe_shares  # no score has been outside of [0, 1]
        self.seen = np.empty(0)  # (K,) the latest scores
        self.fresh = 0  # how many scores the fits do not know
        self.mean = 0.0
        self.mixture: ScoreMixture | None = None  # None: the scores are all alike

    def __call__(self, scores: Array) -> Array:
        """Learn from a frame's finite scores (M,); their probabilities (M,), in the same order."""
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
    """The mixture of these scores (K,), at least two of which differ, under the prior."""
    n = len(scores)
    low, mean = float(scores.min()), float(scores.mean())
    floor = low - (mean - low) / max(n - 1, 1)  # the least of n lies that much above the origin
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
