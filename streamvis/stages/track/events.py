"""The event types of tracks, and how they are shown in `events tail` and in CSV."""

from typing import Literal, assert_never

import msgspec

from streamvis.events.envelope import Box, Count, Pair
from streamvis.events.family import Cells, EventTypes, box_cells, box_text, members

Covariance = tuple[Pair, Pair]
EndReason = Literal["lost", "epoch", "eof", "drained", "failed"]


class Association(msgspec.Struct, frozen=True, kw_only=True):
    """How certain the tracker was of the association."""

    method: str = "jipda"  # of data association
    entropy: float = 0.0  # nats; of the association probabilities, 0 when unambiguous
    gated: Count = 0  # number of detections in the gate


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """A confirmed track in one picture."""

    id: str  # source:stream_epoch:number
    box_px: Box  # left, top, right, bottom in pixels of the source frame
    box_from: Literal["update", "predict"]  # update: a detection of this picture, or one that
    # still holds, supports the box; predict: the motion model alone
    score: float  # of the most probable detection; 0 without one
    vel_px_s: Pair  # velocity of the foot point
    cov_diag: tuple[float, float, float, float]  # variances of x, y, vx, vy of the foot point: px²
    # and px²/s² where `space` is `image`, m² and m²/s² where it is `ground`
    p_exist: float  # probability that the target exists, given all detections so far
    assoc: Association  # data association of this frame
    first_seen_us: int  # media time of the first detection
    age_s: float  # time since `first_seen_us`
    ground_m: Pair | None = None  # foot point on the ground plane; null without one
    ground_cov_m2: Covariance | None = None  # 2×2 covariance of `ground_m`, or null
    vel_m_s: Pair | None = None  # velocity on the ground plane; null without one
    speed_m_s: float | None = None  # length of `vel_m_s`, or null
    space: Literal["image", "ground"] = "image"  # in which the track is filtered
    label: str = "person"  # object class
    state: Literal["confirmed"] = "confirmed"  # the same in every event


class EndedTrack(msgspec.Struct, frozen=True, kw_only=True):
    """A track that is over."""

    id: str  # source:stream_epoch:number
    reason: EndReason  # lost; epoch: reconnect or resume; eof; drained: the run was stopped; failed
    box_px: Box  # left, top, right, bottom in the last frame, at `last_seen_us`
    first_seen_us: int  # media time of the first detection
    last_seen_us: int  # media time of the last frame
    age_s: float  # time since `first_seen_us`
    into: str | None = None  # the id under which the person goes on after a merge; null: they left
    state: Literal["ended"] = "ended"  # the same in every event


class TrackBegin(msgspec.Struct, frozen=True, tag_field="type", tag="track.begin"):
    """A confirmed track is in this frame and was not in the one before."""

    track: Track  # its state in this frame


class TrackUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="track.update"):
    """The state of a track, at most once in `publish.update_every_s`."""

    track: Track  # its state in this frame


class TrackEnd(msgspec.Struct, frozen=True, tag_field="type", tag="track.end"):
    """A track is over."""

    track: EndedTrack  # its last state


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """Two ids were one person: all earlier events of `gone` were about `kept`."""

    gone: str  # the track id that was wrong
    kept: str  # the id that stays


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """One id was two people: events of `id` from `since_us` until now were about `other`."""

    id: str  # the track id as it was published
    other: str  # the right id from `since_us` on
    since_us: int  # media time


class TrackMerge(msgspec.Struct, frozen=True, tag_field="type", tag="track.merge"):
    """A correction of events before its frame; the frame's other events follow it.

    If `gone` was open, its `track.end` follows, with `into`; `kept` begins again or goes on.
    """

    merge: Merge  # the two ids


class TrackSplit(msgspec.Struct, frozen=True, tag_field="type", tag="track.split"):
    """All splits of one frame, true at once and before its merges: two make a swap.

    They end no track: the events that follow describe the tracks that remain.
    """

    splits: tuple[Split, ...]  # all of one frame


class BriefTrack(msgspec.Struct, frozen=True):
    """A track in one frame."""

    id: str  # source:stream_epoch:number
    box_px: Box  # xyxy, pixels of the source frame


class FrameTracks(msgspec.Struct, frozen=True, tag_field="type", tag="frame.tracks"):
    """the tracks of a frame, published while their topic has a subscriber; never in the log"""

    tracks: tuple[BriefTrack, ...]  # confirmed tracks in the frame


TrackBody = FrameTracks | TrackBegin | TrackUpdate | TrackEnd | TrackMerge | TrackSplit


def line(what: TrackBody) -> str:
    """Return the line of `events tail`, after the type."""
    match what:
        case TrackBegin(track) | TrackUpdate(track):
            speed = "" if track.speed_m_s is None else f"  {track.speed_m_s:.1f} m/s"
            return f"{track.id:<16} {box_text(track.box_px)}  p={track.p_exist:.2f}{speed}"
        case TrackEnd(ended):
            into = f", goes on as {ended.into}" if ended.into else ""
            age = f"after {ended.age_s:.1f} s ({ended.reason}{into})"
            return f"{ended.id:<16} {box_text(ended.box_px)}  {age}"
        case FrameTracks(tracks):
            return ", ".join(track.id for track in tracks)
        case TrackMerge(merge):
            return f"{merge.gone} is {merge.kept}"
        case TrackSplit(splits):
            return ", ".join(
                f"{split.id} was {split.other} from {split.since_us / 1e6:.3f} s on"
                for split in splits
            )
        case _:
            assert_never(what)


def csv_rows(what: TrackBody) -> list[Cells]:
    """Return the row of the event, or one for each split."""
    match what:
        case TrackBegin(track) | TrackUpdate(track):
            return [_track_cells(track)]
        case TrackEnd(ended):
            known = members(ended, "reason", "first_seen_us", "last_seen_us", "age_s")
            return [{"track": ended.id, **box_cells(ended.box_px), **known, "other": ended.into}]
        case TrackSplit(splits):
            return [{"track": s.id, "other": s.other, "since_us": s.since_us} for s in splits]
        case FrameTracks(tracks):
            return [{"track": track.id, **box_cells(track.box_px)} for track in tracks]
        case TrackMerge(merge):
            return [{"track": merge.gone, "other": merge.kept}]
        case _:
            assert_never(what)


def _track_cells(track: Track) -> Cells:
    ground_x_m, ground_y_m = track.ground_m or (None, None)
    vel_x_m_s, vel_y_m_s = track.vel_m_s or (None, None)
    return {
        "track": track.id,
        **box_cells(track.box_px),
        **members(track, "label", "box_from", "score", "p_exist"),
        **members(track, "speed_m_s", "first_seen_us", "age_s"),
        "ground_x_m": ground_x_m,
        "ground_y_m": ground_y_m,
        "vel_x_m_s": vel_x_m_s,
        "vel_y_m_s": vel_y_m_s,
        "vel_x_px_s": track.vel_px_s[0],
        "vel_y_px_s": track.vel_px_s[1],
    }


TRACK_EVENTS = EventTypes(
    (TrackBegin, TrackUpdate, TrackEnd, TrackMerge, TrackSplit, FrameTracks),
    line,
    csv_rows,
    identity=("id",),
)
