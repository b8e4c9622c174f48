"""Requests to a run: status, sources that come and go, zones. Pure: no sockets, no clocks.

A request and its reply are one JSON document each, `{"version": 1, "request": {"type": …}}` and
`{"version": 1, "reply": {"type": …}}`. `handle` decides what a request brings about, and
`control_socket` carries requests and replies between clients and the hub.
"""

import re
from collections.abc import Mapping, Set
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streamvis.config.zones import NO_STAGE
from streamvis.errors import RunError
from streamvis.parsing import alternatives
from streamvis.runtime.control_zones import (
    ChangeZones,
    KeptZones,
    ListZones,
    ZoneList,
    ZonesChanged,
    cannot_have,
    is_newer,
    listed_zones,
    not_kept,
    revision_of,
)
from streamvis.runtime.metrics import SourceReport, Status
from streamvis.runtime.protocol import AddSource, RemoveSource, RestartSource, SetZones
from streamvis.runtime.reconnect import reconnect_of
from streamvis.sources.shard import ALL, Shard, shard_of
from streamvis.sources.spec import ID, SourceSpec
from streamvis.zone_layout import ZoneLayout

VERSION = 1
LONGEST_REQUEST = 2**19  # bytes: 1000 zones have some 400 000
MOST_PICTURES = 2  # that a client may wait for

Origin = Literal["start", "file", "added"]  # of a source: given at start, in the sources file
ControlFact = AddSource | RemoveSource | RestartSource | SetZones

# Requests


class GetStatus(msgspec.Struct, frozen=True, tag="status", forbid_unknown_fields=True):
    """Ask for the status of the run."""


class ListSources(msgspec.Struct, frozen=True, tag="sources", forbid_unknown_fields=True):
    """Ask for the sources of the run."""


class Add(msgspec.Struct, frozen=True, tag="add", forbid_unknown_fields=True):
    """Add a source, or start one again that has ended."""

    source: SourceSpec


class Remove(msgspec.Struct, frozen=True, tag="remove", forbid_unknown_fields=True):
    """Remove a source: what is in flight is finished, then it ends."""

    source: str


class Restart(msgspec.Struct, frozen=True, tag="restart", forbid_unknown_fields=True):
    """Close a source and connect to it again at once."""

    source: str


class Reload(msgspec.Struct, frozen=True, tag="reload", forbid_unknown_fields=True):
    """Read the sources file again and apply the difference."""


class GetPicture(msgspec.Struct, frozen=True, tag="picture", forbid_unknown_fields=True):
    """Ask for the next pictures of a source that is online, as JPEG, a reply for each.

    Who asks again before all have come waits for the larger number from then on. A client that
    wants all pictures of a source asks for two whenever one has come.
    """

    source: str
    count: Annotated[int, Meta(ge=1, le=MOST_PICTURES)] = 1


Request = (
    GetStatus | ListSources | Add | Remove | Restart | Reload | GetPicture | ListZones | ChangeZones
)

# Replies


class RunStatus(msgspec.Struct, frozen=True, tag="status"):
    """The status of the run, at most a second old."""

    status: Status


class ListedSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source of the run."""

    id: str
    label: str  # without credentials
    kind: str  # file, images, camera, url, synthetic
    origin: Origin
    state: str  # connecting, online, stalled, offline, ended
    state_s: float  # for how long
    reason: str


class SourceList(msgspec.Struct, frozen=True, tag="sources"):
    """The sources of the run, those that have ended included."""

    sources: list[ListedSource]


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """Ids of the sources that the request has changed."""

    added: list[str] = []
    removed: list[str] = []
    restarted: list[str] = []
    zones: list[str] = []  # that have other zones

    def __str__(self) -> str:
        ids = {
            "added": self.added,
            "removed": self.removed,
            "restarted": self.restarted,
            "other zones for": self.zones,
        }
        text = "; ".join(f"{what} {', '.join(names)}" for what, names in ids.items() if names)
        return text or "nothing has changed"


class SourcePicture(msgspec.Struct, frozen=True, kw_only=True, tag="picture"):
    """A picture of a source, after its privacy masks."""

    source: str
    jpeg: bytes  # base64 in JSON
    stream_epoch: int
    n: int  # number of the picture in its stream epoch
    media_us: int
    capture_us: int  # wall clock, since 1970; 0: unknown
    width: int  # of the source's picture: the JPEG may be smaller
    height: int


class Refusal(msgspec.Struct, frozen=True, tag="error"):
    """Why nothing was done."""

    message: str
    newer: bool = False  # what was to be replaced is newer than the client knows
    unknown: bool = False  # the run has no such source


Reply = RunStatus | SourceList | Changed | SourcePicture | ZoneList | ZonesChanged | Refusal

# Decisions


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The run as the handler of requests sees it."""

    at: float
    status: Status  # at most a second old
    specs: Mapping[str, SourceSpec]  # of all its sources
    ended: Mapping[str, str] = {}  # source -> how it ended: eof, drained or failed
    leaving: Set[str] = frozenset()  # removed, but not ended yet
    online: Set[str] = frozenset()  # that have pictures now
    origins: Mapping[str, Origin] = {}
    draining: bool = False
    give_up_s: float | None = None
    zones: ZoneLayout | None = None  # of sources without their own; None: the pipeline counts none
    shard: Shard = ALL  # of the sources, which this run has
    unkept: Set[str] = frozenset()  # sources whose zones were set, and that no file has


class Decision(msgspec.Struct, frozen=True):
    """What the hub does: keep the specs, feed the facts to the core, then send the reply."""

    reply: Reply | None  # None: it comes with the picture
    facts: list[ControlFact] = []
    specs: dict[str, SourceSpec] = {}  # of sources that are new or changed
    later: dict[str, SourceSpec] = {}  # to be added once the sources of these names have ended
    picture_of: str | None = None  # the source of which pictures are wanted
    pictures: int = 1  # how many of them
    keep: KeptZones | None = None  # zones file to be written first


def handle(request: Request, view: View) -> Decision:
    """Decide what a request brings about; `Reload` is decided by `apply_file`."""
    match request:
        case GetStatus():
            return Decision(RunStatus(_labelled(view)))
        case ListSources():
            return Decision(SourceList([_listed(r, view) for r in _labelled(view).sources]))
        case ListZones():
            return Decision(_zones(view))
        case Remove(name) | Restart(name) | GetPicture(name) | ChangeZones(name) if (
            name not in view.specs
        ):
            known = alternatives(name, view.specs)
            no_source = f"the run has no source '{_shown(name)}'{known}"
            return Decision(Refusal(no_source, unknown=True))
        case Remove(name) | ChangeZones(name) if name in view.ended:
            return Decision(Refusal(f"source '{name}' has ended already"))
        case Remove(name) | Restart(name) | ChangeZones(name) if name in view.leaving:
            return Decision(Refusal(f"source '{name}' is being removed"))
        case Remove(name):
            return Decision(Changed(removed=[name]), [RemoveSource(name, view.at)])
        case GetPicture(name) if name not in view.online:
            return Decision(Refusal(f"source '{name}' has no picture now: it is not online"))
        case GetPicture(name, count):
            return Decision(None, picture_of=name, pictures=count)
        case ChangeZones():
            return _change_zones(request, view)
        case _ if view.draining:
            return Decision(Refusal("the run is about to end: no source can join it any more"))
        case Restart(name) if name in view.ended:
            return Decision(Changed(restarted=[name]), [_add(view.specs[name], view)])
        case Restart(name) if not view.specs[name].reconnects:
            return Decision(
                Refusal(f"source '{name}' is a recording, without a connection: remove and add it")
            )
        case Restart(name):
            return Decision(Changed(restarted=[name]), [RestartSource(name, view.at)])
        case Add(spec) if wrong := _fault(spec, view):
            return Decision(Refusal(wrong))
        case Add(spec) if spec.id in view.leaving:
            return Decision(Changed(added=[spec.id]), later={spec.id: spec})
        case Add(spec):
            return Decision(Changed(added=[spec.id]), [_add(spec, view)], {spec.id: spec})
    return Decision(Refusal("the run has no sources file: start it with run --sources FILE"))


