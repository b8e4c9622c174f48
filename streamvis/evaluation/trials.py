"""Statistics of repeated trials: means with standard errors, paired differences, held-out choices.

A *cell* is a sequence with one kind of input; its scores are of several copies of that input. The
copies of a cell share most of their detections, so their standard error tells how far chance in
the detections moves a score. A group's is over its cells: how far another sequence of this kind
would move it.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal, TypeVar

import msgspec
import numpy as np

Metric = Literal["mota", "idf1", "hota", "idsw"]
METRICS: tuple[Metric, ...] = ("mota", "idf1", "hota", "idsw")
LESS_IS_BETTER: frozenset[Metric] = frozenset({"idsw"})
T = TypeVar("T", bound=Hashable)


class TrialScore(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one trial: one copy of one cell."""

    group: str
    sequence: str
    inputs: str  # such as "own detections, embeddings"
    copy: int
    mota: float
    idf1: float
    hota: float
    idsw: int

    @property
    def cell(self) -> tuple[str, str]:
        return self.sequence, self.inputs


class MeanError(msgspec.Struct, frozen=True):
    """A mean with its standard error, None for a single value."""

    mean: float
    error: float | None
    n: int


class TrialSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of a cell, or of a group of cells with the same inputs."""

    name: str
    inputs: str
    mota: MeanError
    idf1: MeanError
    hota: MeanError
    idsw: MeanError


class HeldOutChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates chosen by leave-one-sequence-out: what the choice is worth on unseen sequences."""

    metric: Metric
    chosen: str  # on all sequences that decide
    folds: dict[str, str]  # sequence left out -> candidate chosen on the others
    means: dict[str, float]  # candidate -> mean over the sequences that decide
    gain: MeanError  # of the folds' choices on their own sequences, over the first candidate


def mean_error(values: Sequence[float]) -> MeanError:
    """Return the mean and s/√n, with s² = Σ (v − mean)² / (n − 1)."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
    return MeanError(float(np.mean(values)), error, n)


def by_cell(scores: Iterable[TrialScore]) -> list[TrialSummary]:
    """Summarise each sequence with each kind of input, over its copies."""
    cells = _grouped(scores, lambda one: one.cell)
    return [_summary(*cell, partial(_values, own)) for cell, own in cells.items()]


def by_group(scores: Iterable[TrialScore]) -> list[TrialSummary]:
    """Summarise each group with each kind of input: over its sequences' means, or one's copies."""
    groups = _grouped(scores, lambda one: (one.group, one.inputs))
    return [_summary(*group, partial(_cell_values, own)) for group, own in groups.items()]


def differences(
    before: Iterable[TrialScore], after: Iterable[TrialScore]
) -> tuple[list[TrialScore], int]:
    """Return after − before of each trial that both have, and the number of those in one alone."""
    old = {(*one.cell, one.copy): one for one in before}
    new = {(*one.cell, one.copy): one for one in after}
    both = [(old[key], one) for key, one in new.items() if key in old]
    changed = [
        msgspec.structs.replace(
            one, **{metric: getattr(one, metric) - getattr(was, metric) for metric in METRICS}
        )
        for was, one in both
    ]
    return changed, len(old.keys() ^ new.keys())


def leave_one_out(
    candidates: Mapping[str, Sequence[TrialScore]], metric: Metric, not_deciding: Iterable[str]
) -> HeldOutChoice | None:
    """Choose among candidates on all sequences but one, and score the choice on that one.

    All inputs of a sequence are left out together. The first candidate is the one to beat.
    `not_deciding`: sequences without a say, such as those that networks were trained on. A tie
    goes to the earlier candidate. Trials that some candidate lacks are left out; None where less
    than two sequences decide.
    """
    left_out = set(not_deciding)
    sign = -1 if metric in LESS_IS_BETTER else 1
    shared = set.intersection(
        *({(*one.cell, one.copy) for one in scores} for scores in candidates.values())
    )
    table = {
        name: {
            sequence: float(np.mean(_cell_values(own, metric)))
            for sequence, own in _grouped(
                (one for one in scores if (*one.cell, one.copy) in shared),
                lambda one: one.sequence,
            ).items()
            if sequence not in left_out
        }
        for name, scores in candidates.items()
    }
    first = next(iter(table.values()))
    if len(first) < 2:
        return None

    def best(sequences: Sequence[str]) -> str:
        return max(table, key=lambda name: sign * sum(table[name][one] for one in sequences))

    folds = {one: best([other for other in first if other != one]) for one in first}
    return HeldOutChoice(
        metric=metric,
        chosen=best(list(first)),
        folds=folds,
        means={name: float(np.mean(list(own.values()))) for name, own in table.items()},
        gain=mean_error([table[name][one] - first[one] for one, name in folds.items()]),
    )


def _summary(name: str, inputs: str, values: Callable[[Metric], list[float]]) -> TrialSummary:
    mota, idf1, hota, idsw = (mean_error(values(metric)) for metric in METRICS)
    return TrialSummary(name=name, inputs=inputs, mota=mota, idf1=idf1, hota=hota, idsw=idsw)


def _values(scores: Iterable[TrialScore], metric: Metric) -> list[float]:
    return [float(getattr(one, metric)) for one in scores]


def _cell_values(scores: Iterable[TrialScore], metric: Metric) -> list[float]:
    """Return the means of the cells; the copies' values of a single cell."""
    cells = [_values(own, metric) for own in _grouped(scores, lambda one: one.cell).values()]
    return cells[0] if len(cells) == 1 else [float(np.mean(own)) for own in cells]


def _grouped(
    scores: Iterable[TrialScore], key: Callable[[TrialScore], T]
) -> dict[T, list[TrialScore]]:
    groups: dict[T, list[TrialScore]] = {}
    for one in scores:
        groups.setdefault(key(one), []).append(one)
    return groups
