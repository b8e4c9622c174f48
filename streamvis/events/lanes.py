"""Lanes of a timeline as a fold of the events of a source: what each begins, ends or marks.

A lane has the tracks of a source, the visits of a zone, the crossings of a line, the people who do
an action or have a posture, out-of-distribution objects, forecasts, or the states of the source.
Lanes show what was published: a correction is a mark, and changes who is inside from its own time
on. Updates are in no lane. Pure.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

MOST_LANES = 64  # of a source; what would be in another one is in OTHER
MOST_OPEN = 10_000  # spans of a lane that are open at once
LONGEST_NAME = 200  # characters of the name of a lane, and of a key


class LaneName(NamedTuple):
    """Which lane of a source."""

    family: str
    name: str = ""  # of the zone, the line, the action or the posture


OTHER = LaneName("other")
_EDGES = ("begin", "end")
TRACKS, UNKNOWN, SOURCE = LaneName("track"), LaneName("unknown"), LaneName("source")


class LaneSpan(NamedTuple):
    """Something that has begun, and perhaps ended."""

    key: str  # id of the track, or name of the state
    from_us: int | None  # media time; None: before all that is known
    to_us: int | None  # None: it goes on
    first: int  # offset of the event that began it; -1: unknown
    last: int  # offset of the event that ended it; -1: none


class LaneMark(NamedTuple):
    """An event at one time."""

    at_us: int
    offset: int
    type: str


class LaneChange(NamedTuple):
    """What one event does to one lane."""

    lane: LaneName
    at_us: int
    events: int = 0  # 1, or 0 when the event is counted by another change of its lane
    begins: int = 0  # spans that begin
    open: int = 0  # by how many there are more of them
    ended: LaneSpan | None = None
    mark: LaneMark | None = None


class _Visit(msgspec.Struct):
    track: str
    left_us: int | None = None


class _What(msgspec.Struct):
    """The members of events that lanes need."""

    id: str = ""
    name: str = ""
    label: str = ""
    track: str | None = None
    first_seen_us: int | None = None
    entered_us: int | None = None
    since_us: int | None = None
    was: list[_Visit] = []
    now: list[_Visit] = []


class _Track(msgspec.Struct):
    track: _What


class _Zone(msgspec.Struct):
    zone: _What


class _Line(msgspec.Struct):
    line: _What


class _Action(msgspec.Struct):
    action: _What


class _Posture(msgspec.Struct):
    posture: _What


class _Unknown(msgspec.Struct):
    unknown: _What


_track = msgspec.json.Decoder(_Track)
_zone = msgspec.json.Decoder(_Zone)
_line = msgspec.json.Decoder(_Line)
_action = msgspec.json.Decoder(_Action)
_posture = msgspec.json.Decoder(_Posture)
_unknown = msgspec.json.Decoder(_Unknown)

Open = dict[LaneName, dict[str, tuple[int, int]]]  # by key: since when, and offset of the event


class LaneFold:
    """What is open in the lanes of a source, after its events so far."""

    def __init__(self, open_: Open | None = None, names: Iterable[LaneName] = ()) -> None:
        self.open: Open = open_ or {}
        self.names = {*names, *self.open}

    def take(self, kind: str, offset: int, at_us: int, payload: bytes) -> Iterator[LaneChange]:
        """Apply the next event; yield what it changes. One that is malformed changes nothing."""
        family, _, verb = kind.partition(".")
        try:
            match family:
                case "track":
                    yield from self._track(kind, verb, offset, at_us, payload)
                case "zone":
                    yield from self._zone(kind, verb, offset, at_us, payload)
                case "line":
                    name = _line.decode(payload).line.name
                    yield self._mark(LaneName("line", name), kind, offset, at_us)
                case "action" if verb in _EDGES:
                    what = _action.decode(payload).action
                    lane = LaneName("action", what.label)
                    yield self._edge(lane, verb, what.track or "", what.since_us, offset, at_us)
                case "posture" if verb in _EDGES:
                    what = _posture.decode(payload).posture
                    lane = LaneName("posture", what.label)
                    yield self._edge(lane, verb, what.track or "", what.since_us, offset, at_us)
                case "unknown" if verb in _EDGES:
                    since_us = _unknown.decode(payload).unknown.since_us
                    yield self._edge(UNKNOWN, verb, "", since_us, offset, at_us)
                case "source":
                    yield from self._source(kind, verb, offset, at_us)
                case _:
                    yield self._mark(LaneName(family), kind, offset, at_us)
        except msgspec.MsgspecError:
            return

    def _track(
        self, kind: str, verb: str, offset: int, at_us: int, payload: bytes
    ) -> Iterator[LaneChange]:
        if verb not in _EDGES:
            yield self._mark(TRACKS, kind, offset, at_us)
            return
        track = _track.decode(payload).track
        yield self._edge(TRACKS, verb, track.id, track.first_seen_us, offset, at_us)

    def _zone(
        self, kind: str, verb: str, offset: int, at_us: int, payload: bytes
    ) -> Iterator[LaneChange]:
        if verb == "layout":
            yield self._mark(SOURCE, kind, offset, at_us)
            return
        zone = _zone.decode(payload).zone
        if verb in ("forecast", "scored"):
            yield self._mark(LaneName("forecast", zone.name), kind, offset, at_us)
            return
        lane = LaneName("zone", zone.name)
        if verb in ("enter", "exit"):
            verb = "begin" if verb == "enter" else "end"
            yield self._edge(lane, verb, zone.track or "", zone.entered_us, offset, at_us)
            return
        yield self._mark(lane, kind, offset, at_us)
        if verb == "revise":
            was = dict.fromkeys(visit.track for visit in zone.was if visit.left_us is None)
            now = dict.fromkeys(visit.track for visit in zone.now if visit.left_us is None)
            for key in was:
                if key not in now:
                    yield self._end(lane, key, None, offset, at_us)._replace(events=0)
            for key in now:
                if key not in was:
                    yield self._begin(lane, key, offset, at_us)._replace(events=0)

    def _source(self, kind: str, verb: str, offset: int, at_us: int) -> Iterator[LaneChange]:
        """A state follows the one before; an end of the file has none after it."""
        if verb not in ("connecting", "online", "stalled", "offline", "eof"):
            yield self._mark(SOURCE, kind, offset, at_us)
            return
        for key in list(self.open.get(SOURCE, ())):
            yield self._end(SOURCE, key, None, offset, at_us)._replace(events=0)
        if verb == "eof":
            yield self._mark(SOURCE, kind, offset, at_us)
        else:
            yield self._begin(SOURCE, verb, offset, at_us)

    def _edge(
        self, lane: LaneName, verb: str, key: str, since_us: int | None, offset: int, at_us: int
    ) -> LaneChange:
        if verb == "begin":
            return self._begin(lane, key, offset, at_us)
        return self._end(lane, key, since_us, offset, at_us)

    def _begin(self, lane: LaneName, key: str, offset: int, at_us: int) -> LaneChange:
        lane, key = self._known(lane), key[:LONGEST_NAME]
        spans = self.open.setdefault(lane, {})
        if key in spans or len(spans) >= MOST_OPEN:
            return LaneChange(lane, at_us, events=1)
        spans[key] = at_us, offset
        return LaneChange(lane, at_us, events=1, begins=1, open=1)

    def _end(
        self, lane: LaneName, key: str, since_us: int | None, offset: int, at_us: int
    ) -> LaneChange:
        lane, key = self._known(lane), key[:LONGEST_NAME]
        found = self.open.get(lane, {}).pop(key, None)
        if found is None:
            from_us = None if since_us is None else min(since_us, at_us)
            ended = LaneSpan(key, from_us, at_us, -1, offset)
            return LaneChange(lane, at_us, events=1, ended=ended)
        ended = LaneSpan(key, found[0], at_us, found[1], offset)
        return LaneChange(lane, at_us, events=1, open=-1, ended=ended)

    def _mark(self, lane: LaneName, kind: str, offset: int, at_us: int) -> LaneChange:
        mark = LaneMark(at_us, offset, kind)
        return LaneChange(self._known(lane), at_us, events=1, mark=mark)

    def _known(self, lane: LaneName) -> LaneName:
        if len(lane.name) > LONGEST_NAME:
            lane = LaneName(lane.family, lane.name[:LONGEST_NAME])
        if lane not in self.names:
            if len(self.names) >= MOST_LANES:
                return OTHER
            self.names.add(lane)
        return lane
