"""What is known of a source after its events: status, open tracks, zones and lines."""

from typing import NamedTuple

import msgspec

from streamvis.events.envelope import Event
from streamvis.events.source_events import (
    SourceConnecting,
    SourceEof,
    SourceOffline,
    SourceOnline,
    SourceStalled,
)
from streamvis.stages.track.events import TrackBegin, TrackEnd, TrackMerge
from streamvis.stages.zones.events import (
    LineCross,
    LineRevise,
    Occupancy,
    ZoneEnter,
    ZoneExit,
    ZoneLayoutSet,
    ZoneRevise,
    ZoneUpdate,
)
from streamvis.zone_layout import ZoneLayout

UPDATES = {"zone.update"}  # types that are sampled and yet change the state


class ZoneNow(msgspec.Struct):
    """What is known of a zone."""

    people: int = 0
    longest_s: float = 0.0  # stay of the person who has been inside for longest
    inside: list[str] = []  # ids of tracks, in the order in which they entered


class LineNow(msgspec.Struct):
    """What is known of a line."""

    in_total: int = 0
    out_total: int = 0


class SourceNow(msgspec.Struct):
    """What is known of a source."""

    epoch: str = ""  # of its run
    status: str = "offline"
    open: set[str] = msgspec.field(default_factory=set)  # ids of tracks
    pictured: bool = False  # the broker may have a picture of it
    zones: dict[str, ZoneNow] = {}
    lines: dict[str, LineNow] = {}
    layout: ZoneLayout | None = None  # the last one
    past_zones: set[str] = msgspec.field(default_factory=set)  # that were removed
    past_lines: set[str] = msgspec.field(default_factory=set)

    @property
    def shapes(self) -> "Shapes":
        return Shapes(frozenset(self.zones), frozenset(self.lines))


class Shapes(NamedTuple):
    """The names of zones and lines of a source."""

    zones: frozenset[str] = frozenset()
    lines: frozenset[str] = frozenset()

    def __or__(self, other: "Shapes") -> "Shapes":
        return Shapes(self.zones | other.zones, self.lines | other.lines)


def touched_by(now: SourceNow, event: Event) -> Shapes:
    """Return the zones and lines whose state may change when the event is folded."""
    match event.what:
        case ZoneLayoutSet(layout):
            zones = frozenset(zone.name for zone in layout.zones)
            lines = frozenset(line.name for line in layout.lines)
            return now.shapes | Shapes(zones, lines)
        case ZoneEnter(zone) | ZoneExit(zone) | ZoneRevise(zone) | ZoneUpdate(zone):
            touched = Shapes(zones=frozenset([zone.name]))
        case LineCross(line) | LineRevise(line):
            touched = Shapes(lines=frozenset([line.name]))
        case _:
            touched = Shapes()
    return touched if event.epoch == now.epoch else now.shapes | touched


def fold(now: SourceNow, event: Event) -> None:
    """Bring the state of a source up to the event."""
    if event.epoch != now.epoch:  # another run: what the one before left open is over
        now.epoch, now.open = event.epoch, set()
        now.zones = {name: ZoneNow() for name in now.zones}
        now.lines = {name: LineNow() for name in now.lines}
    match event.what:
        case SourceOnline():
            now.status = "online"
        case SourceStalled():
            now.status = "stalled"
        case SourceConnecting() | SourceOffline():
            now.status = "offline"
        case SourceEof():
            now.status = "ended"
        case TrackBegin(track):
            now.open.add(track.id)
        case TrackEnd(track):
            now.open.discard(track.id)
        case TrackMerge(merge):  # `kept` is open, or begins again
            now.open.discard(merge.gone)
        case ZoneLayoutSet(layout):
            _set_layout(now, layout)
        case _:
            _fold_shapes(now, event)


def _fold_shapes(now: SourceNow, event: Event) -> None:
    match event.what:
        case ZoneEnter(entry):
            zone = _zone(now, entry.name)
            zone.inside = [*_without(zone.inside, entry.track), entry.track]
            _count(zone, entry.occupancy)
        case ZoneExit(gone) if gone.name in now.zones:  # it may have been removed
            zone = now.zones[gone.name]
            zone.inside = _without(zone.inside, gone.track)
            _count(zone, gone.occupancy)
        case ZoneRevise(revision) if revision.name in now.zones:
            zone = now.zones[revision.name]
            staying = [visit.track for visit in revision.now if visit.left_us is None]
            ended = [visit.track for visit in revision.was if visit.left_us is None]
            others = _without(zone.inside, *staying, *ended)
            zone.inside = [*others, *staying]
            _count(zone, revision.occupancy)
        case ZoneUpdate(state):
            zone = _zone(now, state.name)
            zone.longest_s = round(state.longest_s, 1)
            zone.people = state.occupancy.people
        case LineCross(crossing):
            now.past_lines.discard(crossing.name)
            now.lines[crossing.name] = LineNow(crossing.in_total, crossing.out_total)
        case LineRevise(revised) if revised.name in now.lines:
            now.lines[revised.name] = LineNow(revised.in_total, revised.out_total)


def _set_layout(now: SourceNow, layout: ZoneLayout) -> None:
    """Keep what is known of zones that are still there, and of lines that are the same."""
    before = now.shapes
    if now.layout is not None:
        same = {line.name for line in layout.lines if line in now.layout.lines}
        now.lines = {name: one for name, one in now.lines.items() if name in same}
    now.layout = layout
    now.zones = {one.name: now.zones.get(one.name, ZoneNow()) for one in layout.zones}
    now.lines = {one.name: now.lines.get(one.name, LineNow()) for one in layout.lines}
    now.past_zones = (now.past_zones | before.zones) - now.zones.keys()
    now.past_lines = (now.past_lines | before.lines) - now.lines.keys()


def _zone(now: SourceNow, name: str) -> ZoneNow:
    """Return the zone; one that no layout has named begins here."""
    now.past_zones.discard(name)
    return now.zones.setdefault(name, ZoneNow())


def _count(zone: ZoneNow, occupancy: Occupancy | None) -> None:
    zone.people = occupancy.people if occupancy is not None else len(zone.inside)
    if not zone.people:
        zone.longest_s = 0.0


def _without(tracks: list[str], *gone: str) -> list[str]:
    return [one for one in tracks if one not in gone]
