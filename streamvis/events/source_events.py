"""The event types of a source: its state, gaps, stream epochs, clips and its end."""

from typing import assert_never

import msgspec

from streamvis.events.envelope import Count
from streamvis.events.family import Cells, EventTypes, members


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a source that is online."""

    label: str  # where it came from, without credentials
    w: int  # px; width of its pictures
    h: int  # px; height
    fps: float = 0.0  # frames/s; nominal, 0: unknown
    live: bool = False  # true: a camera or stream; false: a file


class Change(msgspec.Struct, frozen=True):
    """Why the status of a source has changed."""

    reason: str = ""  # in words


class Gap(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """Pictures of the source that were not processed.

    Not all between the first and the last need be missing: `count` of them are.
    """

    first: int  # number of the first missing picture; -1: unknown
    last: int  # number of the last one; -1: unknown
    reason: str  # `overload`, `decode`, `poison` or `drained`
    count: int = 0  # how many are missing; 0: unknown


class Restart(msgspec.Struct, frozen=True):
    """The numbers of tracks start anew.

    Media time goes on near real time where a live source was connected again.
    """

    stream_epoch: int  # the new one
    reason: str = ""  # such as `resumed`


class Finish(msgspec.Struct, frozen=True):
    """How a source has ended."""

    frames: Count  # how many were processed


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """A recording of some seconds around an event."""

    path: str  # of the file, relative to the output directory
    event: str  # id of the event


class SourceConnecting(msgspec.Struct, frozen=True, tag_field="type", tag="source.connecting"):
    """A live source is being opened, at the start or again."""

    stream: Change  # why


class SourceOnline(msgspec.Struct, frozen=True, tag_field="type", tag="source.online"):
    """The source is open, or has another size or rate."""

    stream: Stream  # its properties


class SourceStalled(msgspec.Struct, frozen=True, tag_field="type", tag="source.stalled"):
    """The source is connected, but nothing arrives."""

    stream: Change  # why


class SourceOffline(msgspec.Struct, frozen=True, tag_field="type", tag="source.offline"):
    """The source is lost, refused, or has ended otherwise than a file does."""

    stream: Change  # why


class SourceEof(msgspec.Struct, frozen=True, tag_field="type", tag="source.eof"):
    """The source, a file, has ended."""

    stream: Finish  # its count


class SourceGap(msgspec.Struct, frozen=True, tag_field="type", tag="source.gap"):
    """Pictures were not processed; at most one a second for each reason, so the counts add up."""

    stream: Gap  # which ones


class SourceEpoch(msgspec.Struct, frozen=True, tag_field="type", tag="source.epoch"):
    """Track numbers restart; published just before the first frame of the epoch."""

    stream: Restart  # the epoch


class SourceClip(msgspec.Struct, frozen=True, tag_field="type", tag="source.clip"):
    """A recording around an event is complete."""

    stream: Clip  # the file


SourceBody = (
    SourceConnecting
    | SourceOnline
    | SourceStalled
    | SourceOffline
    | SourceEof
    | SourceGap
    | SourceEpoch
    | SourceClip
)


def line(what: SourceBody) -> str:
    """Return the line of `events tail`, after the type."""
    match what:
        case SourceOnline(stream):
            rate = f", {stream.fps:g} fps" if stream.fps else ""
            return f"{stream.label}, {stream.w}x{stream.h}{rate}{', live' if stream.live else ''}"
        case SourceConnecting(change) | SourceStalled(change) | SourceOffline(change):
            return change.reason
        case SourceEof(finish):
            return f"{finish.frames} frames"
        case SourceGap(gap):
            some = f"{gap.count} of " if 0 < gap.count <= gap.last - gap.first else ""
            return f"{gap.reason}, {some}pictures {gap.first}..{gap.last}"
        case SourceEpoch(restart):
            return f"stream epoch {restart.stream_epoch}" + (
                f" ({restart.reason})" if restart.reason else ""
            )
        case SourceClip(clip):
            return f"{clip.path} of event {clip.event}"
        case _:
            assert_never(what)


def csv_rows(what: SourceBody) -> list[Cells]:
    """Return the row of the event."""
    match what:
        case SourceOnline(stream):
            known = members(stream, "label", "fps", "live")
            return [{**known, "width": stream.w, "height": stream.h}]
        case SourceGap(gap):
            numbers = {"first_n": gap.first, "last_n": gap.last, "count": gap.count}
            return [{"reason": gap.reason, **numbers}]
        case SourceEof(finish):
            return [{"frames": finish.frames}]
        case SourceConnecting(change) | SourceStalled(change) | SourceOffline(change):
            return [{"reason": change.reason}]
        case SourceEpoch(restart):
            return [{"reason": restart.reason}]
        case SourceClip(clip):
            return [members(clip, "path", "event")]
        case _:
            assert_never(what)


SOURCE_EVENTS = EventTypes(
    (
        *(SourceConnecting, SourceOnline, SourceStalled, SourceOffline),
        *(SourceEof, SourceGap, SourceEpoch, SourceClip),
    ),
    line,
    csv_rows,
    ("path", "event"),
)
