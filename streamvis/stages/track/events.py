"""The event types of tracks, and how they are shown in `events tail` and in CSV."""

from typing import Literal, assert_never

import msgspec

from streamvis.events.envelope import Box, Count, Pair
from streamvis.events.family import Cells, EventTypes, box_cells, box_text, members

Covariance = tuple[Pair, Pair]
EndReason = Literal["lost", "epoch", "eof", "drained", "failed"]


class Association(msgspec.Struct, frozen=True, kw_only=True):
    """How certain the tracker was of the association."""

    method: str = "jipda"
    entropy: float = 0.0  # nats
    gated: Count = 0


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """A confirmed track in one picture."""

    id: str  # source:stream_epoch:number
    box_px: Box  # xyxy, pixels of the source frame
    box_from: Literal["update", "predict"]  # whether a detection supports the box
    score: float  # of its most probable detection, 0 when there is none
    vel_px_s: Pair  # of the foot point
    cov_diag: tuple[float, float, float, float]  # x, y, vx, vy in the units of `space`
    p_exist: float
    assoc: Association
    first_seen_us: int
    age_s: float
    ground_m: Pair | None = None  # foot point on the ground plane, if there is one
    ground_cov_m2: Covariance | None = None  # of ground_m; null wherever the space is the image
    vel_m_s: Pair | None = None  # on the ground plane
    speed_m_s: float | None = None  # length of vel_m_s
    space: Literal["image", "ground"] = "image"
    label: str = "person"
    state: Literal["confirmed"] = "confirmed"


class EndedTrack(msgspec.Struct, frozen=True, kw_only=True):
    """A track that is over."""

    id: str
    reason: EndReason
    box_px: Box  # in the last frame, at `last_seen_us`
    first_seen_us: int
    last_seen_us: int
    age_s: float
    into: str | None = None  # the id that continues after a merge; null: the person has left
    state: Literal["ended"] = "ended"


class TrackBegin(msgspec.Struct, frozen=True, tag_field="type", tag="track.begin"):
    track: Track


class TrackUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="track.update"):
    track: Track


class TrackEnd(msgspec.Struct, frozen=True, tag_field="type", tag="track.end"):
    track: EndedTrack


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """Two ids were one person: all earlier events of `gone` were about `kept`."""

    gone: str
    kept: str


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """One id was two people: events of `id` from `since_us` until now were about `other`."""

    id: str
    other: str
    since_us: int  # media time


class TrackMerge(msgspec.Struct, frozen=True, tag_field="type", tag="track.merge"):
    """A correction of events before its frame; the frame's other events follow it.

    If `gone` was open, its `track.end` follows, with `into`; `kept` begins again or goes on.
    """

    merge: Merge


class TrackSplit(msgspec.Struct, frozen=True, tag_field="type", tag="track.split"):
    """All splits of one frame, true at once and before its merges: two make a swap.

    They end no track: the events that follow describe the tracks that remain.
    """

    splits: tuple[Split, ...]


TrackBody = TrackBegin | TrackUpdate | TrackEnd | TrackMerge | TrackSplit


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
    (TrackBegin, TrackUpdate, TrackEnd, TrackMerge, TrackSplit), line, csv_rows
)
