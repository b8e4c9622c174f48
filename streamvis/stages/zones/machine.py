"""Count people in the zones and over the lines of one source. Pure: observations in, events out.

    machine = ZoneMachine("cam1", layout, ReportSettings(), keep_us=90_000_000)
    for frame in frames:
        publish(machine.step(observe(frame, tracks)))

What is published of a person is what the history (`history.py`) says beyond what was published
before. So a correction of ids, which changes the history, gives corrections of visits and
crossings.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec
import numpy as np

from streamvis.stages.zones import bodies
from streamvis.stages.zones.arrangement import Arrangement
from streamvis.stages.zones.ending import Endings
from streamvis.stages.zones.events import (
    Crossing,
    LineCross,
    LineRevise,
    LineRevision,
    Stay,
    ZoneBody,
    ZoneDwell,
    ZoneExit,
    ZoneRevise,
    ZoneRevision,
)
from streamvis.stages.zones.history import (
    MANY,
    Interval,
    Passage,
    Run,
    crossings,
    forget_line,
    forget_zone,
    visits,
)
from streamvis.stages.zones.machine_state import MachineState
from streamvis.stages.zones.observed import Observed
from streamvis.stages.zones.occupancy import (
    OccupancyReport,
    ReportSettings,
    numbers_of,
    probabilities,
)
from streamvis.stages.zones.part import Zones
from streamvis.stages.zones.persons import Pair, Persons
from streamvis.stages.zones.published import (
    Look,
    PublishedVisit,
    dwells_of,
    goes_on,
    is_ending,
    is_open,
    reached,
    visit_key,
)
from streamvis.stages.zones.unseen import Unseen
from streamvis.zone_layout import Zone, ZoneLayout

FORGET_EVERY_US = 5_000_000
ABSENT_US = 4_000_000


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
        self.inside: dict[int, dict[int, int]] = {z: {} for z in self.visits}  # when who entered
        self.due: dict[Pair, int] = {}  # when the next event of a pair may follow
        self.pending: dict[Pair, list[Passage]] = {}  # crossings that have not settled
        self.forget_us = 0
        self.now_us = 0
        self.unseen = Unseen()
        self.endings = Endings()
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
        self.inside = {z: self.inside.get(z, {}) for z in zones}
        self.unseen.keep(zones)
        self.crossings = {k: own for k, own in self.crossings.items() if k in lines}
        self.due = {
            pair: us for pair, us in self.due.items() if (pair[1], pair[2]) in self.shapes.group_of
        }
        self.report.set_zones(zones)
        self.persons.widen()
        self.endings = Endings()
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
        self.unseen.see(observed)
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
            nobody = np.zeros((3, len(self.shapes.zones)))
            self.report.set_numbers(list(self.shapes.zones), nobody, due_us)
        return events

    def _pairs_due(self, ended: list[int]) -> set[Pair]:
        """Return the pairs that may have events now."""
        now_us, there = self.now_us, self.persons.there
        self._await()
        due = {pair for pair, us in self.due.items() if us <= now_us and pair[0] in there}
        due |= self.persons.touched
        if ended:
            due |= {pair for pair in self.due if pair[0] in ended}
            due |= {(n, "zone", z) for z, own in self.visits.items() for n in ended if n in own}
        return due

    def _await(self) -> None:
        """Note when values of zones that are new will have held for long enough.

        Nothing happens before, unless a visit goes on within `exit_s` or may just have been one.
        """
        persons = self.persons
        self.endings.forget(chain(persons.soon, persons.touched))
        for pair, (value, us) in persons.soon.items():
            number, _, z = pair
            if bool(value) == (number in self.inside[z]) or number in persons.corrected:
                persons.touched.add(pair)
            else:
                self.due[pair] = min(us, self.due.get(pair, us))
        persons.soon.clear()
        persons.corrected.clear()

    # what is published of a pair

    def _evaluate(self, pairs: Iterable[Pair]) -> list[ZoneBody]:
        """Return the events of tracks at zones and lines, and note when to look again.

        Corrections come first, then visits that end, then others, as they are published, so that
        each has the numbers of then. Zones are before lines, by number and track.
        """
        ordered = sorted((kind, index, number) for number, kind, index in pairs)
        zones = [self._look(n, z) for kind, z, n in ordered if kind == "zone"]
        events: list[ZoneBody] = []
        for look in zones:
            if not goes_on(look.published, look.found, self.shapes.zones[look.zone]):
                events += self._revise_zone(look.zone, [look.number], {look.number: look.found})
        zones.sort(key=lambda look: not is_ending(look.published, look.found))
        for look in zones:
            events += self._publish_visits(look)
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

    def _visits(self, number: int, z: int, runs: Sequence[Run] | None = None) -> list[Interval]:
        """Return the visits of a track to a zone by its history, and note when to look again."""
        runs = self.persons.runs(number, "zone", z) if runs is None else runs
        over = self.persons.is_away(number)
        found, due = visits(runs, self.shapes.timings["zone", z], over=over)
        self._note((number, "zone", z), due)
        return found

    def _look(self, number: int, z: int) -> Look:
        """Return the visits of a track to a zone, as they were published and as they are.

        If it was taken as lost and is back, but outside, the last one stays as it was until it is
        known whether it has left.
        """
        runs, published = self.persons.runs(number, "zone", z), self._published(number, z)
        found = self._visits(number, z, runs)
        if published and found and not runs[-1].value:
            was, last = published[-1].interval, found[-1]
            back = was.left_us is not None and last.left_us is None
            if back and was.entered_us == last.entered_us:
                found[-1] = was
        return Look(number, z, published, found, runs)

    def _publish_visits(self, look: Look) -> list[ZoneBody]:
        """Return the events of the visits of a track, of which the first ones are published."""
        if not look.found:
            return []
        number, z, _, found, runs = look
        name, track = self.shapes.zones[z].name, self.name(number)
        published = self.visits[z].setdefault(number, [])
        events: list[ZoneBody] = []
        for i, interval in enumerate(found):
            if i == len(published):
                published.append(PublishedVisit(interval._replace(left_us=None, reason=None)))
                self.report.entered(z, 1, self.now_us)
                self._set_inside(z, [number], interval.entered_us)
                events.append(
                    bodies.enter(
                        name, track, interval, self.report.entries[z], self.report.occupancy(z)
                    )
                )
            visit = published[i]
            if visit.dwells < len(self.shapes.zones[z].dwell_s):
                left_us = interval.left_us
                until_us = self.persons.inside_us(number, runs) if left_us is None else left_us
                events += self._dwells(number, z, visit, until_us)
                if left_us is None:
                    self._note_dwell(number, z, visit)
            if visit.interval.left_us is None and interval.left_us is not None:
                visit.interval = interval
                self._set_inside(z, [number], interval.left_us)
                now = self.report.occupancy(z)
                events.append(bodies.leave(name, track, interval, occupancy=now))
        return events

    def _dwells(
        self, number: int, z: int, visit: PublishedVisit, until_us: int
    ) -> Iterator[ZoneBody]:
        """Yield the thresholds that a visit has reached."""
        zone, interval = self.shapes.zones[z], visit.interval
        for threshold_s in zone.dwell_s[visit.dwells : reached(zone, interval, until_us)]:
            visit.dwells += 1
            stay = Stay(
                name=zone.name,
                track=self.name(number),
                at_us=interval.entered_us + round(threshold_s * 1e6),
                entered_us=interval.entered_us,
                threshold_s=threshold_s,
            )
            yield ZoneDwell(stay)

    def _note_dwell(self, number: int, z: int, visit: PublishedVisit) -> None:
        """Note when a visit reaches its next threshold."""
        pair: Pair = (number, "zone", z)
        for threshold_s in self.shapes.zones[z].dwell_s[visit.dwells :][:1]:
            at_us = visit.interval.entered_us + round(threshold_s * 1e6)
            self._note(pair, min(at_us, self.due.get(pair, at_us)))

    def _crossings(self, number: int, k: int) -> list[Passage]:
        """Return the crossings of a line by a track's history, and note when to look again."""
        settle_us = self.shapes.timings["line", k].begin_us
        runs, over = self.persons.runs(number, "line", k), self.persons.is_over(number)
        cuts = self.persons.cuts(number, k)
        pair: Pair = (number, "line", k)
        found, due = crossings(runs, cuts, settle_us, over=over)
        self._note(pair, due)
        if due is not None:
            self.pending[pair] = crossings(runs, cuts, settle_us, over=True)[0][len(found) :]
        return found

    def at_end(self, media_us: int) -> tuple[ZoneExit | LineCross, ...]:
        """Return what follows if the source ends now: exits before its end, then crossings."""
        exits = self.endings.exits(self.persons, self.shapes, self.inside, media_us, self.name)
        return (*exits, *self._crossings_at_end())

    def _crossings_at_end(self) -> tuple[LineCross, ...]:
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

    def _set_inside(self, z: int, numbers: Iterable[int], at_us: int) -> None:
        """Note who of these is inside."""
        inside = self.inside[z]
        for number in numbers:
            visits = self._published(number, z)
            if is_open(visits):
                inside[number] = visits[-1].interval.entered_us
            else:
                inside.pop(number, None)
        self.report.set_inside(z, inside.values(), at_us, self.now_us)

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
            p=self.persons.p_beyond(number, k),
            in_total=entered,
            out_total=left,
        )
        return LineCross(crossing)

    # corrections

    def _correct(self, observed: Observed) -> list[ZoneBody]:
        """Apply the splits and merges of a frame to the history; return what that changes."""
        self.endings = Endings()
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
        self._set_inside(z, [n for n, _ in (*was, *are)], self.now_us)
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
            p = np.zeros((0, len(group.zones)))
            if len(observed.ids):
                p = probabilities(observed.p_exist, group, self.persons.placed[g])
            zones = group.zones.tolist()
            unseen = self.unseen.expect(zones, p.sum(axis=0), self.now_us)
            self.report.set_numbers(zones, numbers_of(p, unseen), self.now_us)

    def part(self, media_us: int, events: Iterable[ZoneBody] = (), due: int = 0) -> Zones:
        """Return the part of a frame; `due` of its events were so before it."""
        reports = [self.report.reports[z] for z in self.shapes.zones]
        earliest = [self.report.earliest[z] for z in self.shapes.zones]
        stays = [0 if us is None else max(media_us - us, 0) for us in earliest]
        mean, sd, p_occupied = self.report.numbers.copy()
        totals = [self.totals[k] for k in self.shapes.lines]
        return Zones(
            zones=tuple(zone.name for zone in self.shapes.zones.values()),
            people=np.array([one.people for one in reports], np.int32),
            mean=mean,
            sd=sd,
            p_occupied=p_occupied,
            longest_us=np.array(stays, np.int64),
            entries=np.array([self.report.entries[z] for z in self.shapes.zones], np.int64),
            lines=tuple(line.name for line in self.shapes.lines.values()),
            in_total=np.array([entered for entered, _ in totals], np.int64),
            out_total=np.array([left for _, left in totals], np.int64),
            events=tuple(events),
            due=due,
            at_end=self.at_end(media_us),
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
                unseen=self.unseen,
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = _decoder.decode(state)
        self.shapes.restore(was.arrangement)
        self.restart(was.epoch)
        self.persons.restore(was.persons)
        self.visits, self.crossings, self.totals = was.visits, was.crossings, was.totals
        self.inside = {
            z: {n: visit[-1].interval.entered_us for n, visit in own.items() if is_open(visit)}
            for z, own in self.visits.items()
        }
        self.due = {(number, kind, index): us for number, kind, index, us in was.due}
        self.pending, self.forget_us = dict(was.pending), was.forget_us
        self.unseen = was.unseen
        self.report.restore(was.report, self.shapes.zones)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(MachineState)
