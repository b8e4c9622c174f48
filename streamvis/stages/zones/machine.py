"""Count people in the zones and over the lines of one source. Pure: observations in, events out.

    machine = ZoneMachine("cam1", layout, ReportSettings(), keep_us=90_000_000)
    for frame in frames:
        publish(machine.step(observe(frame, tracks)))

What is published of a person is what the history (`history.py`) says beyond what was published
before. So a correction of ids, which changes the history, gives corrections of visits and
crossings.
"""

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
from scipy.special import ndtr

from streamvis.stages.zones.arrangement import Arrangement, ArrangementState
from streamvis.stages.zones.events import (
    Crossing,
    Departure,
    Direction,
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
    ZoneEntry,
    ZoneExit,
    ZoneRevise,
    ZoneRevision,
)
from streamvis.stages.zones.history import (
    MANY,
    Interval,
    Kind,
    Passage,
    Timing,
    crossings,
    forget_line,
    forget_zone,
    visits,
)
from streamvis.stages.zones.observed import Observed
from streamvis.stages.zones.occupancy import (
    Numbers,
    OccupancyReport,
    ReportSettings,
    ReportState,
    numbers_of,
    probabilities,
)
from streamvis.stages.zones.part import Zones
from streamvis.stages.zones.persons import Pair, Persons, PersonsState
from streamvis.zone_layout import Zone, ZoneLayout

DIRECTIONS: dict[int, Direction] = {1: "left_to_right", -1: "right_to_left"}
FORGET_EVERY_US = 5_000_000


class PublishedVisit(msgspec.Struct, array_like=True):
    """A visit as the events have it."""

    interval: Interval
    dwells: int = 0  # thresholds that were reached


class MachineState(msgspec.Struct, array_like=True):
    """All that a machine remembers."""

    epoch: int
    arrangement: ArrangementState
    persons: PersonsState
    visits: dict[int, dict[int, list[PublishedVisit]]]
    crossings: dict[int, dict[int, list[Passage]]]
    due: list[tuple[int, Kind, int, int]]
    pending: list[tuple[Pair, list[Passage]]]
    totals: dict[int, tuple[int, int]]
    forget_us: int
    report: ReportState


