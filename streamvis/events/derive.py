"""Derive events from the parts of a source's frames. Pure: equal frames give equal events.

`State` is the whole state of a source. Each function updates it and returns drafts in order: events
without number, id and publishing time.

The events of a frame come in this order: corrections (`track.split`, then `track.merge`), ends of
actions and tracks, begins and updates of tracks, actions, scenes, forecasts. So a correction is
about earlier events only, and a reader that ignores corrections still sees each id begin and end
in turn.
"""

from typing import Any, Literal

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.events.actions import (
    WHOLE,
    OpenActions,
    TrackNamer,
    close_actions,
    derive_action_events,
)
from streamvis.events.scenes import (
    PublishPolicy,
    SceneState,
    close_unknown,
    derive_forecast_events,
    derive_segmentation_events,
)
from streamvis.events.schema import (
    Association,
    Box,
    Change,
    EndedTrack,
    EndReason,
    EventBody,
    Finish,
    FrameRef,
    Gap,
    Merge,
    Restart,
    SourceConnecting,
    SourceEof,
    SourceEpoch,
    SourceGap,
    SourceOffline,
    SourceOnline,
    SourceStalled,
    Split,
    Stream,
    Time,
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)
from streamvis.events.tally import Tally, count_events, count_people, findings, start_epoch
from streamvis.messages import (
    Actions,
    Array,
    Ending,
    Findings,
    Forecast,
    Frame,
    Notice,
    Segmentation,
    SourceInfo,
    Tracks,
)

LARGEST = 1e12  # numbers of a track are clipped to this


class Draft(msgspec.Struct, frozen=True):
    """An event body with its time, its frame if it is about one, and its attachments."""

    what: EventBody
    time: Time
    frame: FrameRef | None = None
    attachments: tuple[bytes, ...] = ()


class OpenTrack(msgspec.Struct):
    """The last box of an open track, and when it was last published."""

    box: Box
    first_seen_us: int
    last_seen_us: int
    published_us: int


class State(msgspec.Struct, rename={"open_actions": "doing"}):
    """The state of one source."""

    info: SourceInfo
    epoch: int = 1  # stream epoch
    status: str = "online"
    restart: str = ""  # why the next stream epoch begins
    frames: int = 0
    media_us: int = 0  # of the last frame
    tracks: dict[int, OpenTrack] = {}
    newest: int = 0  # highest track number published in this stream epoch
    open_actions: OpenActions = {}
    scene: SceneState = msgspec.field(default_factory=SceneState)
    tally: Tally = msgspec.field(default_factory=Tally)


def start_source(info: SourceInfo) -> tuple[State, list[Draft]]:
    """Begin a source that has just been opened."""
    state = State(info=info, epoch=info.epoch)
    return state, [Draft(SourceOnline(_stream(state)), _time(state, 0))]


def derive_frame_events(
    state: State,
    frame: Frame,
    tracks: Tracks | None,
    update_every_us: int = 0,
    actions: Actions | None = None,
) -> list[Draft]:
    """Track and action events of a frame; a part is None when its stage was skipped.

    Begins, ends and corrections are always published, updates at most once in `update_every_us`.
    """
    drafts = [] if frame.epoch == state.epoch else _start_epoch(state, frame.epoch)
    state.frames += 1
    state.media_us = frame.media_us
    time, frame_ref = _time_and_frame(frame)
    bodies = [] if tracks is None else _track_events(state, frame, tracks, update_every_us)
    if tracks is not None:
        count_people(state.tally, _prefix(state), frame, tracks, bodies)
    if actions is not None:
        bodies += derive_action_events(
            state.open_actions, _track_namer(state), actions, frame.media_us, update_every_us
        )
    count_events(state.tally, bodies, actions)
    return drafts + [Draft(what, time, frame_ref) for what in bodies]


