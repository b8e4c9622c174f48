"""Ranking two classes by a score: area under the ROC curve, average precision, Platt scaling.

    counts = count(scores, truth)  # negatives and positives at each distinct score
    roc_auc(counts), average_precision(counts)
    scale, shift = platt_scaling(margin, truth)

The functions take counts instead of scores, so that a data set of any size can be accumulated in
histogram bins. Entries that share a score, or a bin, are ties.
"""

from typing import NamedTuple

import numpy as np

from streamvis.errors import DataError
from streamvis.messages import Array

NEWTON_STEPS = 50


class ScoreCounts(NamedTuple):
    """How many negatives and positives have each score, by rising score."""

    negatives: Array  # (K,)
    positives: Array  # (K,)


def count(scores: Array, truth: Array) -> ScoreCounts:
    """Count scores (N,) of negatives and positives, truth (N,) bool, at each distinct score."""
    distinct, index = np.unique(scores, return_inverse=True)
    positives = np.bincount(index[truth], minlength=len(distinct))
    return ScoreCounts(np.bincount(index, minlength=len(distinct)) - positives, positives)


def roc_auc(counts: ScoreCounts) -> float | None:
    """The share of pairs in which the positive scores higher than the negative; ties count half.

    None when one class is absent.
    """
    pairs = float(counts.negatives.sum()) * float(counts.positives.sum())
    below = np.cumsum(counts.negatives) - counts.negatives / 2
    return float(counts.positives @ below / pairs) if pairs else None


def average_precision(counts: ScoreCounts) -> float | None:
    """Σ (Rₖ − Rₖ₋₁)·Pₖ as the threshold falls through every score; None without positives."""
    total = counts.positives.sum()
    used = counts.negatives + counts.positives > 0  # an empty bin is no threshold
    positives, negatives = counts.positives[used][::-1], counts.negatives[used][::-1]
    tp, fp = np.cumsum(positives), np.cumsum(negatives)
    return float((positives / total * (tp / (tp + fp))).sum()) if total else None


def platt_scaling(margin: Array, truth: Array) -> tuple[float, float]:
    """Fit scale and shift so that σ(scale·margin + shift) is the probability of `truth`.

    Platt 1999, by Newton's method, with his smoothed targets: separable scores do not become
    certain. Raises DataError when one class is absent.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not (positives and negatives):
        raise DataError(
            f"Platt scaling: {positives} positive and {negatives} negative scores found, expected "
            "at least one of each; calibrate on data with both classes"
        )
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = float(margin.std()) or 1.0
    X = np.stack([margin / spread, np.ones(len(margin))], 1)  # (N, 2)
    w = np.array([0.0, np.log((positives + 1) / (negatives + 1))])

    def loss(w: Array) -> float:
        z = X @ w
        return float((np.logaddexp(0, z) - target * z).sum())

    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-X @ w))
        gradient = X.T @ (p - target)
        hessian = (X.T * (p * (1 - p))) @ X + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(w - step) > loss(w) and np.abs(step).max() > 1e-12:
            step = step / 2
        w = w - step
    return float(w[0] / spread), float(w[1])