class ZoneMachine:
    """The zones and lines of one source."""

    def __init__(
        self, source: str, layout: ZoneLayout, settings: ReportSettings, keep_us: int
    ) -> None:
        self.source = source
        self.keep_us = keep_us  # corrections of tracks that ended longer ago change nothing
        self.shapes = Arrangement()
        self.totals: dict[int, tuple[int, int]] = {}  # in and out, by line
        self.report = OccupancyReport(settings)
        self.restart(1)
        self.set_layout(layout)

    def restart(self, epoch: int) -> None:
        """Begin a stream epoch: nobody is inside; totals go on."""
        self.epoch = epoch
        self.persons = Persons(self.shapes)
        self.visits: dict[int, dict[int, list[PublishedVisit]]] = {}  # by zone, by track
        self.crossings: dict[int, dict[int, list[Passage]]] = {}  # by line, by track
        self.due: dict[Pair, int] = {}  # when the next event of a pair may follow
        self.pending: dict[Pair, list[Passage]] = {}  # crossings that have not settled
        self.forget_us = 0
        self.now_us = 0
        self.report.restart()

    def set_layout(self, layout: ZoneLayout, at_us: int = 0) -> list[ZoneBody]:
        """Change the zones and lines; return exits from zones that are changed or removed.

        Those that stay as they are go on; others begin without anybody and without totals.
        """
        before = dict(self.shapes.zones)
        self.shapes.set_layout(layout)
        zones, lines = self.shapes.zones, self.shapes.lines
        left = list(self._left({z: one for z, one in before.items() if z not in zones}, at_us))
        self.totals = {k: self.totals.get(k, (0, 0)) for k in lines}
        self.visits = {z: own for z, own in self.visits.items() if z in zones}
        self.crossings = {k: own for k, own in self.crossings.items() if k in lines}
        self.due = {
            pair: us for pair, us in self.due.items() if (pair[1], pair[2]) in self.shapes.group_of
        }
        self.report.set_zones(zones)
        self.persons.widen()
        return left

    def _left(self, gone: dict[int, Zone], at_us: int) -> Iterator[ZoneBody]:
        """Return the exits of those who are inside of zones that are no longer there."""
        for z, zone in gone.items():
            for number, own in self.visits.get(z, {}).items():
                for visit in own:
                    if visit.interval.left_us is None:
                        ended = visit.interval._replace(left_us=at_us)
                        yield self._exit(number, zone.name, ended, "layout")

    def _resize(self, size: tuple[int, int]) -> None:
        """Change to frames of another size."""
        before = self.shapes.size
        self.shapes.set_size(size)
        if before != (1, 1):
            self.persons.scale(size[0] / before[0], size[1] / before[1])

    # one frame

    def step(self, observed: Observed) -> list[ZoneBody]:
        """Take in one frame; return what was due before, corrections, then what has happened."""
        if observed.size != self.shapes.size:
            self._resize(observed.size)
        self.now_us = observed.media_us
        timed = self.pass_until(observed.media_us - 1)
        revised = self._correct(observed) if observed.splits or observed.merges else []
        if len(observed.ids):
            self.persons.take(observed)
        events = [body for pair in self._pairs_due() for body in self._evaluate(*pair)]
        events += self._end(observed)
        if len(observed.ids) or observed.ended or observed.merges:
            self._count(observed)
        events += self.report.publish(observed.media_us)
        events += self.report.forecast(observed, self.shapes.groups)
        if observed.media_us >= self.forget_us:
            self._forget()
        return timed + revised + events

    def pass_until(self, media_us: int) -> list[ZoneBody]:
        """Let time pass; return what was due until then, which no frame changes any more."""
        return self.report.publish(media_us)

    def _pairs_due(self) -> list[Pair]:
        """Return the pairs that may have events now: zones, then lines, by number and track."""
        now_us, seen, touched = self.now_us, self.persons.seen, self.persons.touched
        due = {pair for pair, us in self.due.items() if us <= now_us and pair[0] in seen} | touched
        touched.clear()
        return sorted(due, key=lambda pair: (pair[1] == "line", pair[2], pair[0]))

    # what is published of a pair

    def _evaluate(self, number: int, kind: Kind, index: int) -> list[ZoneBody]:
        """Return the events of a track at a zone or line, and note when to look again."""
        if kind == "zone":
            return self._evaluate_zone(number, index)
        return self._evaluate_line(number, index)

    def _note(self, pair: Pair, due_us: int | None) -> None:
        if due_us is None:
            self.due.pop(pair, None)
        else:
            self.due[pair] = max(due_us, self.now_us + 1)

    def _visits(self, number: int, z: int) -> list[Interval]:
        """Return the visits of a track to a zone by its history, and note when to look again."""
        zone = self.shapes.zones[z]
        timing = Timing(round(zone.enter_s * 1e6), round(zone.exit_s * 1e6))
        runs, over = self.persons.runs(number, "zone", z), self.persons.is_over(number)
        found, due = visits(runs, timing, over=over)
        self._note((number, "zone", z), due)
        return found

    def _evaluate_zone(self, number: int, z: int) -> list[ZoneBody]:
        name = self.shapes.zones[z].name
        own = self.visits.setdefault(z, {})
        found = self._visits(number, z)
        events: list[ZoneBody] = []
        if not _goes_on([one.interval for one in own.get(number, [])], found):
            events += self._revise_zone(z, [number], {number: found})
        if not found:
            return events
        published = own.setdefault(number, [])
        for i, interval in enumerate(found):
            if i == len(published):
                published.append(PublishedVisit(interval._replace(left_us=None, reason=None)))
                self.report.entered(z, 1, self.now_us)
                self._set_inside(z, interval.entered_us)
                events.append(self._enter(number, z, interval))
            visit = published[i]
            events += self._dwells(number, z, visit, interval.left_us)
            if visit.interval.left_us is None and interval.left_us is not None:
                visit.interval = interval
                self._set_inside(z, interval.left_us)
                events.append(self._exit(number, name, interval, interval.reason or "left", z))
        return events

    def _dwells(
        self, number: int, z: int, visit: PublishedVisit, left_us: int | None
    ) -> list[ZoneBody]:
        """Return the thresholds that a visit has reached, and note when it will reach the next."""
        zone, entered_us = self.shapes.zones[z], visit.interval.entered_us
        until_us = self.persons.inside_us(number, z) if left_us is None else left_us
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

    def _crossings(self, number: int, k: int) -> list[Passage]:
        """Return the crossings of a line by a track's history, and note when to look again."""
        settle_us = round(self.shapes.lines[k].settle_s * 1e6)
        runs, over = self.persons.runs(number, "line", k), self.persons.is_over(number)
        cuts = self.persons.cuts(number, k)
        pair: Pair = (number, "line", k)
        found, due = crossings(runs, cuts, settle_us, over=over)
        self._note(pair, due)
        if due is not None:
            self.pending[pair] = crossings(runs, cuts, settle_us, over=True)[0][len(found) :]
        return found

    def at_end(self) -> tuple[LineCross, ...]:
        """Return the crossings that follow if all tracks end now, which settles them."""
        if not self.pending:
            return ()
        self.pending = {p: own for p, own in self.pending.items() if own and p in self.due}
        totals, found = dict(self.totals), []
        for number, _, k in sorted(self.pending, key=lambda pair: (pair[2], pair[0])):
            for passage in self.pending[number, "line", k]:
                self._add_total(k, passage.sign, 1)
                found.append(self._cross(number, k, passage))
        self.totals = totals
        return tuple(found)

    def _evaluate_line(self, number: int, k: int) -> list[ZoneBody]:
        own = self.crossings.setdefault(k, {})
        found = self._crossings(number, k)
        published = own.get(number, [])
        events: list[ZoneBody] = []
        if found[: len(published)] != published:
            events += self._revise_line(k, [number], {number: found})
            published = found
        for passage in found[len(published) :]:
            self._add_total(k, passage.sign, 1)
            own.setdefault(number, []).append(passage)
            events.append(self._cross(number, k, passage))
        return events

    def _set_inside(self, z: int, at_us: int) -> None:
        last = (own[-1].interval for own in self.visits.get(z, {}).values() if own)
        since = [one.entered_us for one in last if one.left_us is None]
        self.report.set_inside(z, since, at_us, self.now_us)

    def _add_total(self, k: int, sign: int, more: int) -> None:
        entered, left = self.totals[k]
        self.totals[k] = (entered + more, left) if sign > 0 else (entered, left + more)

    # bodies

    def name(self, number: int) -> str:
        """Return the id of a track in events."""
        return f"{self.source}:{self.epoch}:{number}"

    def _enter(self, number: int, z: int, interval: Interval) -> ZoneBody:
        entry = ZoneEntry(
            name=self.shapes.zones[z].name,
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

    def _cross(self, number: int, k: int, passage: Passage) -> LineCross:
        entered, left = self.totals[k]
        crossing = Crossing(
            name=self.shapes.lines[k].name,
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
        g, row = self.shapes.group_of["line", k], self.persons.live.row(number)
        if row is None:
            return 0.5
        group = self.shapes.groups[g]
        at = group.lines.tolist().index(k)
        distance = abs(float(group.left_of(self.persons.live.last_xy[row, g][None])[0, at]))
        beyond = float(ndtr(distance / max(float(self.persons.live.sd[row, g]), 1e-9)))
        return round(float(self.persons.live.p_exist[row]) * beyond, 4)

    # corrections

    def _correct(self, observed: Observed) -> list[ZoneBody]:
        """Apply the splits and merges of a frame to the history; return what that changes."""
        involved = self.persons.correct(observed.splits, observed.merges)
        self.due = {pair: us for pair, us in self.due.items() if pair[0] in self.persons}
        there = [number for number in involved if number in self.persons]
        events: list[ZoneBody] = []
        for z in self.shapes.zones:
            events += self._revise_zone(z, involved, {n: self._visits(n, z) for n in there})
        for k in self.shapes.lines:
            events += self._revise_line(k, involved, {n: self._crossings(n, k) for n in there})
        return events

    def _revise_zone(
        self, z: int, numbers: Iterable[int], now: dict[int, list[Interval]]
    ) -> list[ZoneBody]:
        """Replace the published visits of some tracks; return the event if that changes any."""
        own = self.visits.setdefault(z, {})
        was = [(n, visit) for n in numbers for visit in own.pop(n, [])]
        are = [(n, interval) for n, intervals in now.items() for interval in intervals]
        old = {_visit_key(n, visit.interval) for n, visit in was}
        new = {_visit_key(n, interval) for n, interval in are}
        for n, interval in are:
            own.setdefault(n, []).append(PublishedVisit(interval, _dwells_of(interval, was)))
            self.persons.touched.add((n, "zone", z))  # dwell times may be reached
        if old == new:
            return []
        self.report.entered(z, len(are) - len(was), self.now_us)
        self._set_inside(z, self.now_us)
        revision = ZoneRevision(
            name=self.shapes.zones[z].name,
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
        self, k: int, numbers: Iterable[int], now: dict[int, list[Passage]]
    ) -> list[ZoneBody]:
        """Replace the published crossings of some tracks; return the event if any changes."""
        own = self.crossings.setdefault(k, {})
        was = [(n, passage) for n in numbers for passage in own.pop(n, [])]
        are = [(n, passage) for n, passages in now.items() for passage in passages]
        for n, passage in are:
            own.setdefault(n, []).append(passage)
        if set(was) == set(are):
            return []
        for _, passage in was:
            self._add_total(k, passage.sign, -1)
        for _, passage in are:
            self._add_total(k, passage.sign, 1)
        entered, left = self.totals[k]
        revision = LineRevision(
            name=self.shapes.lines[k].name,
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
        into = dict(observed.merges)  # a track that ends with its merge ends the kept one
        numbers = {into.get(number, number) for number in (*observed.ended, *into)}
        ended = [
            number
            for number in sorted(numbers - set(observed.ids.tolist()))
            if number in self.persons and not self.persons.is_over(number)
        ]
        if not ended:
            return []
        self.persons.end(ended)
        touched = {pair for pair in self.persons.touched if pair[0] in ended}
        self.persons.touched -= touched
        pairs = {pair for pair in self.due if pair[0] in ended} | touched
        pairs |= {(n, "zone", z) for z, own in self.visits.items() for n in ended if n in own}
        events: list[ZoneBody] = []
        for pair in sorted(pairs, key=lambda one: (one[1] == "line", one[2], one[0])):
            events += self._evaluate(*pair)
            self.due.pop(pair, None)
        self.persons.drop(ended)
        return events

    def _forget(self) -> None:
        """Forget who can no longer be corrected, and what no longer matters of the others."""
        self.forget_us = self.now_us + FORGET_EVERY_US
        before_us = self.now_us - self.keep_us
        for number in self.persons.old(before_us):
            self.persons.forget(number)
            for visited in self.visits.values():
                visited.pop(number, None)
            for crossed in self.crossings.values():
                crossed.pop(number, None)
        for number in self.persons.numbers():
            self._shorten(number, before_us)

    def _shorten(self, number: int, before_us: int) -> None:
        """Leave out old changes of a track that has many; what was published of them is final."""
        for piece in self.persons.pieces(number):
            for z in [z for z, own in piece.changes["zone"].items() if len(own) > MANY]:
                if z in self.shapes.zones:
                    published = self.visits.get(z, {}).get(number, [])
                    forget_zone(piece, z, before_us, [one.interval for one in published])
                    self._keep_visits(number, z)
            for k in [k for k, own in piece.changes["line"].items() if len(own) > MANY]:
                if k in self.shapes.lines:
                    forget_line(piece, k, before_us, round(self.shapes.lines[k].settle_s * 1e6))
                    found = self._crossings(number, k)
                    self.crossings.setdefault(k, {})[number] = found

    def _keep_visits(self, number: int, z: int) -> None:
        """Forget the published visits that the history no longer has."""
        published = self.visits.get(z, {}).get(number, [])
        found = {interval.entered_us for interval in self._visits(number, z)}
        kept = [one for one in published if one.interval.entered_us in found]
        self.visits.setdefault(z, {})[number] = kept
        if kept and kept[-1].interval.left_us is None:
            self.due[number, "zone", z] = self.now_us + 1

    # numbers

    def _count(self, observed: Observed) -> None:
        """Compute how many people are in each zone, as a distribution."""
        rows = self.persons.live.rows_of(observed.ids)
        for g, group in self.shapes.groups.items():
            if not len(group.zones):
                continue
            p = probabilities(observed, group, self.persons.live.sd[rows, g])
            numbers = zip(group.zones.tolist(), *(v.tolist() for v in numbers_of(p)), strict=True)
            for z, mean, sd, occupied in numbers:
                self.report.set_numbers(z, Numbers(mean, sd, occupied), self.now_us)

    def part(self, media_us: int, events: Iterable[ZoneBody] = (), due: int = 0) -> Zones:
        """Return the part of a frame; `due` of its events were so before it."""
        reports = [self.report.reports[z] for z in self.shapes.zones]
        since = [min(self.report.since[z], default=media_us) for z in self.shapes.zones]
        totals = [self.totals[k] for k in self.shapes.lines]
        return Zones(
            zones=tuple(zone.name for zone in self.shapes.zones.values()),
            people=np.array([one.people for one in reports], np.int32),
            mean=np.array([one.numbers.mean for one in reports], np.float64),
            sd=np.array([one.numbers.sd for one in reports], np.float64),
            p_occupied=np.array([one.numbers.p_occupied for one in reports], np.float64),
            longest_us=np.array([max(media_us - us, 0) for us in since], np.int64),
            entries=np.array([self.report.entries[z] for z in self.shapes.zones], np.int64),
            lines=tuple(line.name for line in self.shapes.lines.values()),
            in_total=np.array([entered for entered, _ in totals], np.int64),
            out_total=np.array([left for _, left in totals], np.int64),
            events=tuple(events),
            due=due,
            at_end=self.at_end(),
        )

    def state(self) -> bytes:
        """Return the state from which `restore` continues exactly."""
        return _encoder.encode(
            MachineState(
                epoch=self.epoch,
                arrangement=self.shapes.state(),
                persons=self.persons.state(),
                visits=self.visits,
                crossings=self.crossings,
                due=[(*pair, us) for pair, us in self.due.items()],
                pending=list(self.pending.items()),
                totals=self.totals,
                forget_us=self.forget_us,
                report=self.report.state(),
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = _decoder.decode(state)
        self.shapes.restore(was.arrangement)
        self.restart(was.epoch)
        self.persons.restore(was.persons)
        self.visits, self.crossings, self.totals = was.visits, was.crossings, was.totals
        self.due = {(number, kind, index): us for number, kind, index, us in was.due}
        self.pending, self.forget_us = dict(was.pending), was.forget_us
        self.report.restore(was.report, self.shapes.zones)


def _goes_on(published: list[Interval], found: list[Interval]) -> bool:
    """Whether what was published is the beginning of what is found: visits may have ended since."""
    if len(found) < len(published):
        return False
    return all(
        was == now or (was.left_us is None and was.entered_us == now.entered_us)
        for was, now in zip(published, found, strict=False)
    )


def _visit_key(number: int, interval: Interval) -> tuple[int, int, int | None, str | None]:
    return number, interval.entered_us, interval.left_us, interval.reason


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


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(MachineState)
