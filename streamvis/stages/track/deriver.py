"""Derive the events of tracks. Pure.

The corrections of a frame are about earlier events only. So a reader that ignores them still sees
each id begin and end in turn.
"""

from typing import Any

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.events.deriver import LARGEST, Draft, FrameEvents, PublishPolicy
from streamvis.events.envelope import Box, EventBody, Reason
from streamvis.messages import Array, Findings, Frame, Packet, SourceInfo, Tracks
from streamvis.stages.track.events import (
    Association,
    BriefTrack,
    EndedTrack,
    EndReason,
    FrameTracks,
    Merge,
    Split,
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)
from streamvis.stages.track.people_count import (
    PeopleCount,
    count_frame,
    people_findings,
    start_epoch,
)

Splits = tuple[tuple[int, int, int], ...]  # id, other, since µs
Merges = tuple[tuple[int, int], ...]  # gone, kept


class OpenTrack(msgspec.Struct):
    """The last box of an open track, and when it was last published."""

    box: Box
    first_seen_us: int
    last_seen_us: int
    published_us: int


class TrackEventState(msgspec.Struct):
    """The state of the track events of one source."""

    source: str
    epoch: int  # stream epoch
    tracks: dict[int, OpenTrack] = {}
    newest: int = 0  # highest track number published in this stream epoch
    people_count: PeopleCount | None = None  # None: no frame had tracks


