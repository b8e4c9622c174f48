"""The events of the feed, `streamvis.event/1`, as types and as JSON.

The docstrings of the structs are descriptions in the published JSON Schema.

In Python an event is an `Event` whose `what` is one of the types below; in JSON the members of
`what` stand beside the envelope's, named by `type`:

    {"schema": "streamvis.event/1.0", "type": "track.update", "id": …, "track": {…}, …}

Within major version 1, changes only add. A reader ignores unknown members and gets `Other` for
unknown types.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from streamvis.errors import DataError

SCHEMA = "streamvis.event/1.0"
MAJOR = "streamvis.event/1."

Box = tuple[float, float, float, float]
Pair = tuple[float, float]
Covariance = tuple[Pair, Pair]
Count = Annotated[int, Meta(ge=0)]
EventClock = Literal["file", "arrival", "rtcp_sr", "none"]  # none: not about one frame
EndReason = Literal["lost", "epoch", "eof", "drained", "failed"]
ActionReason = Literal["over", "lost", "epoch", "eof", "drained", "failed"]
SightingReason = Literal["over", "epoch", "eof", "drained", "failed"]


class Time(msgspec.Struct, frozen=True, kw_only=True):
    """Three clocks, in microseconds."""

    media_us: int  # strictly monotone within a stream epoch
    capture_us: int = 0  # since 1970, by `clock`; 0: unknown
    clock: EventClock = "none"
    emit_us: int = 0  # since 1970, when the publisher wrote it


class FrameRef(msgspec.Struct, frozen=True, kw_only=True):
    """The picture an event is about."""

    n: int  # number of the picture in the source, from 0; dropped ones count
    seq: int  # consecutive over admitted pictures, from 0
    w: int  # pixels
    h: int
    stream_epoch: int


class Association(msgspec.Struct, frozen=True, kw_only=True):
    """How sure the tracker was of what it saw."""

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
    """Two ids were one person: all that was told of `gone` before was of `kept`."""

    gone: str
    kept: str


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """One id was two people: what was told of `id` from `since_us` until now was of `other`."""

    id: str
    other: str
    since_us: int  # media time


class TrackMerge(msgspec.Struct, frozen=True, tag_field="type", tag="track.merge"):
    """A correction of what was told before its frame; the frame's other events follow it.

    If `gone` was open, its `track.end` follows, with `into`; `kept` begins again or goes on.
    """

    merge: Merge


class TrackSplit(msgspec.Struct, frozen=True, tag_field="type", tag="track.split"):
    """All splits of one frame, true at once and before its merges: two make a swap.

    They end nobody: who is still there is told of by the events that follow.
    """

    splits: tuple[Split, ...]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody does, or what goes on in the whole frame."""

    label: str
    p: float  # calibrated probability, of the window that ends with this picture
    window_us: Count  # media time from the first picture of the window to this one
    since_us: int  # media time when the probability reached `begin`
    track: str | None = None  # track id; null: the whole frame


class EndedAction(msgspec.Struct, frozen=True, kw_only=True):
    """An action that is over, or of which nothing is known any more."""

    label: str
    p: float  # the last value
    p_max: float  # since it began
    window_us: Count
    since_us: int
    reason: ActionReason  # over: below the threshold `end`; lost: no longer observed
    track: str | None = None


class ActionBegin(msgspec.Struct, frozen=True, tag_field="type", tag="action.begin"):
    action: Action


class ActionUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="action.update"):
    action: Action


class ActionEnd(msgspec.Struct, frozen=True, tag_field="type", tag="action.end"):
    """Told before the `track.end` of the same frame."""

    action: EndedAction


