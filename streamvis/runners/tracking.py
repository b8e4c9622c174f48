"""Tracking scores: a tracker follows the people of MOTChallenge sequences and is scored."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamvis.api.tracker import Tracker
from streamvis.config import Jipda, MaskRcnn
from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import Rows, SequenceInfo
from streamvis.errors import DataError, UsageError
from streamvis.evaluation import identities
from streamvis.evaluation.detection import detections_of
from streamvis.evaluation.identities import IdentityTrace
from streamvis.evaluation.mot import COMBINED, Space, evaluate_all
from streamvis.messages import Detections
from streamvis.runners.tables import Table, with_mean
from streamvis.runners.tracker_inputs import (
    Cues,
    TrackerFrame,
    TrackerInputs,
    from_detections,
    from_detector,
)
from streamvis.tracking.score_calibration import ScoreCalibration

SHOWN = ("hota", "mota", "idf1", "deta", "assa", "motp", "idsw", "frag", "mt", "ml", "fp", "fn")


class TrackerRun(NamedTuple):
    """The tracks of a sequence, and the time that the tracker alone took."""

    rows: Rows
    frames: int
    seconds: float  # without decoding, detector and cues

    @property
    def hz(self) -> float:
        return self.frames / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class TrackingResult:
    """A sequence with ground truth, and the tracks that a tracker found in it."""

    sequence: motchallenge.Sequence
    run: TrackerRun
    cues: Cues
    note: str | None = None  # how the video's length differs from the sequence's
    inputs: tuple[TrackerFrame, ...] = ()  # of the tracker

    @property
    def on_ground(self) -> bool:
        """Whether the ground truth has world coordinates."""
        truth = self.sequence.truth
        return truth is not None and bool(np.isfinite(truth.world).all())

    def trace(self, space: Space) -> IdentityTrace:
        """Match tracks with people in every frame; in the image without world coordinates."""
        return identities.follow(self.sequence, self.run.rows, space if self.on_ground else "image")


def check_sequences(
    sequences: Sequence[motchallenge.Sequence], public: bool, pictures: bool
) -> None:
    """Raise DataError, before any tracking, for a sequence that cannot be scored or drawn."""
    for one in sequences:
        if one.truth is None:
            raise DataError(f"{one.folder} has no gt/gt.txt; it cannot be scored")
        if not one.truth.counting:
            raise DataError(
                f"{one.folder / 'gt/gt.txt'} has nobody to follow: of its {len(one.truth)} boxes "
                "none is of a pedestrian who is to be scored"
            )
        if one.video is None and (pictures or not public):
            way_out = (
                "leave out --switches" if public else "follow its det/det.txt: --detections public"
            )
            raise DataError(
                f"{one.folder} has neither the video that seqinfo.ini names nor img1/; {way_out}"
            )
    names = [one.name for one in sequences]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two sequences are called {name}; give each one once")


def result_paths(
    out: Path, sequences: Sequence[motchallenge.Sequence], *, overwrite: bool
) -> dict[str, Path]:
    """Return each sequence's file of tracks by name; UsageError for a name or file in the way."""
    paths = {one.name: out / f"{one.name}.txt" for one in sequences}
    for name, path in paths.items():
        if path.parent != out:
            raise UsageError(
                f"--out: the sequence is called {name}, which cannot be the name of a file"
            )
        if path.exists() and not overwrite:
            raise UsageError(
                f"{path} exists already; choose another --out, or replace it with --overwrite"
            )
    return paths


def track_public(
    sequence: motchallenge.Sequence, config: Jipda, cues: Cues, *, calibrate: bool = False
) -> TrackingResult:
    """Track the public detections, det/det.txt; the cues are measured in the video.

    calibrate: see `public_detections`.
    """
    if sequence.detections is None:
        raise DataError(f"{sequence.folder} has no det/det.txt, the public detections")
    info = info_of(sequence)
    parts = public_detections(sequence.detections, sequence.length, calibrate=calibrate)
    return _track(sequence, config, from_detections(info, sequence.video, parts, cues), cues)


def track_detected(
    sequence: motchallenge.Sequence, config: Jipda, weights: str, cues: Cues
) -> TrackingResult:
    """Track the detections of our own detector."""
    detect = MaskRcnn(weights=weights, masks=False)
    inputs = from_detector(info_of(sequence), sequence.folder, detect, cues)
    return _track(sequence, config, inputs, cues)


