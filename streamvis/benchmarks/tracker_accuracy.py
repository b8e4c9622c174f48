"""How well our tracker and other people's follow MOTChallenge's public detections.

All take turns frame by frame. Ours reads scores as its own calibration understands them and has
one configuration for all sequences. The peers do not say what scores mean to them: they are given
a score's rank within the whole sequence, and the threshold of the best MOTA. That is picked with
the truth, for each sequence apart, which nobody can do in earnest and which favours them.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamvis.benchmarks import peers
from streamvis.benchmarks.peers import Follow, Reported
from streamvis.benchmarks.tracker_speed import OURS, ours
from streamvis.cli.output import put, put_table, say
from streamvis.config import Appearance, Jipda
from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import Rows
from streamvis.errors import DataError
from streamvis.evaluation.detection import detections_of
from streamvis.evaluation.mot import COMBINED, MotScores, evaluate, evaluate_all
from streamvis.messages import Detections, SourceInfo
from streamvis.runners import tracker_inputs, tracking
from streamvis.runners.tracker_inputs import TrackerFrame
from streamvis.tracking.tracker import Tracker

LOOKS = Appearance().weights  # of the embedder
ON_GROUND = f"{OURS}, on the ground"
SEEING = "with looks and camera motion"
SHOWN = ("mota", "idf1", "hota", "idsw")
NOTE = (
    "All are scored in the image. A peer's threshold, the share of the detections that are weaker, "
    "is that of the best MOTA, picked with the truth for each sequence, which favours them; ours "
    "has one configuration for all. Ours with looks and camera motion has seen the pictures, which "
    "the peers cannot use, and the time for which is not counted. "
    "Stone-Soup's parts were put together here (benchmarks/stone_soup.py)."
)


class Entry(NamedTuple):
    """One contender with one threshold, and what it is shown."""

    name: str
    threshold: float | None
    follow: Follow
    parts: Sequence[Detections]


class Result(NamedTuple):
    """What it made of a sequence."""

    entry: Entry
    rows: Rows
    hz: float
    scores: MotScores


def read(folders: Sequence[Path]) -> list[motchallenge.Sequence]:
    """The sequences of these folders; DataError where one cannot be followed and scored."""
    sequences = [one for folder in folders for one in motchallenge.read_sequences(folder)]
    tracking.check_sequences(sequences, public=True, pictures=False)
    for one in sequences:
        if one.detections is None:
            raise DataError(f"{one.folder} has no det/det.txt, the public detections")
    return sequences


def measure(sequences: Sequence[motchallenge.Sequence]) -> list[dict[str, Any]]:
    """Scores by contender and sequence, and of all sequences together."""
    best: dict[str, dict[str, Result]] = {}  # of each sequence, by contender
    for sequence in sequences:
        say(f"{sequence.name}: {sequence.length} frames")
        best[sequence.name] = _best(run(sequence, _entries(sequence)))
    found = [_row(name, one) for results in best.values() for name, one in results.items()]
    return found + _together(sequences, best)


def run(sequence: motchallenge.Sequence, entries: Sequence[Entry]) -> list[Result]:
    """Show the sequence to all, taking turns, and score what they report."""
    reported: list[list[Any]] = [[] for _ in entries]
    seconds = np.zeros(len(entries))
    for k in range(sequence.length):
        for i, entry in enumerate(entries):
            began = time.process_time()
            reported[i].append(entry.follow(entry.parts[k]))
            seconds[i] += time.process_time() - began
    results = []
    for entry, found, spent in zip(entries, reported, seconds, strict=True):
        rows = motchallenge.rows(
            frames=np.repeat(np.arange(1, len(found) + 1), [len(one.ids) for one in found]),
            ids=np.concatenate([one.ids for one in found]),
            boxes=np.concatenate([one.boxes for one in found]),
        )
        results.append(Result(entry, rows, sequence.length / spent, evaluate(sequence, rows)))
    return results


def _entries(sequence: motchallenge.Sequence) -> list[Entry]:
    rows = sequence.detections
    assert rows is not None  # `read` saw to it
    info = tracking.info_of(sequence)
    parts = tracking.public_detections(rows, sequence.length)
    places = {OURS: tracking.source_info(info, None)}
    if sequence.ground_plane:
        places[ON_GROUND] = tracking.source_info(info, sequence.ground_plane)
    entries = [Entry(name, None, ours(at, Jipda()), parts) for name, at in places.items()]
    if sequence.video:
        cues = tracker_inputs.Cues(LOOKS, camera=True)
        inputs = tracker_inputs.from_detections(info, sequence.video, parts, cues)
        entries += [
            Entry(f"{name}, {SEEING}", None, seeing(at, inputs.frames), parts)
            for name, at in places.items()
        ]
    ranks = np.searchsorted(np.sort(rows.scores), rows.scores) / max(len(rows), 1)
    parts = detections_of(replace(rows, scores=ranks), sequence.length)
    for name, peer in peers.installed()[0].items():
        entries += [Entry(name, at, peer.start(sequence.fps, at), parts) for at in peer.thresholds]
    return entries


def seeing(source: SourceInfo, frames: Sequence[TrackerFrame]) -> Follow:
    """Ours, told of looks and camera motion beside the detections of each frame."""
    tracker, left = Tracker(source, Jipda()), iter(frames)

    def follow(detections: Detections) -> Reported:
        one = next(left)
        tracks = tracker.update(detections, one.media_us, one.embeddings, one.motion)
        return Reported(tracks.ids, tracks.boxes)

    return follow


def _best(results: Sequence[Result]) -> dict[str, Result]:
    """Of each contender, what its best threshold led to."""
    ordered = sorted(results, key=lambda one: one.scores.mota)  # the best comes last, and stays
    last = {one.entry.name: one for one in ordered}
    return {one.entry.name: last[one.entry.name] for one in results}


def _together(
    sequences: Sequence[motchallenge.Sequence], best: Mapping[str, Mapping[str, Result]]
) -> list[dict[str, Any]]:
    """Scores of all sequences in sum; on the ground and with pictures where there are any."""
    rows = []
    for name in dict.fromkeys(name for results in best.values() for name in results):
        chosen = [_instead(best[one.name], name) for one in sequences]
        pairs = [(one, result.rows) for one, result in zip(sequences, chosen, strict=True)]
        frames = sum(one.length for one in sequences)
        seconds = sum(one.length / of.hz for one, of in zip(sequences, chosen, strict=True))
        total = evaluate_all(pairs)[-1]
        rows.append(_shown(COMBINED, name, None, total, frames / seconds))
    return rows


def _instead(results: Mapping[str, Result], name: str) -> Result:
    """What a contender made of a sequence, or the most like it where it could not take part."""
    blind = name.removesuffix(f", {SEEING}")
    flat = name.replace(ON_GROUND, OURS)
    return next(results[one] for one in (name, flat, blind, OURS) if one in results)


def _row(name: str, one: Result) -> dict[str, Any]:
    return _shown(one.scores.name, name, one.entry.threshold, one.scores, one.hz)


def _shown(
    sequence: str, tracker: str, threshold: float | None, scores: MotScores, hz: float
) -> dict[str, Any]:
    said = {key: getattr(scores, key) for key in SHOWN}
    hz = round(float(hz), 1)
    return {"sequence": sequence, "tracker": tracker, **said, "hz": hz, "threshold": threshold}


def put_scores(rows: Sequence[Mapping[str, Any]]) -> None:
    """The scores as a table."""
    columns = ("sequence", "tracker", *SHOWN, "hz", "threshold")
    table = [["" if row[key] is None else row[key] for key in columns] for row in rows]
    put_table("MOTChallenge's public detections", columns, table)
    put(NOTE)
