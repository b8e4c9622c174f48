"""How well scenes are read: classes of pixels, what is unknown in them, what they will be next.

    confusion = Confusion(("road", "car"), ignore=255)
    for labels, truth in pairs:
        confusion.add(labels, truth)
    scores = confusion.scores(movable=(1,))

Everything is accumulated over a whole set before it is divided, never averaged over pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from streamvis.errors import DataError
from streamvis.evaluation.ranking import ScoreCounts, average_precision, roc_auc
from streamvis.messages import Array

CELLS = 1 << 16  # of outlier scores from 0 to 1
TENTHS = 10
FOUND_SHARE = 0.95  # of unknown pixels, at which false positives are read off


@dataclass(frozen=True)
class SegmentationScores:
    """Shares in [0, 1]; None where there was nothing to measure."""

    pictures: int
    pixels: int  # that count
    miou: float | None  # mean IoU of the classes that are there, or are said to be
    movable_miou: float | None  # of those that move
    per_class: dict[str, float | None]  # IoU
    skipped: list[str]  # classes neither there nor said: they count in no mean
    accuracy: float | None  # share of pixels that are right
    class_accuracy: float | None  # the same of the pixels of each class, averaged
    confusion: list[list[int]]  # [said][truth]


class Confusion:
    """Pixels by what was said and what is true, over any number of pictures."""

    def __init__(self, names: Sequence[str], ignore: int) -> None:
        self.names = tuple(names)
        self.ignore = ignore
        self.pictures = 0
        self.counts = np.zeros((len(names), len(names)), np.int64)  # [said, truth]

    def add(self, said: Array, truth: Array) -> None:
        """Count one picture's labels, two integer arrays of one shape.

        Pixels whose truth is `ignore` are dropped, whatever was said of them. DataError for any
        other label that is no class.
        """
        if said.shape != truth.shape:
            raise DataError(
                f"labels of {_size(said)} pixels were found for a truth of {_size(truth)}; "
                "expected the same size"
            )
        counted = truth != self.ignore
        rows = self._classes(said[counted], "found")
        columns = self._classes(truth[counted], "of the truth")
        k = len(self.names)
        self.counts += np.bincount(rows * k + columns, minlength=k * k).reshape(k, k)
        self.pictures += 1

    def _classes(self, labels: Array, whose: str) -> Array:
        """The labels as int64, each in 0 … K−1."""
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
        """Intersection over union (K,), TP / (TP + FP + FN); NaN where the union is empty."""
        right = np.diag(self.counts)
        return _share(right, self.counts.sum(0) + self.counts.sum(1) - right)

    def miou(self, classes: Sequence[int] | None = None) -> float | None:
        """Mean IoU of all classes, or of these; empty unions are skipped."""
        iou = self.iou()
        return _mean(iou if classes is None else iou[list(classes)])

    def scores(self, movable: Sequence[int] = ()) -> SegmentationScores:
        """All that is measured; `movable` are the classes of things that move."""
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
    """How much of the way from copying the last labels to seeing the future a forecast has come.

    1 is as good as seeing it; negative is worse than copying. None when there is no gap.
    """
    if copied is None or forecast is None or oracle is None or oracle <= copied:
        return None
    return (forecast - copied) / (oracle - copied)


class ReliabilityBin(NamedTuple):
    """What was told with probabilities of a tenth of their range."""

    told: float  # mean probability
    came: float  # share that came true
    places: int


class Reliability:
    """How often what was told with some probability came true."""

    def __init__(self) -> None:
        self.sums = np.zeros((3, TENTHS))  # of probabilities, of what came true, of all

    def add(self, told: Array, came: Array) -> None:
        """Probabilities, and whether it came true, of one shape."""
        tenth = (told * TENTHS).astype(np.int64).clip(0, TENTHS - 1).ravel()
        for row, what in zip(self.sums, (told, came, np.ones(told.shape)), strict=True):
            row += np.bincount(tenth, what.ravel().astype(np.float64), TENTHS)

    def steps(self) -> list[ReliabilityBin]:
        """Those that are there, by rising probability."""
        return [ReliabilityBin(p / n, hits / n, int(n)) for p, hits, n in self.sums.T.tolist() if n]

    def unsure(self) -> ReliabilityBin | None:
        """All that was neither nearly excluded nor nearly certain, in one."""
        told, came, places = self.sums[:, 1:-1].sum(1).tolist()
        return ReliabilityBin(told / places, came / places, int(places)) if places else None


@dataclass(frozen=True)
class OutlierScores:
    """Shares in [0, 1]; None where there was nothing to measure."""

    pictures: int
    pixels: int  # that count
    unknown: float | None  # share of them that are outliers: the AP of guessing
    ap: float | None  # Σ (Rₖ − Rₖ₋₁)·Pₖ
    fpr95: float | None  # share of known pixels flagged where 95 % of unknown ones are
    auroc: float | None  # an unknown pixel scores higher than a known one; ties count half
    threshold: float | None  # the score at which `fpr95` is reached


class OutlierHistogram:
    """Outlier scores of pixels, counted in CELLS cells from 0 to 1: a set of any size is 1 MiB.

    Scores are rounded to a 65 535th, and within a cell they are ties. For scores that are such
    multiples all numbers are exact; for others they are those of the rounded scores.
    """

    def __init__(self) -> None:
        self.pictures = 0
        self.counts = np.zeros((2, CELLS), np.int64)  # known, unknown; by rising score

    def add(self, scores: Array, unknown: Array, counted: Array | None = None) -> None:
        """Count one picture: scores in [0, 1] and bool arrays, all of one shape."""
        counted = np.ones(unknown.shape, bool) if counted is None else counted
        if not scores.shape == unknown.shape == counted.shape:
            raise DataError(
                f"outlier scores of {_size(scores)} pixels were found for a truth of "
                f"{_size(unknown)} and a mask of {_size(counted)}; expected the same size"
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
        """AP, false positives at 95 % found, AUROC: each over distinct scores as thresholds."""
        counts = ScoreCounts(*self.counts)
        known, unknown = self.counts.sum(1).tolist()
        there = np.flatnonzero(self.counts.any(0))[::-1]  # thresholds, coming down
        negatives, positives = self.counts[:, there]
        fp, tp = np.cumsum(negatives), np.cumsum(positives)
        both = bool(known and unknown)
        at = int(np.argmax(tp >= np.ceil(FOUND_SHARE * unknown - 1e-9))) if unknown else 0
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
    """part / whole, NaN where there is no whole."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(shares: Array) -> float | None:
    known = shares[~np.isnan(shares)]
    return float(known.mean()) if len(known) else None


def _size(array: Array) -> str:
    return " × ".join(map(str, array.shape))
