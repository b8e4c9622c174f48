"""Count people in the zones and over the lines of one source. Pure: observations in, events out.

    machine = ZoneMachine("cam1", layout, ReportSettings(), keep_us=90_000_000)
    for frame in frames:
        publish(machine.step(observe(frame, tracks)))

What is published of a person is what the history (`history.py`) says beyond what was published
before. So a correction of ids, which changes the history, gives corrections of visits and
crossings.

Zones, lines and their groups are numbered as they come; the numbers of removed ones stay unused.
"""

from bisect import insort
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeVar

import msgspec
import numpy as np
from scipy.special import ndtr

from streamvis.messages import Array
from streamvis.stages.zones.events import (
    Crossing,
    Departure,
    Direction,
    Entry,
    ExitReason,
    LineCross,
    LineRevise,
    LineRevision,
    PastCrossing,
    Stay,
    Visit,
    ZoneBody,
    ZoneDwell,
    ZoneEnter,
    ZoneExit,
    ZoneRevise,
    ZoneRevision,
)
from streamvis.stages.zones.history import (
    BAND_LEFT,
    LEFT,
    RIGHT,
    UNKNOWN,
    Change,
    Cut,
    Interval,
    Kind,
    Mark,
    Passage,
    Piece,
    Timing,
    crossings,
    divide,
    joined_runs,
    mark,
    new_piece,
    visits,
)
from streamvis.stages.zones.live import NEVER, NEW, LiveTracks
from streamvis.stages.zones.observed import Observed
from streamvis.stages.zones.occupancy import (
    Numbers,
    OccupancyReport,
    Promise,
    ReportSettings,
    ZoneReport,
    deviations,
    numbers_of,
    probabilities,
)
from streamvis.stages.zones.part import Zones
from streamvis.stages.zones.shapes import Group, GroupKey, key_of
from streamvis.zone_layout import Line, Zone, ZoneLayout

LEFTS = (LEFT, BAND_LEFT)
DIRECTIONS: dict[int, Direction] = {1: "left_to_right", -1: "right_to_left"}
FORGET_EVERY_US = 5_000_000
MARK_US = 200_000  # between two marks of a trail

S = TypeVar("S", Zone, Line)
Pair = tuple[int, Kind, int]  # track, and number of a zone or line


class PublishedVisit(msgspec.Struct, array_like=True):
    """A visit as the events have it."""

    interval: Interval
    dwells: int = 0  # thresholds that were reached


class Person(msgspec.Struct, array_like=True):
    """What one id has done, after corrections."""

    pieces: list[Piece]  # in order; the last one grows while the track is alive
    over: bool = False
    visits: dict[int, list[PublishedVisit]] = {}  # by zone
    crossings: dict[int, list[Passage]] = {}  # by line


class MachineState(msgspec.Struct, array_like=True):
    """All that a machine remembers."""

    epoch: int
    size: tuple[int, int]
    zones: dict[int, Zone]
    lines: dict[int, Line]
    keys: list[GroupKey]
    persons: dict[int, Person]
    live: bytes
    due: list[tuple[int, Kind, int, int]]
    totals: dict[int, tuple[int, int]]
    forget_us: int
    reports: dict[int, ZoneReport]
    entries: dict[int, int]
    since: dict[int, list[int]]
    promises: list[Promise]
    next_forecast_us: int
    next_numbers: tuple[int, int]


