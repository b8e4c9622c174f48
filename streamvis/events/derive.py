"""From what the stages say of a source to events: pure, and the same for the same frames.

`State` is all that is remembered of a source. Each function changes it and returns what happened,
in order, as drafts: events that have no number, no id and no wall clock yet.

A frame is told in this order: what it corrects (`track.split`, then `track.merge`), who ends and
before that what they did, who is there, what they do. So a correction speaks of what was told
before it and of nothing else, and whoever takes no notice of corrections still sees each id begin,
end, and perhaps begin again. What the scene is, and will be, comes last.
"""

from typing import Any, Literal

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.events.actions import WHOLE, Doing, Name, judge, lose_all
from streamvis.events.scenes import SceneState, Telling, foresee, lose_sight, see
from streamvis.events.schema import (
    Association,
    Box,
    Change,
    EndedTrack,
    EndReason,
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
    What,
)
from streamvis.events.tally import Tally, findings, happened, next_epoch, people_seen
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

LARGEST = 1e12  # of the numbers told of a track


class Draft(msgspec.Struct, frozen=True):
    """What happened, when in the video, and on which picture if on one."""

    what: What
    time: Time
    frame: FrameRef | None = None
    attachments: tuple[bytes, ...] = ()


class OpenTrack(msgspec.Struct):
    """The last that was seen of a track, and when it was last published."""

    box: Box
    first_seen_us: int
    last_seen_us: int
    published_us: int


class State(msgspec.Struct):
    """One source, so far."""

    info: SourceInfo
    epoch: int = 1  # stream epoch
    status: str = "online"
    restart: str = ""  # why the next stream epoch begins
    frames: int = 0
    media_us: int = 0  # of the last frame
    tracks: dict[int, OpenTrack] = {}
    newest: int = 0  # highest number of a track told of in this stream epoch
    doing: Doing = {}  # what they do
    scene: SceneState = msgspec.field(default_factory=SceneState)
    tally: Tally = msgspec.field(default_factory=Tally)


def start(info: SourceInfo) -> tuple[State, list[Draft]]:
    """A source that has just been opened."""
    state = State(info=info, epoch=info.epoch)
    return state, [Draft(SourceOnline(_stream(state)), _time(state, 0))]


def frame_seen(
    state: State,
    frame: Frame,
    tracks: Tracks | None,
    update_every_us: int = 0,
    actions: Actions | None = None,
) -> list[Draft]:
    """A frame, its tracks and its actions; None of those whose stage was skipped.

    Tracks and actions are published when they begin and end, and between at most once in
    `update_every_us`; corrections are published always.
    """
    drafts = [] if frame.epoch == state.epoch else _next_epoch(state, frame.epoch)
    state.frames += 1
    state.media_us = frame.media_us
    time, about = _when(frame)
    whats = [] if tracks is None else _followed(state, frame, tracks, update_every_us)
    if tracks is not None:
        people_seen(state.tally, _prefix(state), frame, tracks, whats)
    if actions is not None:
        whats += judge(state.doing, _namer(state), actions, frame.media_us, update_every_us)
    happened(state.tally, whats, actions)
    return drafts + [Draft(what, time, about) for what in whats]


def scene_seen(
    state: State,
    frame: Frame,
    seen: Segmentation | None,
    forecast: Forecast | None,
    telling: Telling,
) -> list[Draft]:
    """What the frame of the last `frame_seen` shows, and what will be; None: a stage was skipped.

    Shares and forecasts are published at most once in `telling.every_us`, and whatever begins or
    ends always.
    """
    time, about = _when(frame)
    told = [] if seen is None else see(state.scene, frame, seen, telling)
    told += [] if forecast is None else foresee(state.scene, frame, forecast, telling)
    happened(state.tally, [what for what, _ in told], None, seen, forecast)
    return [Draft(what, time, about, attachments) for what, attachments in told]


def _when(frame: Frame) -> tuple[Time, FrameRef]:
    about = FrameRef(
        n=frame.n, seq=frame.seq, w=frame.width, h=frame.height, stream_epoch=frame.epoch
    )
    return Time(media_us=frame.media_us, capture_us=frame.capture_us, clock=frame.clock), about


def _time(state: State, media_us: int) -> Time:
    """Of what is about no one picture: the wall clock is known of files with a start time alone."""
    wall_us = state.info.wall_us(media_us)
    return Time(media_us=media_us, capture_us=wall_us, clock="file" if wall_us else "none")


def _followed(state: State, frame: Frame, tracks: Tracks, every_us: int) -> list[What]:
    whats, into = _corrections(state, frame, tracks)
    mixed = [number for row in _listed(tracks.split) for number in row[:2]]
    ended = _ended(state, tracks, into)
    whats += lose_all(state.doing, [*mixed, *ended], _namer(state), "lost")
    whats += [_end(state, number, "lost", into.get(number)) for number in ended]
    return whats + _present(state, frame, tracks, every_us)


def noticed(state: State, notice: Notice) -> list[Draft]:
    """Something between two frames. A status that the source has already is no news."""
    if notice.kind == "epoch":
        state.restart = notice.reason  # told with the epoch's first frame, which has its number
        return []
    time = _time(state, notice.media_us)
    if notice.kind == "gap":
        first, last, count = notice.first_n, notice.last_n, notice.count
        gap = Gap(first=first, last=last, reason=notice.reason, count=count)
        return [Draft(SourceGap(gap), time)]
    if notice.kind == state.status:
        return []
    state.status = notice.kind
    what: What
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


