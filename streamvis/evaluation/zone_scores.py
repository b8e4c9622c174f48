"""Scores of counted zones and lines against what happened: counts, dwell, events, occupancy.

    scores = score_zones(truth, counted)

Several records, of sequences or of random layouts, are scored together by `pooled`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.evaluation.zones import CountedVisit, ZoneRecord
from streamvis.messages import Array

NEAR_S = 0.5  # an event is found when it is counted within this time of when it happened
BINS = 10  # of the reliability table
MOST_PEOPLE = 5  # last row of the table of expected numbers


@dataclass(frozen=True)
class EventScore:
    """How many events of one type were found."""

    found: int = 0  # counted within NEAR_S of when they happened
    false: int = 0  # counted, but did not happen
    missed: int = 0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 where nothing happened and nothing counted."""
        all_ = 2 * self.found + self.false + self.missed
        return 2 * self.found / all_ if all_ else 1.0

    def __add__(self, other: "EventScore") -> "EventScore":
        return EventScore(
            self.found + other.found, self.false + other.false, self.missed + other.missed
        )


@dataclass(frozen=True)
class CountScore:
    """Counts of several lines or zones, against true ones."""

    true: int = 0
    counted: int = 0
    off: int = 0  # |counted − true| of each line and direction, or of each zone, summed

    @property
    def error(self) -> float:
        """Sum of the errors over the sum of the true counts."""
        return self.off / self.true if self.true else float(self.off > 0)

    def __add__(self, other: "CountScore") -> "CountScore":
        return CountScore(
            self.true + other.true, self.counted + other.counted, self.off + other.off
        )


class ReliabilityBin(NamedTuple):
    """Frames × zones whose probability was in a range."""

    low: float
    high: float
    number: int
    predicted: float | None  # mean probability; None without any
    observed: float | None  # share that was occupied


@dataclass(frozen=True)
class ZoneScores:
    """Scores of one contender."""

    lines: CountScore  # by line and direction
    line_sums: CountScore  # by line, both directions together
    zones: CountScore  # visits by zone
    enter: EventScore
    exit: EventScore
    cross: EventScore
    dwell_s: float | None  # mean |error| of the duration of matched visits, seconds
    dwell_matched: int  # matched visits
    dwell_total: float  # |counted − true| seconds in each zone, summed, over the true ones
    reliability: list[ReliabilityBin]
    calibration_error: float  # expected calibration error of p_occupied
    brier: float  # mean squared error of p_occupied
    people_error: float  # mean |expected − true| number of people
    people_bias: float  # mean of expected − true
    people_table: list[ReliabilityBin]  # expected number of people against the true one

    @property
    def events(self) -> EventScore:
        return self.enter + self.exit + self.cross


def score_zones(truth: ZoneRecord, counted: ZoneRecord, lines: int) -> ZoneScores:
    """Score one record; `lines`: number of lines of the layout."""
    return pooled([(truth, counted, lines)])


def pooled(records: Sequence[tuple[ZoneRecord, ZoneRecord, int]]) -> ZoneScores:
    """Score several records together: true, counted, number of lines."""
    true, counted, sums = CountScore(), CountScore(), CountScore()
    enter, leave, cross = EventScore(), EventScore(), EventScore()
    errors: list[float] = []
    seconds = off_seconds = 0.0
    for truth, found, lines in records:
        true += _crossing_counts(truth, found, lines, by_way=True)
        sums += _crossing_counts(truth, found, lines, by_way=False)
        counted += _visit_counts(truth, found)
        cross += _events(
            *(((c.line, c.way, c.at_s) for c in one.crossings) for one in (truth, found))
        )
        enter += _events(
            *(((v.zone, "", v.entered_s) for v in one.visits) for one in (truth, found))
        )
        leave += _events(
            *(((v.zone, "", v.left_s) for v in one.visits if v.ended) for one in (truth, found))
        )
        errors += _dwell_errors(truth, found)
        zones = truth.people.shape[1]
        spent, said = _seconds(truth.visits, zones), _seconds(found.visits, zones)
        seconds += float(spent.sum())
        off_seconds += float(np.abs(spent - said).sum())
    p = np.concatenate([found.p_occupied.ravel() for _, found, _ in records])
    mean = np.concatenate([found.mean.ravel() for _, found, _ in records])
    people = np.concatenate([truth.people.ravel() for truth, _, _ in records])
    bins = reliability(p, people > 0)
    return ZoneScores(
        lines=true,
        line_sums=sums,
        zones=counted,
        enter=enter,
        exit=leave,
        cross=cross,
        dwell_s=float(np.mean(errors)) if errors else None,
        dwell_matched=len(errors),
        dwell_total=off_seconds / max(seconds, 1e-9),
        reliability=bins,
        calibration_error=calibration_error(bins),
        brier=float(np.mean((p - (people > 0)) ** 2)) if len(p) else 0.0,
        people_error=float(np.abs(mean - people).mean()) if len(p) else 0.0,
        people_bias=float((mean - people).mean()) if len(p) else 0.0,
        people_table=_table(mean, people, np.arange(-0.5, MOST_PEOPLE + 1)),
    )


