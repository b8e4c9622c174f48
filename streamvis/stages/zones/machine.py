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

from streamvis.stages.zones import bodies
from streamvis.stages.zones.arrangement import Arrangement, ArrangementState
from streamvis.stages.zones.events import (
    Crossing,
    LineCross,
    LineRevise,
    LineRevision,
    Stay,
    ZoneBody,
    ZoneDwell,
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
from streamvis.stages.zones.published import (
    PublishedVisit,
    dwells_of,
    goes_on,
    is_ending,
    reached,
    visit_key,
)
from streamvis.zone_layout import Zone, ZoneLayout

FORGET_EVERY_US = 5_000_000
ABSENT_US = 4_000_000


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
        self,
        source: str,
        layout: ZoneLayout,
        settings: ReportSettings,
        keep_us: int,
        absent_us: int = ABSENT_US,
    ) -> None:
        self.source = source
        self.keep_us = keep_us  # corrections of tracks that ended longer ago change nothing
        self.absent_us = absent_us  # who is in no frame for so long is taken as lost
        self.shapes = Arrangement()
        self.totals: dict[int, tuple[int, int]] = {}  # in and out, by line
        self.report = OccupancyReport(settings)
        self.restart(1)
        self.set_layout(layout)

    def restart(self, epoch: int) -> None:
        """Begin a stream epoch: nobody is inside; totals go on."""
        self.epoch = epoch
        self.persons = Persons(self.shapes)
        self.visits: dict[int, dict[int, list[PublishedVisit]]] = {z: {} for z in self.shapes.zones}
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
        self.visits = {z: self.visits.get(z, {}) for z in zones}
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
                        yield bodies.leave(zone.name, self.name(number), ended, "layout")

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
        timed = self.pass_until(observed.media_us - 1)
        self.now_us = observed.media_us
        revised = self._correct(observed) if observed.splits or observed.merges else []
        self.persons.take(observed)
        ended = self._ended(observed)
        if ended:
            self.persons.end(ended)
        events = self._evaluate(self._pairs_due(ended))
        if ended:
            self._drop(ended)
        if len(observed.ids) or observed.ended or observed.merges:
            self._count(observed)
        events += self.report.publish(observed.media_us)
        events += self.report.forecast(observed, self.shapes.groups)
        if observed.media_us >= self.forget_us:
            self._forget()
        return timed + revised + events

    def pass_until(self, media_us: int) -> list[ZoneBody]:
        """Let time pass; return what was due until then, which no frame changes any more."""
        events: list[ZoneBody] = []
        while (due_us := self.persons.next_loss_us(self.absent_us)) <= media_us:
            events += self.report.publish(due_us)
            events += self._lose(due_us)
        return events + self.report.publish(media_us)

    def _lose(self, due_us: int) -> list[ZoneBody]:
        """Take those who are due as lost: they were in their zones until they were last seen."""
        self.now_us = due_us
        lost = self.persons.lose()
        events = self._evaluate(
            [(n, "zone", z) for z, own in self.visits.items() for n in lost if n in own]
        )
        if not self.persons.is_anybody_there():  # since the last frame with tracks
            for z in self.shapes.zones:
                self.report.set_numbers(z, Numbers(), due_us)
        return events

    def _pairs_due(self, ended: list[int]) -> set[Pair]:
        """Return the pairs that may have events now."""
        now_us, there = self.now_us, self.persons.there
        due = {pair for pair, us in self.due.items() if us <= now_us and pair[0] in there}
        due |= self.persons.touched
        if ended:
            due |= {pair for pair in self.due if pair[0] in ended}
            due |= {(n, "zone", z) for z, own in self.visits.items() for n in ended if n in own}
        return due

    # what is published of a pair

    def _evaluate(self, pairs: Iterable[Pair]) -> list[ZoneBody]:
        """Return the events of tracks at zones and lines, and note when to look again.

        Corrections come first, then visits that end, then others, as they are published, so that
        each has the numbers of then. Zones are before lines, by number and track.
        """
        ordered = sorted((kind, index, number) for number, kind, index in pairs)
        found = {(n, z): self._visits_so_far(n, z) for kind, z, n in ordered if kind == "zone"}
        events: list[ZoneBody] = []
        for (n, z), own in found.items():
            if not goes_on(self._published(n, z), own, self.shapes.zones[z]):
                events += self._revise_zone(z, [n], {n: own})
        ending = [pair for pair, own in found.items() if is_ending(self._published(*pair), own)]
        for n, z in [*ending, *(pair for pair in found if pair not in ending)]:
            events += self._publish_visits(n, z, found[n, z])
        for kind, k, n in ordered:
            if kind == "line":
                events += self._evaluate_line(n, k)
        self.persons.touched.clear()
        return events

    def _note(self, pair: Pair, due_us: int | None) -> None:
        if due_us is None:
            self.due.pop(pair, None)
        else:
            self.due[pair] = max(due_us, self.now_us + 1)

    def _published(self, number: int, z: int) -> list[PublishedVisit]:
        return self.visits.get(z, {}).get(number, [])

    def _visits(self, number: int, z: int, was: Interval | None = None) -> list[Interval]:
        """Return the visits of a track to a zone by its history, and note when to look again.

        was: how the last one was published. If it was taken as lost and is back, but outside, that
        stays until it is known whether it has left.
        """
        zone = self.shapes.zones[z]
        timing = Timing(round(zone.enter_s * 1e6), round(zone.exit_s * 1e6))
        runs, away = self.persons.runs(number, "zone", z), self.persons.is_away(number)
        found, due = visits(runs, timing, over=away)
        self._note((number, "zone", z), due)
        if was is not None and was.left_us is not None and found and not runs[-1].value:
            last = found[-1]
            if last.left_us is None and last.entered_us == was.entered_us:
                found[-1] = was
        return found

    def _visits_so_far(self, number: int, z: int) -> list[Interval]:
        published = self._published(number, z)
        return self._visits(number, z, published[-1].interval if published else None)

    def _publish_visits(self, number: int, z: int, found: list[Interval]) -> list[ZoneBody]:
        """Return the events of the visits of a track, of which the first ones are published."""
        if not found:
            return []
        name, track = self.shapes.zones[z].name, self.name(number)
        published = self.visits[z].setdefault(number, [])
        events: list[ZoneBody] = []
        for i, interval in enumerate(found):
            if i == len(published):
                published.append(PublishedVisit(interval._replace(left_us=None, reason=None)))
                self.report.entered(z, 1, self.now_us)
                self._set_inside(z, interval.entered_us)
                events.append(
                    bodies.enter(
                        name, track, interval, self.report.entries[z], self.report.occupancy(z)
                    )
                )
            visit = published[i]
            events += self._dwells(number, z, visit, interval.left_us)
            if visit.interval.left_us is None and interval.left_us is not None:
                visit.interval = interval
                self._set_inside(z, interval.left_us)
                now = self.report.occupancy(z)
                events.append(bodies.leave(name, track, interval, occupancy=now))
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
        last = (own[-1].interval for own in self.visits[z].values() if own)
        since = [one.entered_us for one in last if one.left_us is None]
        self.report.set_inside(z, since, at_us, self.now_us)

    def _add_total(self, k: int, sign: int, more: int) -> None:
        entered, left = self.totals[k]
        self.totals[k] = (entered + more, left) if sign > 0 else (entered, left + more)

    # bodies

    def name(self, number: int) -> str:
        """Return the id of a track in events."""
        return f"{self.source}:{self.epoch}:{number}"

    def _cross(self, number: int, k: int, passage: Passage) -> LineCross:
        entered, left = self.totals[k]
        crossing = Crossing(
            name=self.shapes.lines[k].name,
            track=self.name(number),
            direction=bodies.DIRECTIONS[passage.sign],
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
        own = self.visits[z]
        was = [(n, visit) for n in numbers for visit in own.pop(n, [])]
        are = [(n, interval) for n, intervals in now.items() for interval in intervals]
        old = {visit_key(n, visit.interval) for n, visit in was}
        new = {visit_key(n, interval) for n, interval in are}
        zone, before = self.shapes.zones[z], [visit for _, visit in was]
        for n, interval in are:
            still = min(dwells_of(interval, before), reached(zone, interval, self.now_us))
            own.setdefault(n, []).append(PublishedVisit(interval, still))
            self.persons.touched.add((n, "zone", z))  # dwell times may be reached
        if old == new:
            return []
        self.report.entered(z, len(are) - len(was), self.now_us)
        self._set_inside(z, self.now_us)
        revision = ZoneRevision(
            name=zone.name,
            was=tuple(
                bodies.visit(self.name(n), v.interval)
                for n, v in was
                if visit_key(n, v.interval) not in new
            ),
            now=tuple(bodies.visit(self.name(n), i) for n, i in are if visit_key(n, i) not in old),
            entries=self.report.entries[z],
            occupancy=self.report.occupancy(z),
        )
        return [ZoneRevise(revision)]

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
            was=tuple(bodies.past(self.name(n), one) for n, one in was if (n, one) not in are),
            now=tuple(bodies.past(self.name(n), one) for n, one in are if (n, one) not in was),
            in_total=entered,
            out_total=left,
        )
        return [LineRevise(revision)]

    # the end of tracks

    def _ended(self, observed: Observed) -> list[int]:
        """Return the tracks that end: who was inside is lost, who was beyond a line has crossed."""
        into = dict(observed.merges)  # a track that ends with its merge ends the kept one
        numbers = {into.get(number, number) for number in (*observed.ended, *into)}
        return [
            number
            for number in sorted(numbers - self.persons.there)
            if number in self.persons and not self.persons.is_over(number)
        ]

    def _drop(self, ended: list[int]) -> None:
        """Drop what is kept of tracks that are alive."""
        self.due = {pair: us for pair, us in self.due.items() if pair[0] not in ended}
        self.persons.drop(ended)

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
                    published = self._published(number, z)
                    forget_zone(piece, z, before_us, [one.interval for one in published])
                    self._keep_visits(number, z)
            for k in [k for k, own in piece.changes["line"].items() if len(own) > MANY]:
                if k in self.shapes.lines:
                    forget_line(piece, k, before_us, round(self.shapes.lines[k].settle_s * 1e6))
                    found = self._crossings(number, k)
                    self.crossings.setdefault(k, {})[number] = found

    def _keep_visits(self, number: int, z: int) -> None:
        """Forget the published visits that the history no longer has."""
        published = self._published(number, z)
        found = {interval.entered_us for interval in self._visits(number, z)}
        kept = [one for one in published if one.interval.entered_us in found]
        self.visits[z][number] = kept
        if kept and kept[-1].interval.left_us is None:
            self.due[number, "zone", z] = self.now_us + 1

    # numbers

    def _count(self, observed: Observed) -> None:
        """Compute how many people are in each zone, as a distribution."""
        for g, group in self.shapes.groups.items():
            if not len(group.zones):
                continue
            if len(observed.ids):
                p = probabilities(observed.p_exist, group, self.persons.placed[g])
            else:
                p = np.zeros((0, len(group.zones)))
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


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(MachineState)