class Mask(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of classes that came with the event, on the live feed and nowhere else."""

    attachment: Count  # which of the messages' frames after the payload, from 0
    w: int  # pixels of the mask; it covers the whole frame
    h: int
    labels: tuple[str, ...]  # names of pixel values, from 0
    format: Literal["png"] = "png"  # grey, 8 bits


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """A connected piece of a picture that belongs to no class."""

    share: float  # of the picture
    box_px: Box  # around it, xyxy, pixels of the source frame
    p: float  # mean out-of-distribution probability of its pixels


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a picture belongs to no class."""

    share: float  # of the picture, in all regions together
    largest: Region | None = None


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What one picture shows."""

    classes: dict[str, float]  # share of the picture, by class, in the order of the weights
    unknown: Unknown | None = None  # null: the weights do not detect it
    mask: Mask | None = None


class SceneUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="scene.update"):
    scene: Scene


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """Something is in the picture that belongs to no class: the largest such region."""

    share: float  # of the picture
    box_px: Box
    p: float
    since_us: int  # media time when it was large enough first


class EndedSighting(msgspec.Struct, frozen=True, kw_only=True):
    """There is no such thing any more, or nothing is known of it."""

    share: float  # the last value
    box_px: Box
    p: float
    since_us: int
    share_max: float  # since it was first seen
    reason: SightingReason  # over: gone, or too small


class UnknownBegin(msgspec.Struct, frozen=True, tag_field="type", tag="unknown.begin"):
    """How it goes on is told by `scene.update`."""

    unknown: Sighting


class UnknownEnd(msgspec.Struct, frozen=True, tag_field="type", tag="unknown.end"):
    unknown: EndedSighting


class ZoneForecast(msgspec.Struct, frozen=True, kw_only=True):
    zone: str
    p: float  # probability that it will hold one of its classes


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What the scene is forecast to be."""

    horizon_us: Count  # how far ahead
    target_us: int  # media time of the forecast
    classes: dict[str, float]  # share of the picture then
    zones: tuple[ZoneForecast, ...] = ()
    warm: bool = True  # false: from fewer frames than the network was trained with
    mask: Mask | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How well a forecast that was told fits what this picture was found to show."""

    made_us: int  # media time of the frame the forecast was made from
    horizon_us: Count
    miou: float  # over the classes in either
    accuracy: float  # share of pixels


class ForecastSegmentation(
    msgspec.Struct, frozen=True, tag_field="type", tag="forecast.segmentation"
):
    forecast: Outlook


class ForecastScored(msgspec.Struct, frozen=True, tag_field="type", tag="forecast.scored"):
    forecast: Score


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a source that is online."""

    label: str  # where it came from, without credentials
    w: int
    h: int
    fps: float = 0.0  # nominal, 0 when unknown
    live: bool = False


class Change(msgspec.Struct, frozen=True):
    reason: str = ""


class Gap(msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """Pictures of the source that are missing, by number, both included; -1 when unknown.

    Not all between the first and the last need be missing: `count` of them are, 0 when unknown.
    """

    first: int
    last: int
    reason: str
    count: int = 0


class Restart(msgspec.Struct, frozen=True):
    """Media time starts anew, and so do the numbers of tracks."""

    stream_epoch: int
    reason: str = ""


class Finish(msgspec.Struct, frozen=True):
    frames: Count  # that were admitted


class SourceConnecting(msgspec.Struct, frozen=True, tag_field="type", tag="source.connecting"):
    stream: Change


class SourceOnline(msgspec.Struct, frozen=True, tag_field="type", tag="source.online"):
    stream: Stream


class SourceStalled(msgspec.Struct, frozen=True, tag_field="type", tag="source.stalled"):
    stream: Change


class SourceOffline(msgspec.Struct, frozen=True, tag_field="type", tag="source.offline"):
    stream: Change


class SourceEof(msgspec.Struct, frozen=True, tag_field="type", tag="source.eof"):
    stream: Finish


class SourceGap(msgspec.Struct, frozen=True, tag_field="type", tag="source.gap"):
    stream: Gap


class SourceEpoch(msgspec.Struct, frozen=True, tag_field="type", tag="source.epoch"):
    stream: Restart


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """What the publisher sent last for a source, by family."""

    last: dict[str, int] = {}  # tseq
    dropped: dict[str, int] = {}  # how often a subscriber's queue was full, each a gap
    sources: list[str] = []  # open ones; on sv1/_sys/ only
    ended: bool = False  # the run is over; on sv1/_sys/ only


class Heartbeat(msgspec.Struct, frozen=True, tag_field="type", tag="hb"):
    hb: Beat


class Lost(msgspec.Struct, frozen=True, tag_field="type", tag="sys.lost"):
    """Told by the client itself: messages of `topic` that never came, both ends included."""

    topic: str
    first: int  # tseq
    last: int


class Other(msgspec.Struct, frozen=True, tag_field="type", tag="sys.other"):
    """An event of a type that this version does not know."""

    kind: str = ""
    members: dict[str, Any] = {}


TrackBody = TrackBegin | TrackUpdate | TrackEnd | TrackMerge | TrackSplit
ActionBody = ActionBegin | ActionUpdate | ActionEnd
SceneBody = SceneUpdate | UnknownBegin | UnknownEnd | ForecastSegmentation | ForecastScored
SourceBody = (
    SourceConnecting
    | SourceOnline
    | SourceStalled
    | SourceOffline
    | SourceEof
    | SourceGap
    | SourceEpoch
)
EventBody = TrackBody | ActionBody | SceneBody | SourceBody | Heartbeat | Lost | Other
KINDS: tuple[type[EventBody], ...] = (
    *(TrackBegin, TrackUpdate, TrackEnd, TrackMerge, TrackSplit),
    *(ActionBegin, ActionUpdate, ActionEnd),
    *(SceneUpdate, UnknownBegin, UnknownEnd, ForecastSegmentation, ForecastScored),
    *(SourceConnecting, SourceOnline, SourceStalled, SourceOffline),
    *(SourceEof, SourceGap, SourceEpoch, Heartbeat),
)  # what a publisher sends


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
    return f"sv1/{source}/{family}/"


class _Type(msgspec.Struct):
    type: str


_SEAM = b',"attachments":[],"what":{'  # cannot occur in a string
_encoder = msgspec.json.Encoder()
_envelopes = msgspec.json.Decoder(Event)
_types = msgspec.json.Decoder(_Type)
_whats = msgspec.json.Decoder(EventBody)
_members = msgspec.json.Decoder(dict[str, Any])
_KNOWN = {str(kind.__struct_config__.tag) for kind in KINDS}
FAMILIES = tuple(sorted({name.partition(".")[0] for name in _KNOWN}))
_ASIDE = ("attachments", "what")  # of an Event, not members of its JSON
_ENVELOPE = {*Event.__struct_fields__, "type"} - {*_ASIDE}


def encode(event: Event) -> bytes:
    """The event as one JSON object, without its attachments."""
    bare = msgspec.structs.replace(event, attachments=()) if event.attachments else event
    head, _, what = _encoder.encode(bare).partition(_SEAM)
    return head + b"," + what[:-1]


def decode(data: bytes | memoryview) -> Event:
    """The event that `encode` wrote, also by a later version of major 1; DataError otherwise."""
    try:
        event = _envelopes.decode(data)
        kind = _types.decode(data).type
        what = _whats.decode(data) if kind in _KNOWN else _other(kind, data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"not an event of {MAJOR}x ({len(data)} bytes): {error}") from None
    return msgspec.structs.replace(event, attachments=(), what=what)


def _other(kind: str, data: bytes | memoryview) -> Other:
    members = _members.decode(data)
    return Other(kind, {key: value for key, value in members.items() if key not in _ENVELOPE})


def content(event: Event) -> Event:
    """The event without what differs between two runs of one file: names and wall clocks."""
    time = msgspec.structs.replace(event.time, capture_us=0, emit_us=0)
    return msgspec.structs.replace(event, id="", epoch="", time=time, attachments=())


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of what is on the wire, all types of this version."""
    (envelope, *bodies), parts = msgspec.json.schema_components(
        (Event, *KINDS), ref_template="#/$defs/{name}"
    )
    head = parts["Event"]
    for aside in _ASIDE:
        head["properties"].pop(aside)
    for unsent in (Lost, Other):
        parts.pop(unsent.__name__, None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        "allOf": [envelope, {"anyOf": bodies}],
        "$defs": parts,
    }