def derive_scene_events(
    state: State,
    frame: Frame,
    seen: Segmentation | None,
    forecast: Forecast | None,
    policy: PublishPolicy,
) -> list[Draft]:
    """Scene and forecast events of the last frame; a part is None when its stage was skipped.

    Begins and ends are always published, shares and forecasts at most once in `policy.every_us`.
    """
    time, frame_ref = _time_and_frame(frame)
    bodies = [] if seen is None else derive_segmentation_events(state.scene, frame, seen, policy)
    bodies += (
        [] if forecast is None else derive_forecast_events(state.scene, frame, forecast, policy)
    )
    count_events(state.tally, [what for what, _ in bodies], None, seen, forecast)
    return [Draft(what, time, frame_ref, attachments) for what, attachments in bodies]


def _time_and_frame(frame: Frame) -> tuple[Time, FrameRef]:
    frame_ref = FrameRef(
        n=frame.n, seq=frame.seq, w=frame.width, h=frame.height, stream_epoch=frame.epoch
    )
    return Time(media_us=frame.media_us, capture_us=frame.capture_us, clock=frame.clock), frame_ref


def _time(state: State, media_us: int) -> Time:
    """The time of an event without a frame: only files with a start time have a wall clock."""
    wall_us = state.info.wall_us(media_us)
    return Time(media_us=media_us, capture_us=wall_us, clock="file" if wall_us else "none")


def _track_events(state: State, frame: Frame, tracks: Tracks, every_us: int) -> list[EventBody]:
    bodies, into = _corrections(state, frame, tracks)
    mixed = [number for row in _rows(tracks.split) for number in row[:2]]
    ended = _ended_numbers(state, tracks, into)
    bodies += close_actions(state.open_actions, [*mixed, *ended], _track_namer(state), "lost")
    bodies += [_track_end(state, number, "lost", into.get(number)) for number in ended]
    return bodies + _present_tracks(state, frame, tracks, every_us)


def derive_notice_events(state: State, notice: Notice) -> list[Draft]:
    """Events of a notice; none for a status that the source already has."""
    if notice.kind == "epoch":
        state.restart = (
            notice.reason
        )  # published with the first frame of the epoch, which has its number
        return []
    time = _time(state, notice.media_us)
    if notice.kind == "gap":
        first, last, count = notice.first_n, notice.last_n, notice.count
        gap = Gap(first=first, last=last, reason=notice.reason, count=count)
        return [Draft(SourceGap(gap), time)]
    if notice.kind == state.status:
        return []
    state.status = notice.kind
    what: EventBody
    match notice.kind:
        case "online":
            what = SourceOnline(_stream(state))
        case "connecting":
            what = SourceConnecting(Change(notice.reason))
        case "stalled":
            what = SourceStalled(Change(notice.reason))
        case "offline":
            what = SourceOffline(Change(notice.reason))
    return [Draft(what, time)]


def resume_source(state: State, info: SourceInfo) -> list[Draft]:
    """Continue a source in its next stream epoch after a resume: close everything open."""
    state.restart = "resumed"
    drafts = _start_epoch(state, info.epoch)
    state.info = info
    if state.status != "online":
        state.status = "online"
        drafts.append(Draft(SourceOnline(_stream(state)), Time(media_us=state.media_us)))
    return drafts


def end_source(state: State, ending: Ending) -> list[Draft]:
    """End a source, and with it all open actions, tracks and out-of-distribution objects."""
    time = _time(state, state.media_us)
    drafts = _close_all(state, ending, time)
    if ending == "eof":
        drafts.append(Draft(SourceEof(Finish(state.frames)), time))
    return drafts


def source_findings(state: State) -> Findings:
    """The findings of the source so far."""
    return findings(state.tally, _prefix(state))


def _start_epoch(state: State, epoch: int) -> list[Draft]:
    """Track numbers begin again at 1, so those that are open end first."""
    time = _time(state, state.media_us)
    drafts = _close_all(state, "epoch", time)
    start_epoch(state.tally, _prefix(state))
    restart = Restart(epoch, state.restart)
    state.epoch, state.restart, state.newest = epoch, "", 0
    state.scene = SceneState()  # media time starts anew
    return [*drafts, Draft(SourceEpoch(restart), time)]


