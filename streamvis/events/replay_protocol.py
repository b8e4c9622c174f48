"""Requests to the replay server and its replies, on the wire (docs/events.md).

A request is one frame of JSON; a reply is one, too. A client with a REQ socket sends and gets an
empty frame before it. `id` is a number of the client's choice, which the reply repeats.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from streamvis.errors import DataError

LONGEST_REQUEST = 8192  # bytes
MOST_EVENTS = 1000  # in a reply
MOST_BYTES = 1 << 20  # of events in a reply, unless the first is longer
MOST_OFFSETS = 100_000  # that one request looks at

Name = Annotated[str, Meta(max_length=64)]
Number = Annotated[int, Meta(ge=0, le=2**53)]


class GetSnapshot(msgspec.Struct, frozen=True, tag_field="get", tag="snapshot"):
    """Ask for the state of one source, or of all."""

    source: Name | None = None
    id: Number = 0


class GetCursor(msgspec.Struct, frozen=True, tag_field="get", tag="cursor"):
    """Ask for the same without the events of the state."""

    source: Name | None = None
    id: Number = 0


class GetEvents(msgspec.Struct, frozen=True, tag_field="get", tag="events"):
    """Ask for logged events of a source, both offsets included; `types` may name families."""

    source: Name
    from_offset: Number
    to_offset: Number | None = None
    types: Annotated[tuple[Name, ...], Meta(max_length=32)] = ()
    id: Number = 0


class GetStatus(msgspec.Struct, frozen=True, tag_field="get", tag="status"):
    """Ask for the counts of the server."""

    id: Number = 0


Request = GetSnapshot | GetCursor | GetEvents | GetStatus


class SourceCursor(msgspec.Struct, frozen=True, kw_only=True):
    """The place of the last event of a source, and its state there."""

    epoch: str  # of the run
    first: int  # offset at which the run begins
    oldest: int  # offset of the oldest event in the log
    offset: int  # of the last event; -1: none
    tseq: dict[str, int]  # family -> last
    ending: str = ""  # eof, drained, failed; empty while the source is open
    events: tuple[msgspec.Raw, ...] | msgspec.UnsetType = msgspec.UNSET  # the latest of all that
    # goes on, in order of offset; absent from a cursor


class Snapshot(msgspec.Struct, frozen=True, tag_field="reply", tag="snapshot"):
    sources: dict[str, SourceCursor]
    id: int = 0


class Events(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="events"):
    source: str
    events: tuple[msgspec.Raw, ...]
    next: int  # offset to ask from for what follows
    more: bool  # there may be more up to `to_offset`
    id: int = 0


class Gone(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="gone"):
    """What was asked for is no longer in the log."""

    source: str
    oldest: int  # offset of the oldest event in the log
    id: int = 0


class Status(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="status"):
    requests: int  # answered
    refused: int  # malformed
    behind: int  # events that the snapshot lacks
    id: int = 0


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="error"):
    error: str
    retry: bool = False  # the same request may succeed a little later
    id: int = 0


Reply = Snapshot | Events | Gone | Status | Failure

encode = msgspec.json.Encoder().encode
_requests = msgspec.json.Decoder(Request)
_replies = msgspec.json.Decoder(Reply)


def decode_request(frames: Sequence[bytes]) -> tuple[list[bytes], Request]:
    """Return the frames to repeat before the reply, and the request; DataError for others."""
    head = [b""] if len(frames) == 2 and not frames[0] else []
    if len(frames) != len(head) + 1:
        raise DataError(f"found {len(frames)} frames, expected one frame of JSON")
    try:
        return head, _requests.decode(frames[-1])
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f'no request: {error}. Expected for example {{"get":"snapshot"}} or '
            '{"get":"events","source":"cam1","from_offset":0}'
        ) from None


def decode_reply(frames: Sequence[bytes]) -> Reply:
    """Return the reply; DataError for anything else."""
    try:
        return _replies.decode(frames[-1] if frames else b"")
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"no reply of a replay server: {error}") from None


def raw(payloads: Iterable[bytes]) -> tuple[msgspec.Raw, ...]:
    """Return encoded events as members of a reply."""
    return tuple(map(msgspec.Raw, payloads))
