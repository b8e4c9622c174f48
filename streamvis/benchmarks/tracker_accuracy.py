"""Benchmark of the accuracy of our tracker and of others on MOTChallenge's public detections.

All trackers alternate frame by frame. Ours calibrates the scores itself and has one configuration
for all sequences. The others define no scale for scores: they get the rank of a score within its
whole sequence, and the threshold with the best MOTA. That threshold is chosen with the ground
truth, separately for each sequence, which favours them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.api.tracker import Tracker
from streamvis.benchmarks import peers
from streamvis.benchmarks.tracker_protocol import ReportedTracks, Update, rows_of
from streamvis.benchmarks.tracker_speed import OURS, our_tracker
from streamvis.config import Appearance
from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import Rows, SequenceInfo
from streamvis.errors import DataError
from streamvis.evaluation.detection import detections_of
from streamvis.evaluation.mot import COMBINED, MotScores, evaluate, evaluate_all
from streamvis.messages import Detections
from streamvis.runners import tracker_inputs, tracking
from streamvis.runners.tracker_inputs import TrackerFrame
from streamvis.runners.zone_counts import ranked

ON_GROUND = f"{OURS}, on the ground"
WITH_CUES = "with looks and camera motion"
EMBEDDER = Appearance().weights
NOTE = (
    "All are scored in the image. A peer's threshold, the share of the detections that are weaker, "
    "is that of the best MOTA, picked with the truth for each sequence, which favours them; ours "
    "has one configuration for all. Ours with looks and camera motion has seen the pictures, which "
    "the peers cannot use, and the time for which is not counted. "
    "Stone-Soup's parts were put together here (benchmarks/stone_soup.py)."
)


class TrackerScores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of one tracker on one sequence, or on all of them combined."""

    sequence: str
    tracker: str
    mota: float
    idf1: float
    hota: float
    idsw: int
    hz: float
    threshold: float | None  # None for ours, and for the combined sequences


class Entry(NamedTuple):
    """A tracker with one threshold, and the detections that it gets."""

    name: str
    threshold: float | None
    update: Update
    parts: Sequence[Detections]


class Result(NamedTuple):
    """The tracks and scores of an entry on one sequence."""

    entry: Entry
    rows: Rows
    hz: float
    scores: MotScores


def read(folders: Sequence[Path]) -> list[motchallenge.Sequence]:
    """Read the sequences of these folders; DataError for one that cannot be tracked and scored."""
    sequences = [one for folder in folders for one in motchallenge.read_sequences(folder)]
    tracking.check_sequences(sequences, public=True, pictures=False)
    for one in sequences:
        if one.detections is None:
            raise DataError(
                f"{one.folder} has no det/det.txt; expected the public detections of MOTChallenge"
            )
    return sequences


def measure(sequences: Iterable[motchallenge.Sequence]) -> list[TrackerScores]:
    """Score every tracker on each sequence, and on all sequences combined."""
    measured = []
    best: dict[str, dict[str, Result]] = {}  # sequence -> tracker -> result
    for sequence in sequences:
        measured.append(sequence)
        best[sequence.name] = _best(run(sequence, _entries(sequence)))
    each = [
        _scores(one.scores.name, name, one.entry.threshold, one.scores, one.hz)
        for results in best.values()
        for name, one in results.items()
    ]
    return each + _combined(measured, best)


def run(sequence: motchallenge.Sequence, entries: Sequence[Entry]) -> list[Result]:
    """Run all entries on the sequence, alternating frame by frame, and score their tracks."""
    reported: list[list[ReportedTracks]] = [[] for _ in entries]
    seconds = np.zeros(len(entries))
    for k in range(sequence.length):
        for i, entry in enumerate(entries):
            began = time.process_time()
            reported[i].append(entry.update(entry.parts[k]))
            seconds[i] += time.process_time() - began
    results = []
    for entry, found, spent in zip(entries, reported, seconds, strict=True):
        rows = rows_of(found)
        results.append(Result(entry, rows, sequence.length / spent, evaluate(sequence, rows)))
    return results


def _entries(sequence: motchallenge.Sequence) -> list[Entry]:
    rows = sequence.detections
    assert rows is not None  # checked by `read`
    info = tracking.info_of(sequence)
    parts = tracking.public_detections(rows, sequence.length)
    planes: dict[str, Path | None] = {OURS: None}
    if sequence.ground_plane:
        planes[ON_GROUND] = sequence.ground_plane
    size = (info.width, info.height)
    entries = [
        Entry(name, None, our_tracker(info.fps, size, plane), parts)
        for name, plane in planes.items()
    ]
    if sequence.video:
        cues = tracker_inputs.Cues(EMBEDDER, camera=True)
        inputs = tracker_inputs.from_detections(info, sequence.video, parts, cues)
        entries += [
            Entry(f"{name}, {WITH_CUES}", None, with_cues(info, plane, inputs.frames), parts)
            for name, plane in planes.items()
        ]
    parts = detections_of(ranked(rows), sequence.length)
    for name, peer in peers.installed()[0].items():
        entries += [Entry(name, at, peer.start(sequence.fps, at), parts) for at in peer.thresholds]
    return entries


def with_cues(info: SequenceInfo, plane: Path | None, frames: Sequence[TrackerFrame]) -> Update:
    """Start our tracker with the appearance embeddings and camera motion of each frame."""
    tracker = Tracker(info.fps, size=(info.width, info.height), ground_plane=plane)
    left = iter(frames)

    def update(detections: Detections) -> ReportedTracks:
        one = next(left)
        tracks = tracker.update(
            detections, one.embeddings, motion=one.motion, time_s=one.media_us / 1e6
        )
        return ReportedTracks(tracks.ids, tracks.boxes)

    return update


def _best(results: Sequence[Result]) -> dict[str, Result]:
    """The result of each tracker at its best threshold."""
    ordered = sorted(results, key=lambda one: one.scores.mota)  # the last one in the dict stays
    last = {one.entry.name: one for one in ordered}
    return {one.entry.name: last[one.entry.name] for one in results}


def _combined(
    sequences: Sequence[motchallenge.Sequence], best: Mapping[str, Mapping[str, Result]]
) -> list[TrackerScores]:
    """Scores over all sequences; with ground plane and pictures where a sequence has them."""
    rows = []
    for name in dict.fromkeys(name for results in best.values() for name in results):
        chosen = [_nearest(best[one.name], name) for one in sequences]
        pairs = [(one, result.rows) for one, result in zip(sequences, chosen, strict=True)]
        frames = sum(one.length for one in sequences)
        seconds = sum(one.length / of.hz for one, of in zip(sequences, chosen, strict=True))
        total = evaluate_all(pairs)[-1]
        rows.append(_scores(COMBINED, name, None, total, frames / seconds))
    return rows


def _nearest(results: Mapping[str, Result], name: str) -> Result:
    """The result of a tracker, or of its nearest variant where it could not take part."""
    without_cues = name.removesuffix(f", {WITH_CUES}")
    in_image = name.replace(ON_GROUND, OURS)
    return next(results[one] for one in (name, in_image, without_cues, OURS) if one in results)


def _scores(
    sequence: str, tracker: str, threshold: float | None, scores: MotScores, hz: float
) -> TrackerScores:
    return TrackerScores(
        sequence=sequence,
        tracker=tracker,
        mota=scores.mota,
        idf1=scores.idf1,
        hota=scores.hota,
        idsw=scores.idsw,
        hz=round(float(hz), 1),
        threshold=threshold,
    )