def _track(
    sequence: motchallenge.Sequence, config: Jipda, inputs: TrackerInputs, cues: Cues
) -> TrackingResult:
    run = run_tracker(info_of(sequence), sequence.ground_plane, config, inputs.frames)
    return TrackingResult(sequence, run, cues, inputs.note, tuple(inputs.frames))


def public_detections(rows: Rows, length: int, *, calibrate: bool = False) -> list[Detections]:
    """Return the detections of frames 1 to `length`, with scores as probabilities.

    Scores in [0, 1] are taken for probabilities unless `calibrate`; others are calibrated, from
    the scores of this frame and of those before it alone.
    """
    calibration = ScoreCalibration(believe_shares=not calibrate)
    found = [calibration(at.scores) for at in rows.by_frame(length)]
    in_order = rows.where(np.argsort(rows.frames, kind="stable"))
    calibrated = replace(in_order, scores=np.concatenate([np.zeros(0), *found]))
    return detections_of(calibrated, length)


def run_tracker(
    info: SequenceInfo, plane: Path | None, config: Jipda, frames: Iterable[TrackerFrame]
) -> TrackerRun:
    """Update a tracker with each frame, and take the time of the updates.

    plane: a file with the sequence's ground plane.
    """
    settings = msgspec.structs.asdict(config)
    tracker = Tracker(info.fps, size=(info.width, info.height), ground_plane=plane, **settings)
    found = []
    seconds = 0.0
    for one in frames:
        start = time.perf_counter()
        tracks = tracker.update(
            one.detections, one.embeddings, motion=one.motion, time_s=one.media_us / 1e6
        )
        seconds += time.perf_counter() - start
        found.append((one.number, tracks))
    return TrackerRun(motchallenge.rows_of_tracks(found), len(found), seconds)


def info_of(sequence: motchallenge.Sequence) -> SequenceInfo:
    """Return the content of the sequence's seqinfo.ini."""
    return SequenceInfo(
        sequence.name,
        sequence.fps,
        sequence.width,
        sequence.height,
        sequence.length,
        sequence.video,
    )


def report(results: Sequence[TrackingResult], space: Space) -> list[dict[str, Any]]:
    """Score each sequence and all together: in the image, and on the ground if asked for.

    `hz` is frames per second of the tracker's update alone, without decoding, detector and cues.
    """
    scores = evaluate_all([(one.sequence, one.run.rows) for one in results])
    seconds = [one.run.seconds for one in results]
    frames = [one.run.frames for one in results]
    rates = np.divide([*frames, sum(frames)], np.maximum([*seconds, sum(seconds)], 1e-9))
    cues = [one.cues for one in results]
    used = [*cues, cues[0] if len(set(cues)) == 1 else Cues()]  # of all together
    rows = [
        {**asdict(one), "hz": float(hz), **of._asdict()}
        for one, hz, of in zip(scores, rates, used, strict=True)
    ]
    if space == "ground":
        ground = _on_ground(results)
        rows = [{**row, "ground": ground.get(row["name"])} for row in rows]
    return rows


def _on_ground(results: Sequence[TrackingResult]) -> dict[str, dict[str, Any]]:
    """Score the sequences that have world coordinates, and these together, by name."""
    placed = [one for one in results if one.on_ground]
    if not placed:
        raise DataError(
            "no sequence has world coordinates in columns 8-10 of its gt/gt.txt; "
            "match in the image: --space image"
        )
    scores = evaluate_all([(one.sequence, one.run.rows) for one in placed], "ground")
    return {one.name: asdict(one) for one in scores}


def tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Yield the scores of `report`: in the image, and on the ground where it has them."""
    table = [[row["name"], *(row[key] for key in SHOWN), round(row["hz"])] for row in rows]
    yield _with_mean(Table("", ("name", *SHOWN, "hz"), table))
    ground = [(row["name"], row["ground"]) for row in rows if row.get("ground")]
    if ground:
        table = [[name, *(one[key] for key in SHOWN)] for name, one in ground]
        yield _with_mean(Table("On the ground: matched within 1 m", ("name", *SHOWN), table))


def _with_mean(table: Table) -> Table:
    """Add the mean over sequences before the row of all together, in which long ones count more."""
    single = [row for row in table.rows if row[0] != COMBINED]
    together = [row for row in table.rows if row[0] == COMBINED]
    return table._replace(rows=[*with_mean(table._replace(rows=single)).rows, *together])