def _zones(view: View) -> ZoneList | Refusal:
    if view.zones is None:
        return Refusal(f"the run counts in no zones: {NO_STAGE}")
    return listed_zones(view.specs, view.ended.keys(), view.zones, view.unkept)


def _change_zones(request: ChangeZones, view: View) -> Decision:
    name, layout = request.source, request.layout
    spec = view.specs[name]
    if wrong := cannot_have(spec, layout, view.zones):
        return Decision(Refusal(wrong))
    if newer := is_newer(request.expected, layout, spec, view.zones):
        return Decision(Refusal(newer, newer=True))
    lost = not_kept(spec, view.specs)
    file = "" if lost else spec.zones_file
    return Decision(
        ZonesChanged(
            source=name,
            zones=len(layout.zones),
            lines=len(layout.lines),
            file=file,
            lost=lost,
            revision=revision_of(layout),
        ),
        [SetZones(name, layout, view.at)],
        {name: msgspec.structs.replace(spec, zones=layout)},
        keep=KeptZones(file, layout, spec.zones if request.expected else None) if file else None,
    )


def apply_file(
    before: Mapping[str, SourceSpec], now: Mapping[str, SourceSpec], view: View
) -> Decision:
    """Decide what turns the sources that the file listed before into those that it lists now.

    Sources that were never in the file stay as they are. One of the file that was removed by hand,
    or has failed, comes back; a recording that was played to its end does not, unless it has
    changed.
    """
    if view.draining:
        return Decision(Refusal("the run is about to end: the sources file is not read again"))
    changed, facts = Changed(), list[ControlFact]()
    specs, later = dict[str, SourceSpec](), dict[str, SourceSpec]()
    for name, spec in now.items():
        before_it = view.specs.get(name)
        if name in view.leaving:
            changed.added.append(name)
            later[name] = spec
        elif before_it is None or name in view.ended:
            if before_it == spec and view.ended.get(name) == "eof":
                continue
            changed.added.append(name)
            facts.append(_add(spec, view))
            specs[name] = spec
        elif before_it == spec:
            continue
        elif _with_zones_of(before_it, spec) == spec:
            specs[name] = spec
            facts += _other_zones(before_it, spec, view)
            if before_it.zones != spec.zones:
                changed.zones.append(name)
        else:
            changed.restarted.append(name)
            if before_it.reconnects and spec.reconnects:
                facts.append(_restart(spec, view))
                facts += _other_zones(before_it, spec, view)
                specs[name] = spec
            else:
                facts.append(RemoveSource(name, view.at))
                later[name] = spec
    gone = view.ended.keys() | view.leaving
    changed.removed.extend(n for n in before if n in view.specs.keys() - now.keys() - gone)
    facts += [RemoveSource(name, view.at) for name in changed.removed]
    return Decision(changed, facts, specs, later)


def late(later: Mapping[str, SourceSpec], view: View) -> Decision:
    """Decide which of the sources that wait for the end of another of their name begin now."""
    specs = {name: spec for name, spec in later.items() if name in view.ended}
    return Decision(Changed(list(specs)), [_add(spec, view) for spec in specs.values()], specs)


def _with_zones_of(spec: SourceSpec, other: SourceSpec) -> SourceSpec:
    return msgspec.structs.replace(spec, zones=other.zones, zones_file=other.zones_file)


def _other_zones(before: SourceSpec, now: SourceSpec, view: View) -> list[ControlFact]:
    """Return the fact that a source has other zones than before, if it has."""
    zones = now.zones or view.zones
    if zones is None or zones == (before.zones or view.zones):
        return []
    return [SetZones(now.id, zones, view.at)]


def _add(spec: SourceSpec, view: View) -> AddSource:
    zones = view.zones and (spec.zones or view.zones)
    return AddSource(spec.id, reconnect_of(spec, view.give_up_s), view.at, spec.label, zones)