def resumed(state: State, info: SourceInfo) -> list[Draft]:
    """A source goes on in its next stream epoch after its run was stopped: what is open ends."""
    state.restart = "resumed"
    drafts = _next_epoch(state, info.epoch)
    state.info = info
    if state.status != "online":
        state.status = "online"
        drafts.append(Draft(SourceOnline(_stream(state)), Time(media_us=state.media_us)))
    return drafts


def finished(state: State, ending: Ending) -> list[Draft]:
    """The end: open actions, tracks and sightings end with it."""
    time = _time(state, state.media_us)
    drafts = _all_end(state, ending, time)
    if ending == "eof":
        drafts.append(Draft(SourceEof(Finish(state.frames)), time))
    return drafts


def found(state: State) -> Findings:
    """What was found in the source so far."""
    return findings(state.tally, _prefix(state))


def _next_epoch(state: State, epoch: int) -> list[Draft]:
    """Track numbers begin again at 1, so those that are open end first."""
    time = _time(state, state.media_us)
    drafts = _all_end(state, "epoch", time)
    next_epoch(state.tally, _prefix(state))
    restart = Restart(epoch, state.restart)
    state.epoch, state.restart, state.newest = epoch, "", 0
    state.scene = SceneState()  # media time starts anew
    return [*drafts, Draft(SourceEpoch(restart), time)]


def _all_end(state: State, reason: Ending | Literal["epoch"], time: Time) -> list[Draft]:
    whats: list[What] = [*lose_all(state.doing, sorted(state.doing), _namer(state), reason)]
    whats += [_end(state, number, reason) for number in sorted(state.tracks)]
    whats += lose_sight(state.scene, reason)
    return [Draft(what, time) for what in whats]


def _corrections(state: State, frame: Frame, tracks: Tracks) -> tuple[list[What], dict[int, int]]:
    """What was told wrongly before this frame; also who goes on as whom, by number.

    The tracker may name tracks that were never told of, and say things twice.
    """
    told = state.newest
    state.newest = max(told, int(tracks.ids.max(initial=0)))
    splits: dict[int, Split] = {}
    for number, other, since_us in _listed(tracks.split):
        heard = number <= told and other <= state.newest
        if heard and number != other and since_us < frame.media_us:
            split = Split(id=_name(state, number), other=_name(state, other), since_us=since_us)
            splits.setdefault(number, split)
    into: dict[int, int] = {}
    for gone, kept in _listed(tracks.merged):
        while kept in into:
            kept = into[kept]
        if gone <= told and kept <= state.newest and gone != kept:
            into.setdefault(gone, kept)
    whats: list[What] = [TrackSplit(tuple(splits.values()))] if splits else []
    whats += [
        TrackMerge(Merge(gone=_name(state, gone), kept=_name(state, kept)))
        for gone, kept in into.items()
    ]
    return whats, into


def _listed(rows: Array | None) -> list[list[int]]:
    return [] if rows is None else rows.tolist()


def _ended(state: State, tracks: Tracks, into: dict[int, int]) -> list[int]:
    """Open tracks that end with this frame; the tracker may name some we never heard of."""
    return sorted({*tracks.ended.tolist(), *into} & state.tracks.keys())


def _end(state: State, number: int, reason: EndReason, into: int | None = None) -> TrackEnd:
    track = state.tracks.pop(number)
    return TrackEnd(
        EndedTrack(
            id=_name(state, number),
            reason=reason,
            box_px=track.box,
            first_seen_us=track.first_seen_us,
            last_seen_us=track.last_seen_us,
            age_s=(track.last_seen_us - track.first_seen_us) / 1e6,
            into=None if into is None else _name(state, into),
        )
    )


def _present(state: State, frame: Frame, tracks: Tracks, every_us: int) -> list[What]:
    whats: list[What] = []
    for row, track in zip(tracks.ids.tolist(), _rows(state, frame, tracks), strict=True):
        known = state.tracks.get(row)
        due = known is None or frame.media_us - known.published_us >= every_us
        published_us = frame.media_us if known is None or due else known.published_us
        state.tracks[row] = OpenTrack(
            track.box_px, track.first_seen_us, frame.media_us, published_us
        )
        if known is None:
            whats.append(TrackBegin(track))
        elif due:
            whats.append(TrackUpdate(track))
    return whats


def _rows(state: State, frame: Frame, tracks: Tracks) -> list[Track]:
    if not np.isfinite(tracks.boxes).all():
        raise DataError(
            f"{frame.source}: the tracks of frame {frame.n} have boxes that are not finite; "
            "the tracker must give pixels"
        )
    ids, first_us, gated = (
        values.tolist() for values in (tracks.ids, tracks.first_seen_us, tracks.gated)
    )
    boxes, velocity = _rounded(tracks.boxes, 2), _rounded(tracks.velocity, 2)
    scores, existence = _rounded(tracks.scores, 4), _rounded(tracks.existence, 4)
    covariance, entropy = _rounded(tracks.covariance, 6), _rounded(tracks.entropy, 4)
    metric = _metric(tracks)
    seen = tracks.detection >= 0
    return [
        Track(
            id=_name(state, number),
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


def _metric(tracks: Tracks) -> list[dict[str, Any]]:
    """What is known of each track on the ground: nothing for one that has no place there."""
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


def _namer(state: State) -> Name:
    """Ids of tracks by their numbers, None for the whole frame."""
    return lambda number: _name(state, number) if number != WHOLE else None


def _name(state: State, number: int) -> str:
    return f"{_prefix(state)}:{number}"


def _prefix(state: State) -> str:
    """What the ids of tracks begin with."""
    return f"{state.info.id}:{state.epoch}"


def _stream(state: State) -> Stream:
    info = state.info
    return Stream(label=info.label, w=info.width, h=info.height, fps=info.fps, live=info.live)