def _close_all(state: State, reason: Ending | Literal["epoch"], time: Time) -> list[Draft]:
    bodies: list[EventBody] = [
        *close_actions(state.open_actions, sorted(state.open_actions), _track_namer(state), reason)
    ]
    bodies += [_track_end(state, number, reason) for number in sorted(state.tracks)]
    bodies += close_unknown(state.scene, reason)
    return [Draft(what, time) for what in bodies]


def _corrections(
    state: State, frame: Frame, tracks: Tracks
) -> tuple[list[EventBody], dict[int, int]]:
    """The corrections of a frame, and the merges as gone -> kept, by track number.

    The tracker may name tracks that were never published, and repeat corrections.
    """
    newest_before = state.newest
    state.newest = max(newest_before, int(tracks.ids.max(initial=0)))
    splits: dict[int, Split] = {}
    for number, other, since_us in _rows(tracks.split):
        published = number <= newest_before and other <= state.newest
        if published and number != other and since_us < frame.media_us:
            split = Split(
                id=_track_id(state, number), other=_track_id(state, other), since_us=since_us
            )
            splits.setdefault(number, split)
    into: dict[int, int] = {}
    for gone, kept in _rows(tracks.merged):
        while kept in into:
            kept = into[kept]
        if gone <= newest_before and kept <= state.newest and gone != kept:
            into.setdefault(gone, kept)
    bodies: list[EventBody] = [TrackSplit(tuple(splits.values()))] if splits else []
    bodies += [
        TrackMerge(Merge(gone=_track_id(state, gone), kept=_track_id(state, kept)))
        for gone, kept in into.items()
    ]
    return bodies, into


def _rows(rows: Array | None) -> list[list[int]]:
    return [] if rows is None else rows.tolist()


def _ended_numbers(state: State, tracks: Tracks, into: dict[int, int]) -> list[int]:
    """Open tracks that end with this frame; the tracker may name unpublished ones."""
    return sorted({*tracks.ended.tolist(), *into} & state.tracks.keys())


def _track_end(state: State, number: int, reason: EndReason, into: int | None = None) -> TrackEnd:
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


def _present_tracks(state: State, frame: Frame, tracks: Tracks, every_us: int) -> list[EventBody]:
    bodies: list[EventBody] = []
    for row, track in zip(tracks.ids.tolist(), _as_tracks(state, frame, tracks), strict=True):
        known = state.tracks.get(row)
        due = known is None or frame.media_us - known.published_us >= every_us
        published_us = frame.media_us if known is None or due else known.published_us
        state.tracks[row] = OpenTrack(
            track.box_px, track.first_seen_us, frame.media_us, published_us
        )
        if known is None:
            bodies.append(TrackBegin(track))
        elif due:
            bodies.append(TrackUpdate(track))
    return bodies


def _as_tracks(state: State, frame: Frame, tracks: Tracks) -> list[Track]:
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
    seen = tracks.detection >= 0
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
    """Python numbers, short in JSON and always finite: JSON has no infinity."""
    finite = np.nan_to_num(values.astype(np.float64)).clip(-LARGEST, LARGEST)
    return finite.round(digits).tolist()


def _track_namer(state: State) -> TrackNamer:
    """Ids of tracks by their numbers, None for the whole frame."""
    return lambda number: _track_id(state, number) if number != WHOLE else None


def _track_id(state: State, number: int) -> str:
    return f"{_prefix(state)}:{number}"


def _prefix(state: State) -> str:
    """The prefix of track ids: source and stream epoch."""
    return f"{state.info.id}:{state.epoch}"


def _stream(state: State) -> Stream:
    info = state.info
    return Stream(label=info.label, w=info.width, h=info.height, fps=info.fps, live=info.live)
