"""The events of the feed, `streamvis.event/1`, as types and as JSON.

The docstrings of the structs are descriptions in the published JSON Schema.

In Python an event is an `Event` whose `what` is one of the types below; in JSON the members of
`what` stand beside the envelope's, named by `type`:

    {"schema": "streamvis.event/1.0", "type": "track.update", "id": …, "track": {…}, …}

Ids are version 7 UUIDs, whose first 48 bits are milliseconds since 1970. An event's id is a
function of the run, the source and the offset, so an event that is derived or sent twice, say after
a kill -9, has the same id both times.

Within major version 1, changes only add. A reader ignores unknown members and gets `Other` for
unknown types.
"""

import hashlib
import secrets
import time
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from streamvis.messages import StageRun

SCHEMA = "streamvis.event/1.0"
MAJOR = "streamvis.event/1."

Box = tuple[float, float, float, float]
Pair = tuple[float, float]
Count = Annotated[int, Meta(ge=0)]
EventClock = Literal["file", "arrival", "rtcp_sr", "none"]  # none: not about one frame
Reason = Literal["epoch", "eof", "drained", "failed"]  # why all that is open ends at once


class Time(msgspec.Struct, frozen=True, kw_only=True):
    """Three clocks, in microseconds."""

    media_us: int  # time in the video, strictly increasing in a stream epoch. A file begins at 0; a
    # live source goes on over its stream epochs, outages included
    capture_us: int = 0  # wall clock when the frame was captured, since 1970; 0: unknown
    clock: EventClock = "none"  # origin of `capture_us`
    emit_us: int = 0  # wall clock when the publisher wrote the event, since 1970


class FrameRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The picture that an event is about."""

    n: int  # number of the picture in the source, from 0, dropped ones included
    seq: int  # number among the pictures that were processed, from 0
    w: int  # px; width
    h: int  # px; height
    stream_epoch: int  # one connection to the source, from 1; each reconnect or resume adds 1
    suspect: bool = False  # true when data was lost since the last key frame, so that the picture
    # may be grey or smeared; otherwise absent


class Mask(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of classes that came with the event, on the live feed and nowhere else."""

    attachment: Count  # number of the message frame after the payload, from 0
    w: int  # px; width of the mask, which covers the whole frame
    h: int  # px; height
    labels: tuple[str, ...]  # names of pixel values, from 0
    format: Literal["png"] = "png"  # grey, 8 bits


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The last numbers that the publisher sent for a source."""

    last: dict[str, int] = {}  # last `tseq`, by family
    dropped: dict[str, int] = {}  # how often a subscriber's queue was full, by family
    sources: list[str] = []  # open sources; on `sv1/_sys/` only
    ended: bool = False  # true: the run is over; on `sv1/_sys/` only
    refused: dict[str, int] = {}  # refused connections, by reason; on `sv1/_sys/` only
    replay: str | msgspec.UnsetType = msgspec.UNSET  # address of the [replay server](replay.md);
    # on `sv1/_sys/` of a run that has one only


class Heartbeat(msgspec.Struct, frozen=True, tag_field="type", tag="hb"):
    """The source is open and its publisher alive; sent each second."""

    hb: Beat  # numbers of the source


class Lost(msgspec.Struct, frozen=True, tag_field="type", tag="sys.lost"):
    """Made by the client: the messages of `topic` that were lost, both ends included."""

    topic: str
    first: int  # tseq
    last: int


class Other(msgspec.Struct, frozen=True, tag_field="type", tag="sys.other"):
    """An event of a type that this version does not know."""

    kind: str = ""
    members: dict[str, Any] = {}


if TYPE_CHECKING:
    EventBody = msgspec.Struct  # a tagged struct of one of the families
else:
    EventBody = Any


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What an event was made by."""

    pipeline: str = ""  # hash of the pipeline's configuration
    stages: dict[str, StageRun] | msgspec.UnsetType = msgspec.UNSET  # by stage above the publisher:
    # where it processed the frame; absent unless `publish.provenance` is set


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The members that every event has, beside those of its type."""

    # `attachments` and `what` come last: `encode` relies on it
    schema: Annotated[str, Meta(pattern=r"^streamvis\.event/1\.")] = SCHEMA  # within major
    # version 1, members and types are only added: ignore unknown ones
    id: str  # UUID version 7. A function of `epoch`, `source` and `offset`: an event that is sent
    # twice has the same id both times, so use it to drop duplicates
    source: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,64}$")]  # id of the video source; `_sys`:
    # the publisher itself
    epoch: str  # UUID version 7 of the run. A resumed run and a restarted publisher keep it
    tseq: Count  # sequence number in the topic (source and family), from 1, without gaps; 0: a
    # heartbeat, which is not counted
    offset: int  # position in the log of the source, over all families, from 0, without gaps unless
    # the disk was full; -1: not in the log
    time: Time  # when it was, by three clocks
    frame: FrameRef | None = None  # the picture; null: the event is not about one
    prov: Provenance = Provenance()  # what the event was made by
    unlogged: bool | msgspec.UnsetType = msgspec.UNSET  # true when the event was not in the log
    # when it was published, since the disk was full; otherwise absent, as it is in the log
    attachments: tuple[bytes, ...] = ()  # came beside the JSON, which has none of them
    what: EventBody = Other()

    @property
    def type(self) -> str:
        return type_of(self.what)

    @property
    def family(self) -> str:
        return family_of(self.what)


class Snapshot(msgspec.Struct, frozen=True, tag_field="type", tag="sys.snapshot"):
    """Made by the client: the state of a source, in place of all that was known of it.

    `events` are the latest event of everything that goes on, in order of offset.
    """

    events: tuple[Event, ...]
    tseq: dict[str, int]  # family -> last


def type_of(what: EventBody) -> str:
    """`track.begin`, `source.eof`, `hb`, …"""
    return what.kind if isinstance(what, Other) else str(type(what).__struct_config__.tag)


def family_of(what: EventBody) -> str:
    return type_of(what).partition(".")[0]


_SEAM = b',"attachments":[],"what":{'  # cannot occur in a string
_encoder = msgspec.json.Encoder()
ASIDE = ("attachments", "what")  # of an Event, not members of its JSON


def encode(event: Event) -> bytes:
    """The event as one JSON object, without its attachments."""
    bare = msgspec.structs.replace(event, attachments=()) if event.attachments else event
    head, _, what = _encoder.encode(bare).partition(_SEAM)
    return head + b"," + what[:-1]


def unlogged(payload: bytes) -> bytes:
    """The encoded event with the mark that it is not in the log."""
    return payload[:-1] + b',"unlogged":true}'


def new_epoch() -> str:
    """The id of a new run."""
    return _uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))


def event_id(epoch: str, source: str, offset: int, time_us: int) -> str:
    """The id of the event at `offset`; `time_us` is its wall clock in µs, as precisely as known."""
    digest = hashlib.blake2b(f"{epoch}/{source}/{offset}".encode(), digest_size=10).digest()
    return _uuid7(time_us // 1000, int.from_bytes(digest))


def epoch_us(epoch: str) -> int:
    """The start time of a run by its id, µs since 1970; 0 when the id is not a UUID."""
    try:
        return (uuid.UUID(epoch).int >> 80) * 1000
    except ValueError:
        return 0


def _uuid7(unix_ms: int, bits: int) -> str:
    rand_a = (bits >> 62) & 0xFFF
    rand_b = bits & ((1 << 62) - 1)
    value = (unix_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    return str(uuid.UUID(int=value))
