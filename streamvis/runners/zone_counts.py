"""Zones and lines of a MOTChallenge sequence: detections of it, and what our stage counts."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.api.tracker import Tracker
from streamvis.config import Jipda, MaskRcnn
from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import Rows
from streamvis.errors import DataError
from streamvis.evaluation.mot import on_distractor
from streamvis.evaluation.zones import CountedCrossing, CountedVisit, SequenceTime, ZoneRecord
from streamvis.geometry import iou
from streamvis.messages import Frame, Packet, SourceInfo, Tracks
from streamvis.runners.tracker_inputs import Cues, TrackerFrame, from_detections, from_detector
from streamvis.runners.tracking import info_of, public_detections
from streamvis.stages.protocol import Site
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import (
    LineCross,
    LineRevise,
    Visit,
    ZoneBody,
    ZoneEnter,
    ZoneExit,
    ZoneRevise,
)
from streamvis.stages.zones.part import Zones
from streamvis.zone_layout import ZoneLayout

SOURCE = "sequence"


class TrackedFrame(NamedTuple):
    """The tracks of one frame."""

    number: int  # from 1
    media_us: int
    tracks: Tracks


def inputs_of(
    sequence: motchallenge.Sequence, cues: Cues, *, weights: str | None
) -> list[TrackerFrame]:
    """Return the input of a tracker in each frame, at the sequence's rate.

    weights: of our detector; None: the public detections. Detections of what is neither a person
    who counts nor a false one, as in MOT16, are left out.
    """
    info = info_of(sequence)
    if weights is not None:
        detect = MaskRcnn(weights=weights, masks=False)
        frames = from_detector(info, sequence.folder, detect, cues).frames
    elif sequence.detections is not None:
        parts = public_detections(sequence.detections, sequence.length)
        frames = from_detections(info, sequence.video, parts, cues).frames
    else:
        raise DataError(f"{sequence.folder} has no det/det.txt, the public detections")
    frames = [one._replace(media_us=round((one.number - 1) * 1e6 / sequence.fps)) for one in frames]
    return without_distractors(sequence, frames)


def without_distractors(
    sequence: motchallenge.Sequence, frames: Sequence[TrackerFrame]
) -> list[TrackerFrame]:
    """Leave out the detections that match a distractor, in sequences that have such classes."""
    truth = sequence.truth
    if truth is None or sequence.layout != "MOT16":
        return list(frames)
    at = truth.by_frame(sequence.length)
    kept = []
    for one in frames:
        people, found, looks = at[one.number - 1], one.detections, one.embeddings
        keep = ~on_distractor(people.classes, iou(people.boxes, found.boxes))
        if looks is not None:
            looks = msgspec.structs.replace(looks, vectors=looks.vectors[keep])
        kept.append(one._replace(detections=found[keep], embeddings=looks))
    return kept


def follow(
    sequence: motchallenge.Sequence, config: Jipda, frames: Iterable[TrackerFrame]
) -> list[TrackedFrame]:
    """Track people through the frames."""
    tracker = Tracker(
        sequence.fps,
        size=(sequence.width, sequence.height),
        ground_plane=sequence.ground_plane,
        **msgspec.structs.asdict(config),
    )
    return [
        TrackedFrame(
            one.number,
            one.media_us,
            tracker.update(
                one.detections, one.embeddings, motion=one.motion, time_s=one.media_us / 1e6
            ),
        )
        for one in frames
    ]


def count(
    sequence: motchallenge.Sequence,
    plane: tuple[float, ...] | None,
    layout: ZoneLayout,
    frames: Sequence[TrackedFrame],
) -> ZoneRecord:
    """Run the zones stage over the tracks, and return what it counted after all corrections.

    plane: the sequence's ground plane.
    """
    config = ZoneCounter(zones=layout.zones, lines=layout.lines, horizons_s=())
    stage = config.build(Site(device="cpu", pixels=lambda frame: np.zeros((0, 0, 3), np.uint8)))
    info = SourceInfo(
        id=SOURCE,
        label=sequence.name,
        width=sequence.width,
        height=sequence.height,
        fps=sequence.fps,
        live=False,
        ground_plane=plane,
    )
    stage.begin(info, None)  # type: ignore[attr-defined]  # a stage that remembers sources
    packets = [
        Packet(
            frame=Frame(
                source=SOURCE,
                seq=seq,
                n=one.number - 1,
                media_us=one.media_us,
                width=sequence.width,
                height=sequence.height,
            ),
            parts=[one.tracks],
        )
        for seq, one in enumerate(frames)
    ]
    parts = [part for part in stage(packets) if isinstance(part, Zones)]
    return record_of(layout, SequenceTime(sequence.length, sequence.fps), frames, parts)


def record_of(
    layout: ZoneLayout, time: SequenceTime, frames: Sequence[TrackedFrame], parts: Sequence[Zones]
) -> ZoneRecord:
    """Gather what the stage published: counts after all corrections, occupancy of each frame."""
    ledger = Ledger(layout)
    people, mean, occupied = (np.zeros((time.length, len(layout.zones))) for _ in range(3))
    for one, part in zip(frames, parts, strict=True):
        people[one.number - 1] = part.people
        mean[one.number - 1] = part.mean
        occupied[one.number - 1] = part.p_occupied
        for body in part.events:
            ledger.add(body)
    for last in parts[-1:]:
        for body in last.at_end:
            ledger.add(body)
    end_s = frames[-1].media_us / 1e6 if frames else 0.0
    return ZoneRecord(ledger.crossings(), ledger.visits(end_s), people, mean, occupied)


class Ledger:
    """The crossings and visits that were published, under their corrections."""

    def __init__(self, layout: ZoneLayout) -> None:
        self.zones = {zone.name: i for i, zone in enumerate(layout.zones)}
        self.lines = {line.name: i for i, line in enumerate(layout.lines)}
        self._crossings: list[tuple[str, str, str, int]] = []  # line, track, direction, µs
        self._visits: dict[tuple[str, str, int], int | None] = {}  # zone, track, entered -> left

    def add(self, body: ZoneBody) -> None:
        """Add an event; those that neither count nor correct are passed over."""
        match body:
            case LineCross(one):
                self._crossings.append((one.name, one.track, one.direction, one.at_us))
            case LineRevise(of):
                for was in of.was:
                    self._crossings.remove((of.name, was.track, was.direction, was.at_us))
                self._crossings += [
                    (of.name, now.track, now.direction, now.at_us) for now in of.now
                ]
            case ZoneEnter(entry):
                self._visits[entry.name, entry.track, entry.at_us] = None
            case ZoneExit(gone):
                self._visits[gone.name, gone.track, gone.entered_us] = gone.at_us
            case ZoneRevise(changed):
                for visit in changed.was:
                    del self._visits[_key(changed.name, visit)]
                for visit in changed.now:
                    self._visits[_key(changed.name, visit)] = visit.left_us
            case _:
                pass

    def crossings(self) -> list[CountedCrossing]:
        """Return the crossings that stand, by time."""
        found = [
            CountedCrossing(self.lines[name], way, at_us / 1e6)  # type: ignore[arg-type]
            for name, _, way, at_us in self._crossings
        ]
        return sorted(found, key=lambda one: one.at_s)

    def visits(self, end_s: float) -> list[CountedVisit]:
        """Return the visits that stand, by time; those that have not ended last until `end_s`."""
        found = [
            CountedVisit(
                self.zones[name],
                entered / 1e6,
                end_s if left is None else left / 1e6,
                ended=left is not None,
            )
            for (name, _, entered), left in self._visits.items()
        ]
        return sorted(found, key=lambda one: one.entered_s)


def _key(name: str, visit: Visit) -> tuple[str, str, int]:
    return (name, visit.track, visit.entered_us)


def ranked(rows: Rows) -> Rows:
    """Return rows whose scores are their ranks among all, shares from 0 to 1."""
    ranks = np.searchsorted(np.sort(rows.scores), rows.scores) / max(len(rows), 1)
    return replace(rows, scores=ranks)
