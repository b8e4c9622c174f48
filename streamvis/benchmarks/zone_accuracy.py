"""Accuracy of zones and lines on MOTChallenge sequences: ours, and others on the same detections.

Zones and lines are random, of one or several seeds, and the same for all contenders. The peers'
trackers get the rank of a score within its sequence, and the threshold of the best MOTA, which is
chosen with the ground truth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from streamvis.benchmarks import peers
from streamvis.benchmarks.tracker_protocol import ReportedTracks, rows_of
from streamvis.benchmarks.zone_peers import INSTALL, counted_by_supervision
from streamvis.config import Jipda
from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import Rows
from streamvis.evaluation.detection import detections_of
from streamvis.evaluation.mot import evaluate
from streamvis.evaluation.zone_layouts import generated_layout
from streamvis.evaluation.zone_scores import ZoneScores, pooled
from streamvis.evaluation.zones import SequenceTime, ZoneRecord, true_record
from streamvis.geometry import read_ground_plane
from streamvis.messages import Detections
from streamvis.runners import zone_counts
from streamvis.runners.tables import Table
from streamvis.runners.tracker_inputs import TrackerFrame
from streamvis.zone_layout import ZoneLayout

OURS = "streamvis"
TRACKERS = ("SORT", "ByteTrack")
ALL = "all"  # name of the results of all sequences together
Pair = tuple[ZoneRecord, ZoneRecord, int]  # true, counted, number of lines


class ZoneResult(NamedTuple):
    """What one contender counted in the layouts of a sequence."""

    sequence: str
    detections: str  # own or public
    contender: str
    pairs: list[Pair]  # one for each seed

    @property
    def scores(self) -> ZoneScores:
        return pooled(self.pairs)


def layouts_of(
    sequence: motchallenge.Sequence, count: int, seeds: Sequence[int]
) -> list[ZoneLayout]:
    """Return the zones and lines of each seed."""
    assert sequence.truth is not None  # checked before
    size = (sequence.width, sequence.height)
    return [generated_layout(sequence.truth, size, sequence.fps, count, seed) for seed in seeds]


def measure(
    sequence: motchallenge.Sequence,
    kind: str,
    frames: Sequence[TrackerFrame],
    config: Jipda,
    layouts: Sequence[ZoneLayout],
    *,
    with_peers: bool,
) -> list[ZoneResult]:
    """Let everybody count in the layouts. kind: whose detections `frames` has."""
    assert sequence.truth is not None
    time, size = SequenceTime(sequence.length, sequence.fps), (sequence.width, sequence.height)
    truths = [true_record(sequence.truth, layout, time, size) for layout in layouts]
    plane = read_ground_plane(sequence.ground_plane) if sequence.ground_plane else None
    tracked = zone_counts.follow(sequence, config, frames)
    found = {OURS: [zone_counts.count(sequence, plane, layout, tracked) for layout in layouts]}
    others = peer_tracks(sequence, frames) if with_peers else {}
    for tracker, reported in others.items():
        for layout in layouts:
            for variant, record in counted_by_supervision(layout, reported, time, size).items():
                found.setdefault(f"{tracker}, {variant}", []).append(record)
    lines = [len(layout.lines) for layout in layouts]
    return [
        ZoneResult(sequence.name, kind, name, list(zip(truths, records, lines, strict=True)))
        for name, records in found.items()
    ]


def missing_peers() -> str | None:
    """Return how to install the peers, or None when they are there."""
    there = peers.imports("supervision") and peers.imports("trackers")
    return None if there else INSTALL


def peer_tracks(
    sequence: motchallenge.Sequence, frames: Sequence[TrackerFrame]
) -> dict[str, list[ReportedTracks]]:
    """Return the tracks of the installed peers in each frame, at the threshold of the best MOTA."""
    if missing_peers():
        return {}
    parts = detections_of(zone_counts.ranked(_rows(frames)), sequence.length)
    best: dict[str, list[ReportedTracks]] = {}
    for name in TRACKERS:
        peer = peers.PEERS[name]
        runs = [_run(peer, sequence.fps, at, parts) for at in peer.thresholds]
        best[name] = max(runs, key=lambda one: evaluate(sequence, rows_of(one)).mota)
    return best


def _run(
    peer: peers.Peer, fps: float, threshold: float, parts: Sequence[Detections]
) -> list[ReportedTracks]:
    update = peer.start(fps, threshold)
    return [update(part) for part in parts]


def _rows(frames: Sequence[TrackerFrame]) -> Rows:
    counts = [len(one.detections) for one in frames]
    return motchallenge.rows(
        frames=np.repeat([one.number for one in frames], counts),
        ids=np.full(sum(counts), -1),
        boxes=np.concatenate([np.zeros((0, 4)), *(one.detections.boxes for one in frames)]),
        scores=np.concatenate([np.zeros(0), *(one.detections.scores for one in frames)]),
    )


def with_totals(results: Sequence[ZoneResult]) -> list[ZoneResult]:
    """Add the results of all sequences together, where there are several."""
    if len({one.sequence for one in results}) < 2:
        return list(results)
    together: dict[tuple[str, str], list[Pair]] = {}
    for one in results:
        together.setdefault((one.detections, one.contender), []).extend(one.pairs)
    return [*results, *(ZoneResult(ALL, *key, pairs) for key, pairs in together.items())]


def report(results: Sequence[ZoneResult]) -> list[dict[str, Any]]:
    """Return the scores of each result, and the line count error of each seed."""
    return [_report(one) for one in results]


def _report(result: ZoneResult) -> dict[str, Any]:
    scores = result.scores
    found = {
        **{k: v for k, v in result._asdict().items() if k != "pairs"},
        **asdict(scores),
        "count_error": scores.lines.error,
        "visit_error": scores.zones.error,
        "event_f1": scores.events.f1,
        "count_error_by_seed": [pooled([pair]).lines.error for pair in result.pairs],
    }
    for name in ("lines", "line_sums", "zones"):
        found[name]["error"] = getattr(scores, name).error
    for name in ("enter", "exit", "cross"):
        found[name]["f1"] = getattr(scores, name).f1
    for name in ("reliability", "people_table"):
        found[name] = [row._asdict() for row in getattr(scores, name)]
    return found


def tables(results: Sequence[ZoneResult]) -> Iterator[Table | str]:
    """Yield the scores of all contenders side by side, and the reliability of our occupancy."""
    scored = [(one, one.scores) for one in results]
    named = [[one.sequence, one.detections, one.contender] for one, _ in scored]
    names = ("sequence", "detections", "contender")
    counts = [
        [
            *who,
            *(s.lines.true, s.lines.counted, s.lines.error, _spread(one), s.line_sums.error),
            *(s.zones.true, s.zones.counted, s.zones.error),
        ]
        for who, (one, s) in zip(named, scored, strict=True)
    ]
    yield Table(
        "Counts: crossings by line and direction, visits by zone. Error: |counted - true| summed, "
        "over the true sum",
        (
            *(*names, "crossings", "counted", "error", "by seed", "both ways"),
            *("visits", "counted", "error"),
        ),
        counts,
    )
    events = [
        [
            *who,
            *(s.cross.f1, s.enter.f1, s.exit.f1, s.dwell_s, s.dwell_matched, s.dwell_total),
            *(s.calibration_error, s.brier, s.people_error, s.people_bias),
        ]
        for who, (_, s) in zip(named, scored, strict=True)
    ]
    yield Table(
        "F1 of events within 0.5 s. Dwell: mean error of matched visits in s, error of all "
        "seconds. Occupancy: expected calibration error, Brier score, error and bias of the number",
        (
            *(*names, "cross", "enter", "exit", "dwell s", "visits", "all s"),
            *("ECE", "Brier", "people", "bias"),
        ),
        events,
    )
    for one, s in scored:
        if one.contender == OURS:
            yield from _reliability(f"{one.sequence}, {one.detections} detections", s)


def _spread(result: ZoneResult) -> str:
    errors = [pooled([pair]).lines.error for pair in result.pairs]
    return f"{min(errors):.3f}-{max(errors):.3f}"


def _reliability(where: str, scores: ZoneScores) -> Iterator[Table]:
    for title, bins in (
        ("probability that a zone is occupied", scores.reliability),
        ("expected number of people", scores.people_table),
    ):
        rows = [[f"{b.low:.1f}-{b.high:.1f}", b.number, b.predicted, b.observed] for b in bins]
        columns = ("range", "frames × zones", "published", "true")
        yield Table(f"{where}: {title}", columns, rows)
