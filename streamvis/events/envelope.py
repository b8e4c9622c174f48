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

SCHEMA = "streamvis.event/1.0"
MAJOR = "streamvis.event/1."
SYSTEM = "_sys"  # in place of a source: the publisher itself
SYSTEM_TOPIC = f"sv1/{SYSTEM}/"

Box = tuple[float, float, float, float]
Pair = tuple[float, float]
Count = Annotated[int, Meta(ge=0)]
EventClock = Literal["file", "arrival", "rtcp_sr", "none"]  # none: not about one frame
Reason = Literal["epoch", "eof", "drained", "failed"]  # why all that is open ends at once


class Time(msgspec.Struct, frozen=True, kw_only=True):
    """Three clocks, in microseconds."""

    media_us: int  # strictly monotone within a stream epoch
    capture_us: int = 0  # since 1970, by `clock`; 0: unknown
    clock: EventClock = "none"
    emit_us: int = 0  # since 1970, when the publisher wrote it


class FrameRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The picture an event is about."""

    n: int  # number of the picture in the source, from 0; dropped ones count
    seq: int  # consecutive over admitted pictures, from 0
    w: int  # pixels
    h: int
    stream_epoch: int
    suspect: bool = False  # data before it was lost: it may be damaged; absent when false


class Mask(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of classes that came with the event, on the live feed and nowhere else."""

    attachment: Count  # which of the messages' frames after the payload, from 0
    w: int  # pixels of the mask; it covers the whole frame
    h: int
    labels: tuple[str, ...]  # names of pixel values, from 0
    format: Literal["png"] = "png"  # grey, 8 bits


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The last numbers that the publisher sent for a source, by family."""

    last: dict[str, int] = {}  # tseq
    dropped: dict[str, int] = {}  # how often a subscriber's queue was full, each a gap
    sources: list[str] = []  # open ones; on sv1/_sys/ only
    ended: bool = False  # the run is over; on sv1/_sys/ only
    refused: dict[str, int] = {}  # connections, by reason; on sv1/_sys/ only


class Heartbeat(msgspec.Struct, frozen=True, tag_field="type", tag="hb"):
    hb: Beat


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
    pipeline: str = ""  # hash of the pipeline's configuration


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope. `attachments` and `what` come last: `encode` relies on it."""

    schema: Annotated[str, Meta(pattern=r"^streamvis\.event/1\.")] = SCHEMA
    id: str
    source: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,64}$")]
    epoch: str  # uuid7 of the publisher's boot
    tseq: Count  # from 1, one more for each message of the topic; 0: not counted
    offset: int  # from 0, the place in the source's log; -1: not in the log
    time: Time
    frame: FrameRef | None = None
    prov: Provenance = Provenance()
    unlogged: bool | msgspec.UnsetType = msgspec.UNSET  # true: sent before it could be logged
    attachments: tuple[bytes, ...] = ()  # came beside the JSON, which has none of them
    what: EventBody = Other()

    @property
    def type(self) -> str:
        return type_of(self.what)

    @property
    def family(self) -> str:
        return family_of(self.what)


def type_of(what: EventBody) -> str:
    """`track.begin`, `source.eof`, `hb`, …"""
    return what.kind if isinstance(what, Other) else str(type(what).__struct_config__.tag)


def family_of(what: EventBody) -> str:
    return type_of(what).partition(".")[0]


def topic(source: str, family: str) -> str:
    """The trailing slash is part of it, or the prefix `cam1` would also match `cam10`."""
    return SYSTEM_TOPIC if source == SYSTEM else f"sv1/{source}/{family}/"


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


def content(event: Event) -> Event:
    """The event without what differs between two runs of one file: names and wall clocks."""
    bare = msgspec.structs.replace(event.time, capture_us=0, emit_us=0)
    return msgspec.structs.replace(event, id="", epoch="", time=bare, attachments=())


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