class TrackDeriver:
    """Derives the events of tracks of one source, and counts people."""

    def __init__(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> None:
        self.policy = policy
        self._state = (
            TrackEventState(source.id, source.epoch)
            if state is None
            else msgspec.msgpack.decode(state, type=TrackEventState)
        )

    def derive(self, packet: Packet) -> FrameEvents:
        """Return corrections, ends, then begins and updates.

        All but updates are always published. The tracker may name tracks that were never
        published, and repeat corrections.
        """
        state, frame, tracks = self._state, packet.frame, packet.part(Tracks)
        state.epoch = frame.epoch
        if tracks is None:
            return FrameEvents()
        corrections, into = _corrections(state, frame, tracks)
        ended = _ended_numbers(state, tracks, into)
        ends = [_track_end(state, number, "lost", into.get(number)) for number in ended]
        drafts = _present_tracks(state, frame, tracks, self.policy.every_us)
        state.people_count = state.people_count or PeopleCount()
        count_frame(state.people_count, track_prefix(state), frame, tracks, corrections)
        return FrameEvents(corrections, list[EventBody](ends), drafts)

    def frame_body(self, packet: Packet) -> EventBody | None:
        """Return the ids and boxes of the tracks in the frame."""
        tracks = packet.part(Tracks)
        if tracks is None:
            return None
        boxes = _rounded(tracks.boxes, 2)
        ids = [_track_id(self._state, number) for number in tracks.ids.tolist()]
        return FrameTracks(
            tuple(BriefTrack(name, tuple(box)) for name, box in zip(ids, boxes, strict=True))
        )

    def close(self, reason: Reason) -> list[EventBody]:
        """End all open tracks; in a new stream epoch, track numbers begin again at 1."""
        state = self._state
        ends = [_track_end(state, number, reason) for number in sorted(state.tracks)]
        if reason == "epoch":
            if state.people_count is not None:
                start_epoch(state.people_count, track_prefix(state))
            state.newest = 0
        return list[EventBody](ends)

    def findings(self, so_far: Findings) -> Findings:
        """Return the findings with the counts of people."""
        state = self._state
        if state.people_count is None:
            return so_far
        return people_findings(state.people_count, track_prefix(state), so_far)

    def state(self) -> bytes:
        """Return open tracks and counts."""
        return msgspec.msgpack.encode(self._state)


def track_prefix(state: TrackEventState) -> str:
    """Return the prefix of track ids: source and stream epoch."""
    return f"{state.source}:{state.epoch}"


def _track_id(state: TrackEventState, number: int) -> str:
    return f"{track_prefix(state)}:{number}"


def _corrections(
    state: TrackEventState, frame: Frame, tracks: Tracks
) -> tuple[list[EventBody], dict[int, int]]:
    """The corrections of a frame, and the merges as gone -> kept, by track number.

    The tracker may name tracks that were never published, and repeat corrections.
    """
    newest_before = state.newest
    state.newest = max(newest_before, int(tracks.ids.max(initial=0)))
    splits = tuple(
        Split(id=_track_id(state, number), other=_track_id(state, other), since_us=since_us)
        for number, other, since_us in published_splits(tracks, frame.media_us, newest_before)
    )
    into = dict(published_merges(tracks, newest_before))
    bodies: list[EventBody] = [TrackSplit(splits)] if splits else []
    bodies += [
        TrackMerge(Merge(gone=_track_id(state, gone), kept=_track_id(state, kept)))
        for gone, kept in into.items()
    ]
    return bodies, into


def published_splits(tracks: Tracks, media_us: int, newest: int) -> Splits:
    """Return the splits of a frame that are published: the first of each id.

    newest: highest track number before the frame.
    """
    newest_now = max(newest, int(tracks.ids.max(initial=0)))
    first: dict[int, tuple[int, int, int]] = {}
    for number, other, since_us in _rows(tracks.split):
        published = number <= newest and other <= newest_now
        if published and number != other and since_us < media_us:
            first.setdefault(number, (number, other, since_us))
    return tuple(first.values())


def published_merges(tracks: Tracks, newest: int) -> Merges:
    """Return the merges of a frame that are published, each into the id that is left in the end."""
    newest_now = max(newest, int(tracks.ids.max(initial=0)))
    into: dict[int, int] = {}
    for gone, kept in _rows(tracks.merged):
        while kept in into:
            kept = into[kept]
        if gone <= newest and kept <= newest_now and gone != kept:
            into.setdefault(gone, kept)
    return tuple(into.items())


def _rows(rows: Array | None) -> list[list[int]]:
    return [] if rows is None else rows.tolist()


def _ended_numbers(state: TrackEventState, tracks: Tracks, into: dict[int, int]) -> list[int]:
    """Open tracks that end with this frame; the tracker may name unpublished ones."""
    return sorted({*tracks.ended.tolist(), *into} & state.tracks.keys())


def _track_end(
    state: TrackEventState, number: int, reason: EndReason, into: int | None = None
) -> TrackEnd:
    track = state.tracks.pop(number)
    return TrackEnd(
        EndedTrack(
            id=_track_id(state, number),
            reason=reason,
            box_px=track.box,
            first_seen_us=track.first_seen_us,
            last_seen_us=track.last_seen_us,
            age_s=(track.last_seen_us - track.first_seen_us) / 1e6,
            into=None if into is None else _track_id(state, into),
        )
    )


def _present_tracks(
    state: TrackEventState, frame: Frame, tracks: Tracks, every_us: int
) -> list[Draft]:
    drafts: list[Draft] = []
    for row, track in zip(tracks.ids.tolist(), _as_tracks(state, frame, tracks), strict=True):
        known = state.tracks.get(row)
        due = known is None or frame.media_us - known.published_us >= every_us
        published_us = frame.media_us if known is None or due else known.published_us
        state.tracks[row] = OpenTrack(
            track.box_px, track.first_seen_us, frame.media_us, published_us
        )
        if known is None:
            drafts.append(Draft(TrackBegin(track)))
        elif due:
            drafts.append(Draft(TrackUpdate(track)))
    return drafts


def _as_tracks(state: TrackEventState, frame: Frame, tracks: Tracks) -> list[Track]:
    if not np.isfinite(tracks.boxes).all():
        raise DataError(
            f"{frame.source}: frame {frame.n} has a track whose box is not finite; "
            "expected pixels from the tracker"
        )
    ids, first_us, gated = (
        values.tolist() for values in (tracks.ids, tracks.first_seen_us, tracks.gated)
    )
    boxes, velocity = _rounded(tracks.boxes, 2), _rounded(tracks.velocity, 2)
    scores, existence = _rounded(tracks.scores, 4), _rounded(tracks.existence, 4)
    covariance, entropy = _rounded(tracks.covariance, 6), _rounded(tracks.entropy, 4)
    metric = _ground_members(tracks)
    seen = tracks.supported
    return [
        Track(
            id=_track_id(state, number),
            box_px=tuple(boxes[i]),
            box_from="update" if seen[i] else "predict",
            score=scores[i],
            vel_px_s=tuple(velocity[i]),
            cov_diag=tuple(covariance[i]),
            p_exist=existence[i],
            assoc=Association(entropy=entropy[i], gated=gated[i]),
            first_seen_us=first_us[i],
            age_s=(frame.media_us - first_us[i]) / 1e6,
            space=tracks.space,
            **metric[i],
        )
        for i, number in enumerate(ids)
    ]


def _ground_members(tracks: Tracks) -> list[dict[str, Any]]:
    """The ground-plane members of each track; empty for a track without a ground position."""
    known: dict[str, list[Any]] = {"ground_m": _tuples(_rounded(tracks.ground, 3))}
    if tracks.ground_velocity is not None:
        speed = np.linalg.norm(tracks.ground_velocity.astype(np.float64), axis=1)
        known["vel_m_s"] = _tuples(_rounded(tracks.ground_velocity, 3))
        known["speed_m_s"] = _rounded(speed, 3)
    if tracks.ground_covariance is not None:
        known["ground_cov_m2"] = [
            (tuple(upper), tuple(lower)) for upper, lower in _rounded(tracks.ground_covariance, 6)
        ]
    placed = np.isfinite(tracks.ground).all(axis=1)
    return [
        {name: values[i] for name, values in known.items()} if place else {}
        for i, place in enumerate(placed)
    ]


def _tuples(rows: list[Any]) -> list[Any]:
    return [tuple(row) for row in rows]


def _rounded(values: Array, digits: int) -> list[Any]:
    return rounded(values, digits).tolist()


def rounded(values: Array, digits: int) -> Array:
    """Return float64 numbers that are short in JSON and always finite: JSON has no infinity."""
    numbers = values.astype(np.float64)
    if not (np.abs(numbers) <= LARGEST).all():  # NaN is not
        numbers = np.nan_to_num(numbers).clip(-LARGEST, LARGEST)
    return np.asarray(numbers.round(digits))
