"""Scores of semantic segmentation, out-of-distribution detection and forecasts.

    confusion = Confusion(("road", "car"), ignore=255)
    for labels, truth in pairs:
        confusion.add(labels, truth)
    scores = confusion.scores(movable=(1,))

Counts are accumulated over the whole data set before division, never averaged over images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamvis.errors import DataError
from streamvis.evaluation.ranking import ScoreCounts, average_precision, roc_auc
from streamvis.messages import Array

CELLS = 1 << 16  # histogram bins of outlier scores from 0 to 1
TENTHS = 10
RECALL = 0.95  # recall at which false positives are measured


@dataclass(frozen=True)
class SegmentationScores:
    """Scores in [0, 1]; None if undefined."""

    pictures: int
    pixels: int  # without ignored ones
    miou: float | None  # mean IoU of the classes in the truth or the prediction
    movable_miou: float | None  # of movable classes
    per_class: dict[str, float | None]  # IoU
    skipped: list[str]  # classes in neither truth nor prediction, left out of all means
    accuracy: float | None  # share of correct pixels
    class_accuracy: float | None  # mean of the accuracies of the classes
    confusion: list[list[int]]  # [prediction][truth]


class Confusion:
    """The confusion matrix of pixels over any number of images."""

    def __init__(self, names: Sequence[str], ignore: int) -> None:
        self.names = tuple(names)
        self.ignore = ignore
        self.pictures = 0
        self.counts = np.zeros((len(names), len(names)), np.int64)  # [prediction, truth]

    def add(self, said: Array, truth: Array) -> None:
        """Count the labels of one image, two integer arrays of one shape.

        Pixels whose truth is `ignore` are dropped. Raises DataError for any other label that is
        not a class.
        """
        if said.shape != truth.shape:
            raise DataError(
                f"labels of {_size(said)} pixels were found for a truth of {_size(truth)}, "
                "expected the same size"
            )
        counted = truth != self.ignore
        rows = self._classes(said[counted], "found")
        columns = self._classes(truth[counted], "of the truth")
        k = len(self.names)
        self.counts += np.bincount(rows * k + columns, minlength=k * k).reshape(k, k)
        self.pictures += 1

    def _classes(self, labels: Array, whose: str) -> Array:
        """Return the labels as int64, checked to be in 0 … K−1."""
        if labels.dtype.kind not in "iu":
            raise DataError(f"labels {whose} are of type {labels.dtype}; expected integers")
        last = len(self.names) - 1
        if labels.size and (labels.min() < 0 or labels.max() > last):
            wrong = labels[(labels < 0) | (labels > last)]
            raise DataError(
                f"a label {whose} is {wrong[0]} ({len(wrong)} pixels are no class); expected "
                f"0 to {last} ({self.names[0]} … {self.names[last]}), or {self.ignore} for what "
                "does not count. Is this the class list of these labels?"
            )
        return labels.astype(np.int64)

    def iou(self) -> Array:
        """Return intersection over union (K,), TP / (TP + FP + FN); NaN for an empty union."""
        right = np.diag(self.counts)
        return _share(right, self.counts.sum(0) + self.counts.sum(1) - right)

    def miou(self, classes: Sequence[int] | None = None) -> float | None:
        """Return the mean IoU of all or of given classes, without empty unions."""
        iou = self.iou()
        return _mean(iou if classes is None else iou[list(classes)])

    def scores(self, movable: Sequence[int] = ()) -> SegmentationScores:
        """Return all scores; `movable` are the indices of movable classes."""
        right, iou = np.diag(self.counts), self.iou()
        pixels = int(self.counts.sum())
        shares = [None if np.isnan(share) else float(share) for share in iou]
        per_class = dict(zip(self.names, shares, strict=True))
        return SegmentationScores(
            pictures=self.pictures,
            pixels=pixels,
            miou=self.miou(),
            movable_miou=self.miou(movable),
            per_class=per_class,
            skipped=[name for name, share in per_class.items() if share is None],
            accuracy=float(right.sum() / pixels) if pixels else None,
            class_accuracy=_mean(_share(right, self.counts.sum(0))),
            confusion=self.counts.tolist(),
        )


def gap_closed(copied: float | None, forecast: float | None, oracle: float | None) -> float | None:
    """Return the share of the gap between copy-last baseline and oracle that a forecast closes.

    1 equals the oracle, a negative share is worse than the baseline. None without a gap.
    """
    if copied is None or forecast is None or oracle is None or oracle <= copied:
        return None
    return (forecast - copied) / (oracle - copied)


class ReliabilityBin(NamedTuple):
    """One bin of the reliability diagram."""

    predicted: float  # mean predicted probability
    observed: float  # observed frequency
    samples: int


class Reliability:
    """The reliability diagram of probabilities: predicted against observed frequency."""

    def __init__(self) -> None:
        self.sums = np.zeros((3, TENTHS))  # sums of probabilities, of positives, of all

    def add(self, predicted: Array, observed: Array) -> None:
        """Count probabilities and outcomes (bool), arrays of one shape."""
        tenth = (predicted * TENTHS).astype(np.int64).clip(0, TENTHS - 1).ravel()
        for row, weights in zip(
            self.sums, (predicted, observed, np.ones(predicted.shape)), strict=True
        ):
            row += np.bincount(tenth, weights.ravel().astype(np.float64), TENTHS)

    def steps(self) -> list[ReliabilityBin]:
        """Return the nonempty bins by rising probability."""
        return [ReliabilityBin(p / n, hits / n, int(n)) for p, hits, n in self.sums.T.tolist() if n]

    def unsure(self) -> ReliabilityBin | None:
        """Return all but the first and the last bin, merged into one; None if empty."""
        predicted, observed, samples = self.sums[:, 1:-1].sum(1).tolist()
        return (
            ReliabilityBin(predicted / samples, observed / samples, int(samples))
            if samples
            else None
        )


@dataclass(frozen=True)
class OutlierScores:
    """Scores in [0, 1]; None if undefined."""

    pictures: int
    pixels: int  # without ignored ones
    unknown: float | None  # share of outlier pixels: the AP of chance
    ap: float | None  # Σ (Rₖ − Rₖ₋₁)·Pₖ
    fpr95: float | None  # false positive rate at 95 % recall
    auroc: float | None  # area under the ROC curve
    threshold: float | None  # the score at which `fpr95` is measured


class OutlierHistogram:
    """Outlier scores of pixels, accumulated in CELLS bins from 0 to 1: 1 MiB for any data set.

    Scores are rounded to multiples of 1/65 535; pixels within a bin are ties. All numbers are
    exact for the rounded scores.
    """

    def __init__(self) -> None:
        self.pictures = 0
        self.counts = np.zeros((2, CELLS), np.int64)  # known, unknown; by rising score

    def add(self, scores: Array, unknown: Array, counted: Array | None = None) -> None:
        """Count one image: scores in [0, 1] and bool arrays, all of one shape."""
        counted = np.ones(unknown.shape, bool) if counted is None else counted
        if not scores.shape == unknown.shape == counted.shape:
            raise DataError(
                f"outlier scores of {_size(scores)} pixels were found for a truth of "
                f"{_size(unknown)} and a mask of {_size(counted)}, expected the same size"
            )
        values = scores[counted]
        if values.size and not (values.min() >= 0 and values.max() <= 1):  # NaN is neither
            raise DataError(
                f"outlier scores from {values.min()} to {values.max()} were found; expected 0 "
                "(known) to 1 (unknown), none of them NaN"
            )
        cells = np.rint(values.astype(np.float64) * (CELLS - 1)).astype(np.int64)
        code = cells + CELLS * unknown[counted].astype(bool)
        self.counts += np.bincount(code, minlength=2 * CELLS).reshape(2, CELLS)
        self.pictures += 1

    def scores(self) -> OutlierScores:
        """Return AP, AUROC and the false positive rate at 95 % recall."""
        counts = ScoreCounts(*self.counts)
        known, unknown = self.counts.sum(1).tolist()
        there = np.flatnonzero(self.counts.any(0))[::-1]  # thresholds, falling
        negatives, positives = self.counts[:, there]
        fp, tp = np.cumsum(negatives), np.cumsum(positives)
        both = bool(known and unknown)
        at = int(np.argmax(tp >= np.ceil(RECALL * unknown - 1e-9))) if unknown else 0
        return OutlierScores(
            pictures=self.pictures,
            pixels=known + unknown,
            unknown=unknown / (known + unknown) if known + unknown else None,
            ap=average_precision(counts),
            fpr95=float(fp[at] / known) if both else None,
            auroc=roc_auc(counts),
            threshold=float(there[at] / (CELLS - 1)) if unknown else None,
        )


def _share(part: Array, whole: Array) -> Array:
    """Return part / whole, NaN if whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(shares: Array) -> float | None:
    known = shares[~np.isnan(shares)]
    return float(known.mean()) if len(known) else None


def _size(array: Array) -> str:
    return " × ".join(map(str, array.shape))
