"""What of the zones and lines of a source goes on, as the latest events about it. Pure.

Kept are the layout; of each zone the last events with its state, its number of people, its entries,
whether it is crowded, and its forecasts, and for each person inside the event that says so; of each
line the last event with its totals. Zones and lines that a layout removes or changes begin anew.

An event may be kept for one reason and say something else that is no longer so: a `zone.enter` that
has the entries, of a person who has left since; a correction that puts two people into a zone, one
of whom has left. Then the later event is kept too, so that the events that are kept, applied in
order, give the same state as all events.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

Kept = tuple[int, bytes]  # offset and payload of an event

FAMILIES = ("zone", "line")
_SAYS = {  # by type: what of its zone it says, apart from who is inside
    "zone.update": ("state", "people", "entries", "crowded"),
    "zone.enter": ("people", "entries"),
    "zone.exit": ("people",),
    "zone.revise": ("people", "entries"),
    "zone.crowded": ("crowded",),
    "zone.clear": ("crowded",),
}


class ZoneEvents(msgspec.Struct):
    """The latest events about one zone, by what they say."""

    latest: dict[str, Kept] = {}  # by what it says of the zone; forecasts and scores by horizon
    inside: dict[str, Kept] = {}  # by track that is inside
    outside: dict[str, Kept] = {}  # by track that is not, although a kept event says that it is

    def kept(self) -> Iterator[Kept]:
        """Yield all of them, some more than once."""
        for events in (self.latest, self.inside, self.outside):
            yield from events.values()

    def leave_out(self) -> None:
        """Forget who is outside, as far as no kept event says otherwise."""
        if not self.outside:
            return
        needed: dict[str, Kept] = {}
        left = {*self.latest.values(), *self.inside.values()}
        while left:
            offset, payload = left.pop()
            for track in _entered(_decoder.decode(payload)):
                later = self.outside.get(track)
                if later is not None and later[0] > offset and track not in needed:
                    needed[track] = later
                    left.add(later)
        self.outside = needed


class ZonesAndLines(msgspec.Struct):
    """The latest events about the zones and lines of one source."""

    layout: Kept | None = None
    zones: dict[str, ZoneEvents] = {}
    lines: dict[str, Kept | None] = {}  # None: of the layout, and not crossed

    def kept(self) -> Iterator[Kept]:
        """Yield all of them, some more than once."""
        if self.layout is not None:
            yield self.layout
        for zone in self.zones.values():
            yield from zone.kept()
        yield from (one for one in self.lines.values() if one is not None)


class _Visit(msgspec.Struct):
    track: str
    left_us: int | None = None


class _What(msgspec.Struct):
    """The members of events of zones and lines that are looked at."""

    name: str = ""
    track: str = ""
    horizon_us: int = 0
    was: list[_Visit] = []
    now: list[_Visit] = []
    zones: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []


class _Event(msgspec.Struct):
    type: str
    zone: _What = msgspec.field(default_factory=_What)
    line: _What = msgspec.field(default_factory=_What)


_decoder = msgspec.json.Decoder(_Event)


def fold_shapes(state: ZonesAndLines, offset: int, payload: bytes) -> None:
    """Apply one event of a zone or line; one of a zone that the layout lacks is ignored."""
    event, kept = _decoder.decode(payload), (offset, payload)
    zone, line = event.zone.name, event.line.name
    if event.type == "zone.layout":
        _set_layout(state, event.zone, kept)
    elif event.type in ("line.cross", "line.revise"):
        if state.layout is None or line in state.lines:
            state.lines[line] = kept
    elif zone and (state.layout is None or zone in state.zones):
        _fold_zone(state.zones.setdefault(zone, ZoneEvents()), event, kept)


def _set_layout(state: ZonesAndLines, layout: _What, kept: Kept) -> None:
    """Begin anew with zones and lines that were not in the layout before, or are changed."""
    before = layout if state.layout is None else _decoder.decode(state.layout[1]).zone
    zones = [str(one.get("name")) for one in layout.zones if one in before.zones]
    lines = [str(one.get("name")) for one in layout.lines if one in before.lines]
    state.zones = {
        name: state.zones.get(name, ZoneEvents()) if name in zones else ZoneEvents()
        for name in (str(one.get("name")) for one in layout.zones)
    }
    state.lines = {
        name: state.lines.get(name) if name in lines else None
        for name in (str(one.get("name")) for one in layout.lines)
    }
    state.layout = kept


def _fold_zone(zone: ZoneEvents, event: _Event, kept: Kept) -> None:
    for said in _SAYS.get(event.type, ()):
        zone.latest[said] = kept
    if event.type in ("zone.forecast", "zone.scored"):
        zone.latest[f"{event.type} {event.zone.horizon_us}"] = kept
    for track in _left(event):
        zone.inside.pop(track, None)
        zone.outside[track] = kept
    for track in _entered(event):
        zone.outside.pop(track, None)
        zone.inside[track] = kept
    zone.leave_out()


def _left(event: _Event) -> list[str]:
    """Return the tracks that are no longer inside by this event."""
    if event.type == "zone.exit":
        return [event.zone.track]
    return [visit.track for visit in event.zone.was if visit.left_us is None]


def _entered(event: _Event) -> list[str]:
    """Return the tracks that are inside by this event."""
    if event.type == "zone.enter":
        return [event.zone.track]
    return [visit.track for visit in event.zone.now if visit.left_us is None]
