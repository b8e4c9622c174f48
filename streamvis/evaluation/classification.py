"""Scores of clip classification: accuracy over clips and classes, and ranking of two classes.

    scores = evaluate(logits, truth, names=("fight", "normal"))

Published numbers of UCF-101 and HMDB-51 are `mean_class`, averaged over three splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamvis.errors import DataError
from streamvis.evaluation import ranking
from streamvis.messages import Array

BINS = 10  # of confidence


@dataclass(frozen=True)
class ClassificationScores:
    """Scores in [0, 1]; None if undefined."""

    clips: int
    top1: float  # share of clips whose highest score is correct
    mean_class: float  # mean of the accuracies of the classes
    per_class: dict[str, float | None]
    confusion: list[list[int]]  # [truth][prediction]
    auc: float | None  # of two classes: area under the ROC curve
    ap: float | None  # of two classes: average precision of the positive one
    ece: float | None  # expected calibration error; None if scores are not probabilities


def evaluate(
    scores: Array,  # (N, K): probabilities, or logits
    truth: Array,  # (N,) int
    names: Sequence[str],
    *,
    positive: int = 0,  # of two classes, the positive one
) -> ClassificationScores:
    """Score clips; raises DataError if there are none, or if a score is not finite."""
    if len(truth) == 0 or scores.shape != (len(truth), len(names)):
        raise DataError(
            f"scores have shape {scores.shape}, expected one row for each of {len(truth)} clips "
            f"(at least one) and one column for each of {len(names)} actions"
        )
    if not np.isfinite(scores).all():
        raise DataError(
            "a clip's score is not finite; the weights of the network may be damaged: "
            "check them with `streamvis weights verify`"
        )
    said = scores.argmax(1)
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (truth, said), 1)
    counts = confusion.sum(1)
    right = np.diag(confusion)
    there = counts > 0
    two = len(names) == 2 and there.all()
    margin = scores[:, positive] - scores[:, 1 - positive] if two else np.empty(0)
    ranked = ranking.count(margin, truth == positive) if two else None
    return ClassificationScores(
        clips=len(truth),
        top1=float((said == truth).mean()),
        mean_class=float((right[there] / counts[there]).mean()),
        per_class={
            name: float(r / n) if n else None
            for name, r, n in zip(names, right, counts, strict=True)
        },
        confusion=confusion.tolist(),
        auc=ranking.roc_auc(ranked) if ranked else None,
        ap=ranking.average_precision(ranked) if ranked else None,
        ece=calibration_error(scores, truth) if _are_probabilities(scores) else None,
    )


def calibration_error(probabilities: Array, truth: Array) -> float:
    """Return the expected calibration error over BINS bins of confidence (Guo et al. 2017)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, right - confidence, BINS)  # Σ within each bin
    return float(np.abs(gap).sum() / len(truth))


def _are_probabilities(scores: Array) -> bool:
    return bool((scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3))