def _restart(spec: SourceSpec, view: View) -> RestartSource:
    return RestartSource(spec.id, view.at, reconnect_of(spec, view.give_up_s), spec.label)


def _fault(spec: SourceSpec, view: View) -> str:
    """Return why a source cannot be added; empty when it can."""
    if not ID.fullmatch(spec.id):
        return f"source id '{_shown(spec.id)}' is not made of a-z, 0-9, '_' and '-' (1 to 64)"
    if not view.shard.has(spec.id):
        right = Shard(shard_of(spec.id, view.shard.shards), view.shard.shards)
        return (
            f"source '{spec.id}' is of shard {right}, and this run has shard {view.shard}; add it "
            f"to the run with --shard {right}"
        )
    if spec.id in view.specs and spec.id not in view.ended.keys() | view.leaving:
        return (
            f"the run has a source '{spec.id}' already, {view.specs[spec.id].label}; remove it "
            "first, or choose another id"
        )
    if wrong := cannot_have(spec, spec.zones, view.zones):
        return wrong
    waits = {"open_s": spec.open_s, "read_s": spec.read_s}
    for key, seconds in waits.items():
        if not 0 < seconds < 1e6:
            return f"source '{spec.id}': {key} is {seconds}, expected a number above 0"
    if not 0 <= spec.retry_s < 1e6:
        return f"source '{spec.id}': retry_s is {spec.retry_s}, expected 0 or more"
    return "" if spec.uri else f"source '{spec.id}' has no uri"


def _labelled(view: View) -> Status:
    """Return the status with labels also of sources that were never open."""
    sources = [
        r if r.label or r.id not in view.specs else _with_label(r, view.specs[r.id].label)
        for r in view.status.sources
    ]
    return msgspec.structs.replace(view.status, sources=sources)


def _with_label(report: SourceReport, label: str) -> SourceReport:
    return msgspec.structs.replace(report, label=label)


def _listed(report: SourceReport, view: View) -> ListedSource:
    return ListedSource(
        id=report.id,
        label=report.label,
        kind=view.specs[report.id].kind if report.id in view.specs else "",
        origin=view.origins.get(report.id, "start"),
        state=report.state,
        state_s=report.state_s,
        reason=report.reason,
    )


def _shown(name: str) -> str:
    """A name for an error text: short, without what would break a line."""
    return re.sub(r"[^ -~]", "?", name[:64])


# On the wire


class _Envelope(msgspec.Struct, frozen=True):
    version: int
    request: msgspec.Raw


class _Answer(msgspec.Struct, frozen=True):
    version: int
    reply: Reply


class _Call(msgspec.Struct, frozen=True):
    version: int
    request: Request


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_request = msgspec.json.Decoder(Request).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def encode_request(request: Request) -> bytes:
    return msgspec.json.encode(_Call(VERSION, request))


def encode_reply(reply: Reply) -> bytes:
    return msgspec.json.encode(_Answer(VERSION, reply))


def decode_reply(data: bytes) -> Reply:
    """Return the reply; RunError when it is none."""
    try:
        return _decode_answer(data).reply
    except (msgspec.DecodeError, RecursionError) as error:
        raise RunError(f"the answer of the run cannot be read: {error}") from None


def decode_request(frames: list[bytes]) -> Request | Refusal:
    """Return the request of a message, or why it is none."""
    if len(frames) != 1:
        return Refusal(f"a request of {len(frames)} parts; expected one JSON document")
    (data,) = frames
    if len(data) > LONGEST_REQUEST:
        return Refusal(f"a request of {len(data)} bytes; expected at most {LONGEST_REQUEST}")
    try:
        envelope = _decode_envelope(data)
        if envelope.version == VERSION:
            return _decode_request(envelope.request)
    except (msgspec.DecodeError, RecursionError) as error:
        return Refusal(f"the request cannot be read: {error}")
    return Refusal(
        f"version {envelope.version} of the control protocol; this run speaks {VERSION}: "
        "use the streamvis that runs it"
    )