class ZoneMachine:
    """The zones and lines of one source."""

    def __init__(
        self, source: str, layout: ZoneLayout, settings: ReportSettings, keep_us: int
    ) -> None:
        self.source = source
        self.keep_us = keep_us  # corrections of tracks that ended longer ago change nothing
        self.size = (1, 1)  # px, of frames; none so far
        self.zones: dict[int, Zone] = {}  # in the order of the layout
        self.lines: dict[int, Line] = {}
        self.totals: dict[int, tuple[int, int]] = {}  # in and out, by line
        self.report = OccupancyReport(settings)
        self._keys: list[GroupKey] = []  # by number of the group
        self._next = (0, 0)  # numbers of the next zone and line
        self.restart(1)
        self.set_layout(layout)

    @property
    def layout(self) -> ZoneLayout:
        """The zones and lines as they are set."""
        return ZoneLayout(zones=tuple(self.zones.values()), lines=tuple(self.lines.values()))

    def restart(self, epoch: int) -> None:
        """Begin a stream epoch: nobody is inside; totals go on."""
        self.epoch = epoch
        self.persons: dict[int, Person] = {}
        self.live = LiveTracks(len(self._keys), *self._next)
        self.due: dict[Pair, int] = {}
        self.forget_us = 0
        self.now_us = 0
        self.report.restart()

    def set_layout(self, layout: ZoneLayout, at_us: int = 0) -> list[ZoneBody]:
        """Change the zones and lines; return exits from zones that are changed or removed.

        Those that stay as they are go on; others begin without anybody and without totals.
        """
        zones, next_zone = _numbered(self.zones, layout.zones, self._next[0])
        lines, next_line = _numbered(self.lines, layout.lines, self._next[1])
        left = list(self._left(self.zones.keys() - zones.keys(), at_us))
        self.zones, self.lines = zones, lines
        self._next = (next_zone, next_line)
        self.totals = {k: self.totals.get(k, (0, 0)) for k in self.lines}
        self.due = {pair: us for pair, us in self.due.items() if self._has(pair)}
        for person in self.persons.values():
            person.visits = {z: v for z, v in person.visits.items() if z in self.zones}
            person.crossings = {k: v for k, v in person.crossings.items() if k in self.lines}
        self.report.set_zones(self.zones)
        self._arrange()
        return left

    def _has(self, pair: Pair) -> bool:
        _, kind, index = pair
        return index in (self.zones if kind == "zone" else self.lines)

    def _left(self, zones: Iterable[int], at_us: int) -> Iterator[ZoneBody]:
        """Return the exits of those who are inside of zones that are no longer there."""
        for zone in sorted(zones):
            for number, person in self.persons.items():
                for visit in person.visits.get(zone, []):
                    if visit.interval.left_us is None:
                        ended = visit.interval._replace(left_us=at_us)
                        yield self._exit(number, self.zones[zone].name, ended, "layout")

    def _arrange(self) -> None:
        """Compute the geometry for the size of frames, and make room for new shapes."""
        members: dict[GroupKey, tuple[list[tuple[int, Zone]], list[tuple[int, Line]]]] = {}
        for number, zone in self.zones.items():
            members.setdefault(key_of(zone), ([], []))[0].append((number, zone))
        for number, line in self.lines.items():
            members.setdefault(key_of(line), ([], []))[1].append((number, line))
        self._keys += [key for key in members if key not in self._keys]
        self.groups = {
            self._keys.index(key): Group(key, *shapes, self.size) for key, shapes in members.items()
        }
        self.group_of: dict[tuple[Kind, int], int] = {
            **{("zone", z): g for g, group in self.groups.items() for z in group.zones.tolist()},
            **{("line", k): g for g, group in self.groups.items() for k in group.lines.tolist()},
        }
        self.live.widen(len(self._keys), *self._next)

    def resize(self, size: tuple[int, int]) -> None:
        """Change to frames of another size; what was in pixels is scaled."""
        before, self.size = self.size, size
        if before != (1, 1):
            scale = np.array(size) / np.array(before)
            for g, group in self.groups.items():
                if group.key.space == "image":
                    self.live.last_xy[:, g] *= scale
                    for person in self.persons.values():
                        _scale(person, g, *scale.tolist())
        self._arrange()

    # one frame

    def step(self, observed: Observed) -> list[ZoneBody]:
        """Take in one frame; return corrections, exits, then what else has happened, in order."""
        if observed.size != self.size:
            self.resize(observed.size)
        self.now_us = observed.media_us
        timed = self.pass_until(observed.media_us - 1)
        revised = self._correct(observed) if observed.splits or observed.merges else []
        if len(observed.ids):
            self._take(observed)
        events = [body for pair in self._pairs_due() for body in self._evaluate(*pair)]
        events += self._end(observed)
        if len(observed.ids) or observed.ended:
            self._count(observed)
        events += self.report.publish(observed.media_us)
        events += self.report.forecast(observed, self.groups)
        self._forget(observed.media_us)
        return timed + revised + events

    def pass_until(self, media_us: int) -> list[ZoneBody]:
        """Let time pass; return what was due until then, which no frame changes any more."""
        return self.report.publish(media_us)

    def _take(self, observed: Observed) -> None:
        """Take in the positions of the tracks of a frame."""
        live = self.live
        rows = live.rows_of(observed.ids)
        live.p_exist[rows] = observed.p_exist
        for number in observed.ids.tolist():
            person = self.persons.get(number)
            if person is None:
                self.persons[number] = Person([new_piece()])
            elif person.over:  # it goes on
                person.over = False
                person.pieces.append(new_piece())
                self.due |= {(number, "zone", z): self.now_us for z in person.visits}
        for g, group in self.groups.items():
            live.sd[rows, g] = deviations(observed, group)
            at = np.flatnonzero(group.counts(observed))
            if len(at):
                self._take_group(observed, g, rows[at], at)

    def _take_group(self, observed: Observed, g: int, rows: Array, at: Array) -> None:
        """Take in the evidence of some tracks (K rows) for the zones and lines of a group."""
        live, group, now_us = self.live, self.groups[g], observed.media_us
        points = group.points(observed)[at]  # (K, 2)
        heights = observed.boxes[at, 3] - observed.boxes[at, 1]
        known = live.last_us[rows, g] != NEVER
        before = np.where(known[:, None], live.last_xy[rows, g], points)
        numbers = observed.ids[at].tolist()
        if len(group.zones):
            inside = group.inside(points)
            was = live.inside[rows[:, None], group.zones]
            for k, z in np.argwhere(inside != was).tolist():
                number = int(group.zones[z])
                last_us = int(live.last_us[rows[k], g])
                self._change_zone(
                    (numbers[k], g, z, number),
                    (int(was[k, z]), bool(inside[k, z])),
                    (last_us, before[k], points[k]),
                )
            live.inside[rows[:, None], group.zones] = inside
        if len(group.lines):
            cuts, share = group.cuts(before, points)
            for k, m in np.argwhere(cuts).tolist():
                last_us = int(live.last_us[rows[k], g])
                us = last_us + round(float(share[k, m]) * (now_us - last_us))
                piece = self.persons[numbers[k]].pieces[-1]
                cut = Cut(max(us, last_us + 1), int(cuts[k, m]), last_us, now_us)
                piece.cuts.setdefault(int(group.lines[m]), []).append(cut)
            side = group.side(group.left_of(points), heights)
            was = live.side[rows[:, None], group.lines]
            for k, m in np.argwhere(side != was).tolist():
                last_us = int(live.last_us[rows[k], g])
                self._change(
                    (numbers[k], g),
                    ("line", int(group.lines[m])),
                    int(was[k, m]),
                    Change(int(side[k, m]), now_us, last_us, now_us),
                )
            live.side[rows[:, None], group.lines] = side
        marked = ~known | (now_us - live.marked_us[rows, g] >= MARK_US)
        for k in np.flatnonzero(marked).tolist():
            trail = self.persons[numbers[k]].pieces[-1].trail(g)
            mark(trail, Mark(now_us, *points[k].tolist()))
        live.marked_us[rows[marked], g] = now_us
        live.last_us[rows, g] = now_us
        live.last_xy[rows, g] = points

    def _change_zone(
        self,
        where: tuple[int, int, int, int],
        values: tuple[int, bool],
        way: tuple[int, Array, Array],
    ) -> None:
        """Remember that a track has got into a zone, or out of it, on its way since `last_us`."""
        number, g, z, zone = where
        was, inside = values
        last_us, before, now = way
        us = self.now_us
        if was != NEW:
            share = self.groups[g].edge_share(z, before, now, last=inside)
            us = last_us + round(share * (us - last_us))
        change = Change(int(inside), us, last_us, self.now_us)
        self._change((number, g), ("zone", zone), was, change)

    def _change(
        self, track: tuple[int, int], shape: tuple[Kind, int], was: int, change: Change
    ) -> None:
        """Remember the new value of a zone or line of a track, and look at the pair."""
        (number, g), (kind, index) = track, shape
        piece = self.persons[number].pieces[-1]
        if was == NEW and not piece.trail(g):
            piece.set_first(kind, index, change.value)
        else:
            piece.changes[kind].setdefault(index, []).append(change)
        if change.value in (LEFT, RIGHT) if kind == "line" else change.value or was == 1:
            self.due[number, kind, index] = self.now_us

    def _pairs_due(self) -> list[Pair]:
        """Return the pairs that may have events now, by zone or line, then by track."""
        now_us = self.now_us
        due = [pair for pair, us in self.due.items() if us <= now_us]
        return sorted(due, key=lambda pair: (pair[1] == "line", pair[2], pair[0]))

    # what is published of a pair

    def _sync(self, number: int, g: int) -> None:
        """Bring the last mark of a track's trail up to its last evidence."""
        row = self.live.row(number)
        if row is not None and self.live.last_us[row, g] != NEVER:
            trail = self.persons[number].pieces[-1].trail(g)
            x, y = self.live.last_xy[row, g].tolist()
            mark(trail, Mark(int(self.live.last_us[row, g]), x, y))

    def _evaluate(self, number: int, kind: Kind, index: int) -> list[ZoneBody]:
        """Return the events of a track at a zone or line, and note when to look again."""
        if kind == "zone":
            return self._evaluate_zone(number, index)
        return self._evaluate_line(number, index)

    def _visits(self, number: int, z: int) -> list[Interval]:
        """Return the visits of a track to a zone by its history, and note when to look again."""
        g, person, zone = self.group_of["zone", z], self.persons[number], self.zones[z]
        if not person.over:
            self._sync(number, g)
        runs = joined_runs(person.pieces, "zone", z, g)
        timing = Timing(round(zone.enter_s * 1e6), round(zone.exit_s * 1e6))
        found, due = visits(runs, timing, over=person.over)
        self._note((number, "zone", z), due)
        return found

    def _note(self, pair: Pair, due_us: int | None) -> None:
        if due_us is None:
            self.due.pop(pair, None)
        else:
            self.due[pair] = max(due_us, self.now_us + 1)

    def _evaluate_zone(self, number: int, z: int) -> list[ZoneBody]:
        person, name = self.persons[number], self.zones[z].name
        published = person.visits.get(z, [])
        found = self._visits(number, z)
        events: list[ZoneBody] = []
        if not _goes_on([one.interval for one in published], found):
            events += self._revise_zone(z, [(number, published)], {number: found})
            published = person.visits.get(z, [])
        for i, interval in enumerate(found):
            if i == len(published):
                published.append(PublishedVisit(interval._replace(left_us=None, reason=None)))
                person.visits[z] = published
                self.report.entered(z, 1, self.now_us)
                self._set_inside(z, interval.entered_us)
                events.append(self._enter(number, z, interval))
            visit = published[i]
            events += self._dwells(number, z, visit, interval.left_us)
            if visit.interval.left_us is None and interval.left_us is not None:
                visit.interval = interval
                self._set_inside(z, interval.left_us)
                reason = interval.reason or "left"
                events.append(self._exit(number, name, interval, reason, z))
        return events

    def _dwells(
        self, number: int, z: int, visit: PublishedVisit, left_us: int | None
    ) -> list[ZoneBody]:
        """Return the thresholds that a visit has reached, and note when it will reach the next."""
        zone, entered_us = self.zones[z], visit.interval.entered_us
        until_us = left_us
        if until_us is None:
            g, pieces = self.group_of["zone", z], self.persons[number].pieces
            marks = (piece.trail(g)[-1].us for piece in pieces if piece.trail(g))
            until_us = max(marks, default=entered_us)
        events: list[ZoneBody] = []
        while visit.dwells < len(zone.dwell_s):
            threshold_s = zone.dwell_s[visit.dwells]
            at_us = entered_us + round(threshold_s * 1e6)
            if at_us > until_us:
                if left_us is None:
                    pair: Pair = (number, "zone", z)
                    self._note(pair, min(at_us, self.due.get(pair, at_us)))
                break
            visit.dwells += 1
            stay = Stay(
                name=zone.name,
                track=self.name(number),
                at_us=at_us,
                entered_us=entered_us,
                threshold_s=threshold_s,
            )
            events.append(ZoneDwell(stay))
        return events

    def _evaluate_line(self, number: int, k: int) -> list[ZoneBody]:
        person = self.persons[number]
        found = self._crossings(number, k)
        published = person.crossings.get(k, [])
        events: list[ZoneBody] = []
        if found[: len(published)] != published:
            events += self._revise_line(k, [(number, published)], {number: found})
            published = found
        for passage in found[len(published) :]:
            self._add_total(k, passage.sign, 1)
            person.crossings.setdefault(k, []).append(passage)
            events.append(self._cross(number, k, passage))
        return events

    def _crossings(self, number: int, k: int) -> list[Passage]:
        """Return the crossings of a line by a track's history, and note when to look again."""
        g, person, line = self.group_of["line", k], self.persons[number], self.lines[k]
        if not person.over:
            self._sync(number, g)
        cuts = [cut for piece in person.pieces for cut in piece.cuts.get(k, ())]
        for cut in self._joins(person, k, g):
            insort(cuts, cut)
        runs = joined_runs(person.pieces, "line", k, g)
        found, due = crossings(runs, cuts, round(line.settle_s * 1e6), over=person.over)
        self._note((number, "line", k), due)
        return found

    def _joins(self, person: Person, k: int, g: int) -> Iterator[Cut]:
        """Return where the straight ways between a person's pieces cut a line.

        Whether they do is told by the sides; the positions, which are known less well where a piece
        was divided, tell whether it is within the segment.
        """
        pieces = [(piece, trail) for piece in person.pieces if (trail := piece.trail(g))]
        for (one, before), (other, after) in pairwise(pieces):
            was, now = one.last("line", k), other.first_of("line", k)
            if UNKNOWN in (was, now) or (was in LEFTS) == (now in LEFTS):
                continue
            a, b = before[-1], after[0]
            if self.groups[g].is_beside(k, np.array([a[1:], b[1:]])):
                yield Cut((a.us + b.us) // 2, 1 if was in LEFTS else -1, a.us, b.us)

    def _set_inside(self, z: int, at_us: int) -> None:
        since = [
            visit.interval.entered_us
            for person in self.persons.values()
            for visit in person.visits.get(z, ())
            if visit.interval.left_us is None
        ]
        self.report.set_inside(z, since, at_us, self.now_us)

    def _add_total(self, k: int, sign: int, more: int) -> None:
        entered, left = self.totals[k]
        self.totals[k] = (entered + more, left) if sign > 0 else (entered, left + more)

    # bodies

    def name(self, number: int) -> str:
        """Return the id of a track in events."""
        return f"{self.source}:{self.epoch}:{number}"

    def _enter(self, number: int, z: int, interval: Interval) -> ZoneBody:
        entry = Entry(
            name=self.zones[z].name,
            track=self.name(number),
            at_us=interval.entered_us,
            seen_outside=interval.seen_outside,
            entries=self.report.entries[z],
            occupancy=self.report.occupancy(z),
        )
        return ZoneEnter(entry)

    def _exit(
        self, number: int, name: str, interval: Interval, reason: ExitReason, z: int | None = None
    ) -> ZoneBody:
        left_us = interval.left_us or 0
        departure = Departure(
            name=name,
            track=self.name(number),
            at_us=left_us,
            entered_us=interval.entered_us,
            dwell_s=(left_us - interval.entered_us) / 1e6,
            reason=reason,
            occupancy=None if z is None else self.report.occupancy(z),
        )
        return ZoneExit(departure)

    def _cross(self, number: int, k: int, passage: Passage) -> ZoneBody:
        entered, left = self.totals[k]
        crossing = Crossing(
            name=self.lines[k].name,
            track=self.name(number),
            direction=DIRECTIONS[passage.sign],
            at_us=passage.us,
            p=self._crossing_p(number, k),
            in_total=entered,
            out_total=left,
        )
        return LineCross(crossing)

    def _crossing_p(self, number: int, k: int) -> float:
        """Return the probability that the track exists and is on the side on which it was seen."""
        g, row = self.group_of["line", k], self.live.row(number)
        if row is None:
            return 0.5
        group = self.groups[g]
        at = group.lines.tolist().index(k)
        distance = abs(float(group.left_of(self.live.last_xy[row, g][None])[0, at]))
        beyond = float(ndtr(distance / max(float(self.live.sd[row, g]), 1e-9)))
        return round(float(self.live.p_exist[row]) * beyond, 4)

    # corrections

    def _correct(self, observed: Observed) -> list[ZoneBody]:
        """Apply the splits, then the merges of a frame to the history; return what changes."""
        involved = {n for split in observed.splits for n in split[:2]}
        involved |= {n for merge in observed.merges for n in merge}
        known = [n for n in sorted(involved) if n in self.persons]
        for number in known:
            for g in self.groups:
                self._sync(number, g)
        was = {number: self.persons[number] for number in known}
        published = {n: (person.visits, person.crossings) for n, person in was.items()}
        self._split(observed)
        for gone, kept in observed.merges:
            self._merge(gone, kept)
        for number in involved & self.persons.keys():
            if not self.persons[number].pieces:
                self.persons[number].pieces.append(new_piece())
        self.due = {pair: us for pair, us in self.due.items() if pair[0] in self.persons}
        events: list[ZoneBody] = []
        for z in self.zones:
            before = [(n, visits_[z]) for n, (visits_, _) in published.items() if z in visits_]
            now = {n: self._visits(n, z) for n in sorted(involved) if n in self.persons}
            events += self._revise_zone(z, before, now)
        for k in self.lines:
            past = [(n, cross[k]) for n, (_, cross) in published.items() if k in cross]
            ways = {n: self._crossings(n, k) for n in sorted(involved) if n in self.persons}
            events += self._revise_line(k, past, ways)
        return events

    def _split(self, observed: Observed) -> None:
        """Move what ids saw from some time on to other ids, all at once."""
        moved: list[tuple[int, list[Piece]]] = []
        renamed: dict[int, int] = {}
        for number, other, since_us in observed.splits:
            person = self.persons.get(number)
            if person is None:
                continue
            halves = [divide(piece, since_us) for piece in person.pieces]
            person.pieces = [before for before, _ in halves if before is not None]
            moved.append((other, [after for _, after in halves if after is not None]))
            if self.live.row(number) is not None:
                renamed[number] = other
        for other, pieces in moved:
            self._give(other, pieces)
        for number, other in renamed.items():
            if number not in renamed.values():
                self.persons[number].over = True
            self.persons[other].over = False
        self.live.rename(renamed)

    def _merge(self, gone: int, kept: int) -> None:
        """Move all that one id saw to another."""
        person = self.persons.pop(gone, None)
        if person is None:
            return
        alive = self.live.row(gone) is not None
        over = kept not in self.persons or self.persons[kept].over
        self._give(kept, person.pieces)
        self.persons[kept].over = over and not alive
        if alive:
            self.live.rename({gone: kept})

    def _give(self, number: int, pieces: list[Piece]) -> None:
        """Add pieces to a person; where both have evidence, that which is moved is right."""
        person = self.persons.setdefault(number, Person([], over=True))
        for piece in pieces:
            if not any(piece.trails):
                continue
            kept: list[Piece] = []
            for own in person.pieces:
                if not any(own.trails):
                    continue
                before, rest = divide(own, piece.from_us)
                after = None if rest is None else divide(rest, piece.to_us + 1)[1]
                kept += [part for part in (before, after) if part is not None]
            person.pieces = sorted([*kept, piece], key=lambda one: one.from_us)

    def _revise_zone(
        self,
        z: int,
        before: list[tuple[int, list[PublishedVisit]]],
        now: dict[int, list[Interval]],
    ) -> list[ZoneBody]:
        """Replace the published visits of some persons; return the event if that changes any."""
        was = [(n, visit) for n, visits_ in before for visit in visits_]
        are = [(n, interval) for n, intervals in now.items() for interval in intervals]
        old = {_visit_key(n, visit.interval) for n, visit in was}
        new = {_visit_key(n, interval) for n, interval in are}
        for n, intervals in now.items():
            dwells = [_dwells_of(interval, was) for interval in intervals]
            self.persons[n].visits.pop(z, None)
            if intervals:
                pairs = zip(intervals, dwells, strict=True)
                self.persons[n].visits[z] = [PublishedVisit(i, d) for i, d in pairs]
                self.due[n, "zone", z] = self.now_us  # dwell times may be reached
        if old == new:
            return []
        self.report.entered(z, len(are) - len(was), self.now_us)
        self._set_inside(z, self.now_us)
        revision = ZoneRevision(
            name=self.zones[z].name,
            was=tuple(
                self._visit(n, v.interval) for n, v in was if _visit_key(n, v.interval) not in new
            ),
            now=tuple(self._visit(n, i) for n, i in are if _visit_key(n, i) not in old),
            entries=self.report.entries[z],
            occupancy=self.report.occupancy(z),
        )
        return [ZoneRevise(revision)]

    def _visit(self, number: int, interval: Interval) -> Visit:
        return Visit(
            track=self.name(number),
            entered_us=interval.entered_us,
            left_us=interval.left_us,
            reason=interval.reason,
        )

    def _revise_line(
        self, k: int, before: list[tuple[int, list[Passage]]], now: dict[int, list[Passage]]
    ) -> list[ZoneBody]:
        """Replace the published crossings of some persons; return the event if any changes."""
        was = [(n, passage) for n, passages in before for passage in passages]
        are = [(n, passage) for n, passages in now.items() for passage in passages]
        for n, passages in now.items():
            self.persons[n].crossings.pop(k, None)
            if passages:
                self.persons[n].crossings[k] = passages
        if set(was) == set(are):
            return []
        for _, passage in was:
            self._add_total(k, passage.sign, -1)
        for _, passage in are:
            self._add_total(k, passage.sign, 1)
        entered, left = self.totals[k]
        revision = LineRevision(
            name=self.lines[k].name,
            was=tuple(self._past(*one) for one in was if one not in are),
            now=tuple(self._past(*one) for one in are if one not in was),
            in_total=entered,
            out_total=left,
        )
        return [LineRevise(revision)]

    def _past(self, number: int, passage: Passage) -> PastCrossing:
        return PastCrossing(
            track=self.name(number), direction=DIRECTIONS[passage.sign], at_us=passage.us
        )

    # the end of tracks

    def _end(self, observed: Observed) -> list[ZoneBody]:
        """End tracks: who was inside is lost, who was beyond a line has crossed it."""
        gone = {one for one, _ in observed.merges}
        ended = [n for n in observed.ended if n not in gone and n in self.persons]
        events: list[ZoneBody] = []
        for number in ended:
            person = self.persons[number]
            if person.over:
                continue
            for g in self.groups:
                self._sync(number, g)
            person.over = True
            pairs: set[Pair] = {pair for pair in self.due if pair[0] == number}
            pairs |= {(number, "zone", z) for z in person.visits}
            for pair in sorted(pairs, key=lambda one: (one[1] == "line", one[2])):
                events += self._evaluate(*pair)
                self.due.pop(pair, None)
        self.live.drop(set(ended))
        return events

    def _forget(self, now_us: int) -> None:
        """Forget persons whose tracks ended too long ago to be corrected."""
        if now_us < self.forget_us:
            return
        self.forget_us = now_us + FORGET_EVERY_US
        oldest_us = now_us - self.keep_us
        for number, person in list(self.persons.items()):
            pieces = [piece for piece in person.pieces if any(piece.trails)]
            if person.over and all(piece.to_us < oldest_us for piece in pieces):
                del self.persons[number]

    # numbers

    def _count(self, observed: Observed) -> None:
        """Compute how many people are in each zone, as a distribution."""
        for g, group in self.groups.items():
            if not len(group.zones):
                continue
            rows = self.live.rows_of(observed.ids)
            p = probabilities(observed, group, self.live.sd[rows, g])
            numbers = zip(group.zones.tolist(), *(v.tolist() for v in numbers_of(p)), strict=True)
            for z, mean, sd, occupied in numbers:
                self.report.set_numbers(z, Numbers(mean, sd, occupied), self.now_us)

    def part(self, media_us: int, events: Iterable[ZoneBody] = (), due: int = 0) -> Zones:
        """Return the part of a frame; `due` of its events were so before it."""
        reports = [self.report.reports[z] for z in self.zones]
        since = [min(self.report.since[z], default=media_us) for z in self.zones]
        totals = [self.totals[k] for k in self.lines]
        return Zones(
            zones=tuple(zone.name for zone in self.zones.values()),
            people=np.array([one.people for one in reports], np.int32),
            mean=np.array([one.numbers.mean for one in reports], np.float64),
            sd=np.array([one.numbers.sd for one in reports], np.float64),
            p_occupied=np.array([one.numbers.p_occupied for one in reports], np.float64),
            longest_us=np.array([max(media_us - us, 0) for us in since], np.int64),
            lines=tuple(line.name for line in self.lines.values()),
            in_total=np.array([entered for entered, _ in totals], np.int64),
            out_total=np.array([left for _, left in totals], np.int64),
            events=tuple(events),
            due=due,
        )

    def state(self) -> bytes:
        """Return the state from which `restore` continues exactly."""
        return _encoder.encode(
            MachineState(
                epoch=self.epoch,
                size=self.size,
                zones=self.zones,
                lines=self.lines,
                keys=self._keys,
                persons=self.persons,
                live=self.live.encode(),
                due=[(*pair, us) for pair, us in self.due.items()],
                totals=self.totals,
                forget_us=self.forget_us,
                reports=self.report.reports,
                entries=self.report.entries,
                since=self.report.since,
                promises=self.report.promises,
                next_forecast_us=self.report.next_forecast_us,
                next_numbers=self._next,
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = _decoder.decode(state)
        self.epoch, self.size = was.epoch, was.size
        self.zones, self.lines, self._keys = was.zones, was.lines, was.keys
        self._next, self.totals, self.persons = was.next_numbers, was.totals, was.persons
        self.live = LiveTracks(len(self._keys), *self._next)
        self.live.decode(was.live)
        self.due = {(number, kind, index): us for number, kind, index, us in was.due}
        self.forget_us = was.forget_us
        self.report.set_zones(self.zones)
        self.report.reports, self.report.entries = was.reports, was.entries
        self.report.since, self.report.promises = was.since, was.promises
        self.report.next_forecast_us = was.next_forecast_us
        self._arrange()


def _numbered(old: dict[int, S], shapes: Iterable[S], next_: int) -> tuple[dict[int, S], int]:
    """Return the shapes by number, and the next free number; unchanged ones keep theirs."""
    numbers = {shape: number for number, shape in old.items()}
    new: dict[int, S] = {}
    for shape in shapes:
        number = numbers.get(shape)
        new[next_ if number is None else number] = shape
        next_ += number is None
    return new, next_


def _goes_on(published: list[Interval], found: list[Interval]) -> bool:
    """Whether what was published is the beginning of what is found: visits may have ended since."""
    if len(found) < len(published):
        return False
    return all(
        was == now or (was.left_us is None and was.entered_us == now.entered_us)
        for was, now in zip(published, found, strict=False)
    )


def _visit_key(number: int, interval: Interval) -> tuple[int, int, int | None]:
    return number, interval.entered_us, interval.left_us


def _dwells_of(interval: Interval, was: list[tuple[int, PublishedVisit]]) -> int:
    """Return how many thresholds were published of visits that a corrected one overlaps."""
    end = interval.left_us if interval.left_us is not None else 2**62
    return max(
        (
            visit.dwells
            for _, visit in was
            if visit.interval.entered_us <= end
            and (visit.interval.left_us is None or visit.interval.left_us >= interval.entered_us)
        ),
        default=0,
    )


def _scale(person: Person, g: int, x: float, y: float) -> None:
    for piece in person.pieces:
        trail = piece.trail(g)
        trail[:] = [Mark(one.us, one.x * x, one.y * y) for one in trail]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(MachineState)