def reliability(p: Array, happened: Array) -> list[ReliabilityBin]:
    """Compare probabilities (N,) with what happened (N,) in ten bins."""
    return _table(p, happened, np.linspace(0, 1, BINS + 1))


def calibration_error(bins: Iterable[ReliabilityBin]) -> float:
    """Return the mean |predicted − observed|, weighted by the number in each bin."""
    filled = [
        (one.number, abs(one.predicted - one.observed))
        for one in bins
        if one.predicted is not None and one.observed is not None
    ]
    total = sum(number for number, _ in filled)
    return sum(number * gap for number, gap in filled) / max(total, 1)


def _table(predicted: Array, observed: Array, edges: Array) -> list[ReliabilityBin]:
    """Split by the predicted value; the first and the last bin are open."""
    of = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, len(edges) - 2)
    found = []
    for i, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        here = of == i
        means = [float(v[here].mean()) if here.any() else None for v in (predicted, observed)]
        found.append(ReliabilityBin(max(low, 0.0), high, int(here.sum()), *means))
    return found


def _crossing_counts(
    truth: ZoneRecord, found: ZoneRecord, lines: int, *, by_way: bool
) -> CountScore:
    counts = np.zeros((2, lines, 2), np.int64)
    for which, record in enumerate((truth, found)):
        for one in record.crossings:
            counts[which, one.line, int(by_way and one.way == "right_to_left")] += 1
    return _count_score(*counts)


def _visit_counts(truth: ZoneRecord, found: ZoneRecord) -> CountScore:
    zones = truth.people.shape[1]
    return _count_score(
        *(np.bincount([v.zone for v in one.visits], minlength=zones) for one in (truth, found))
    )


def _count_score(true: Array, counted: Array) -> CountScore:
    return CountScore(int(true.sum()), int(counted.sum()), int(np.abs(true - counted).sum()))


def _events(
    true: Iterable[tuple[int, str, float]], found: Iterable[tuple[int, str, float]]
) -> EventScore:
    """Match events of the same shape and direction in time, as many as possible."""
    by_shape: dict[tuple[int, str], tuple[list[float], list[float]]] = {}
    for which, events in enumerate((true, found)):
        for shape, way, at_s in events:
            by_shape.setdefault((shape, way), ([], []))[which].append(at_s)
    score = EventScore()
    for happened, counted in by_shape.values():
        apart = np.abs(np.subtract.outer(np.array(happened), np.array(counted)))  # (T, C)
        worth = np.where(apart <= NEAR_S + 1e-9, 10.0 - apart, 0.0)
        matched = int((worth[linear_sum_assignment(worth, maximize=True)] > 0).sum())
        score += EventScore(matched, len(counted) - matched, len(happened) - matched)
    return score


def _dwell_errors(truth: ZoneRecord, found: ZoneRecord) -> list[float]:
    """|error| of the duration of visits that are matched by their overlap in time."""
    errors: list[float] = []
    for zone in range(truth.people.shape[1]):
        true = [v for v in truth.visits if v.zone == zone]
        said = [v for v in found.visits if v.zone == zone]
        shared = np.array(
            [
                [max(min(a.left_s, b.left_s) - max(a.entered_s, b.entered_s), 0) for b in said]
                for a in true
            ]
        ).reshape(len(true), len(said))
        joint = np.array([[a.dwell_s + b.dwell_s for b in said] for a in true]).reshape(
            shared.shape
        )
        iou = shared / np.maximum(joint - shared, 1e-9)  # (T, S)
        for i, j in zip(*linear_sum_assignment(iou, maximize=True), strict=True):
            if iou[i, j] > 0:
                errors.append(abs(true[i].dwell_s - said[j].dwell_s))
    return errors


def _seconds(visits: Iterable[CountedVisit], zones: int) -> Array:
    """Return the time (Z,) that all people together spent in each zone."""
    spent = np.zeros(zones)
    for visit in visits:
        spent[visit.zone] += visit.dwell_s
    return spent
