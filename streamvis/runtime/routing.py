"""The hub's decisions: facts in, orders out. No sockets, clocks, threads or processes here.

    core = Core(fold(pipeline, placement), ["cam1"], window=8)
    orders = core.step(Admitted("cam1", shot, at=12.5))

A slot is the credit: a frame holds its slot until every group has answered for it, so the window
bounds memory, queues and latency at once. Frames are dropped before admission, or by a drain.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from streamvis.messages import Ending, Frame, Notice
from streamvis.runtime import facts as f
from streamvis.runtime.admission import Admission
from streamvis.runtime.checkpoint import Saved, plan, restore, saved, take
from streamvis.runtime.dispatch import Dispatch, fits, waiting
from streamvis.runtime.drain import Hurry, is_sink, lost, needs, patience, withdraw
from streamvis.runtime.plan import Group
from streamvis.runtime.state import (
    Crew,
    Flight,
    Job,
    Lane,
    Station,
    Stream,
    crew_of,
    named,
    queued,
    rests,
    skipped,
    too_many_deaths,
)
from streamvis.runtime.supervision import Limits, Seat, advance, bury, kill, next_due, stop
from streamvis.runtime.wire import Answer, End, Missed, Shot, Tell


class Core:
    """One run, from the first process to the last answer."""

    def __init__(
        self,
        groups: Sequence[Group],
        sources: Sequence[str],
        window: int,
        limits: Limits | None = None,
        resumed: Mapping[str, Saved] | None = None,
    ) -> None:
        self.groups = tuple(groups)
        self.window = window
        self.limits = limits or Limits()
        self.streams = {name: Stream(name, Seat(f"decode-{name}")) for name in sources}
        self.crews = [crew_of(group) for group in groups]
        self.skipped: Counter[str] = Counter()  # by stage
        self.failed: f.Fail | None = None
        self._hurry: Hurry | None = None  # once the run is drained
        self._stations = {s.seat.name: (c, s) for c in self.crews for s in c.stations}
        self._decoders = {stream.seat.name: stream for stream in self.streams.values()}
        self._waits = [len(group.parents) for group in groups]
        self._timed = [s for group in groups for s in group.stages if s.every_s > 0]
        self._dispatch = Dispatch(self.streams)
        self._admission = Admission(self.crews, self.streams, window)
        self._states = self._dispatch.states
        self._orders: list[f.Order] = []
        self._dirty: dict[int, None] = {}  # groups that may have something to send, in order
        for name, at in (resumed or {}).items():
            self._states.update(restore(self.streams[name], at))

    @property
    def seats(self) -> list[Seat]:
        decode = [stream.seat for stream in self.streams.values()]
        return decode + [station.seat for _, station in self._stations.values()]

    @property
    def finished(self) -> bool:
        return all(seat.state == "gone" for seat in self.seats)

    def due(self, now: float = float("-inf")) -> float:
        """When the next `Tick` has something to decide."""
        times = [next_due(seat, patience(seat, self.limits, self._hurry)) for seat in self.seats]
        times += [stream.gaps.due_s() for stream in self.streams.values() if stream.live]
        if self._hurry is not None:
            times.append(self._hurry.due(now))
        for crew in self.crews:
            if crew.wait_s:
                times += [job.since + crew.wait_s for job in waiting(crew)]
        return min(times)

    def queued(self, group: int) -> int:
        """Frames that the group has not answered though their parents have."""
        return queued(self.crews[group])

    def step(self, fact: f.Fact) -> list[f.Order]:
        """Take one fact in; the orders are to be carried out in their order."""
        self._orders, self._dirty = [], {}
        self._take(fact)
        if self._hurry is not None:
            self._hurry_on(self._hurry, fact.at)
        else:
            self._save()
        self._orders += self._admission(fact.at)
        while self._dirty:
            index = next(iter(self._dirty))
            del self._dirty[index]
            self._orders += self._dispatch(self.crews[index], fact.at)
        return self._orders

    def _save(self) -> None:
        """The checkpoints that are due; in a drain there is none, since frames are dropped."""
        for stream in self.streams.values():
            if stream.saving and stream.ending is None and (kept := take(stream, self._states)):
                self._orders.append(f.Checkpoint(stream.name, kept))

    def _take(self, fact: f.Fact) -> None:
        match fact:
            case f.Answered():
                self._answered(*self._stations[fact.seat], fact.answer, fact.blobs, fact.at)
            case f.Admitted():
                self._admitted(self.streams[fact.source], fact.shot, fact.at)
            case f.Tick():
                self._tick(fact.at)
            case f.Beat():
                self._seat(fact.seat).beat = fact.at
            case f.Joined():
                self._joined(fact.seat, fact.at)
            case f.Opened():
                self._opened(self.streams[fact.source], fact)
            case f.Slotted():
                self._slotted(self.streams[fact.source], fact.slots)
            case f.SourceEnded():
                self._ended(self.streams[fact.source], fact)
            case f.Refused():
                self._refused(fact)
            case f.Died():
                self._died(fact)
            case f.Drain():
                self._drain(fact.at)

    # processes

    def _seat(self, name: str) -> Seat:
        stream = self._decoders.get(name)
        return stream.seat if stream else self._stations[name][1].seat

    def _joined(self, name: str, at: float) -> None:
        seat = self._seat(name)
        if seat.state != "starting":
            return
        seat.state, seat.beat = "ready", at
        if stream := self._decoders.get(name):
            self._orders.append(f.Launch(stream.name, stream.epoch, stream.last_n))
        else:
            self._dirty[self._stations[name][0].group.index] = None

    def _tick(self, at: float) -> None:
        for seat in self.seats:
            self._order(advance(seat, at, patience(seat, self.limits, self._hurry)))
        late = self._hurry is not None and self._hurry.late(at)
        call_s = self.limits.hurry_silence_s if late else self.limits.call_s
        for crew in self.crews:
            for station in crew.stations:
                if station.sent and at >= station.sent[0].at + call_s and station.seat.alive:
                    self._order(kill(station.seat, f"at one call for {call_s:g} s"))
            if crew.wait_s:
                self._dirty[crew.group.index] = None
        for stream in self.streams.values():
            if stream.live:
                self._tell(stream, stream.gaps.take(at), at)

    def _order(self, order: f.Order | None) -> None:
        if order is not None:
            self._orders.append(order)

    def _fail(self, error: str, message: str, at: float) -> None:
        """Keep the first failure and bring the run to its end as a drain does."""
        if self.failed is None:
            self.failed = f.Fail(error, message)
            self._orders.append(self.failed)
        self._drain(at)

    def _refused(self, fact: f.Refused) -> None:
        if fact.seat in self._stations:
            seat = self._stations[fact.seat][1].seat
            seat.leaving, seat.state, seat.due = True, "stopping", fact.at + self.limits.close_s
        self._fail(fact.error, fact.message, fact.at)

    def _died(self, fact: f.Died) -> None:
        if stream := self._decoders.get(fact.seat):
            self._decode_died(stream, fact)
        else:
            self._worker_died(*self._stations[fact.seat], fact)

    def _decode_died(self, stream: Stream, fact: f.Died) -> None:
        stream.free += sorted(stream.granted)
        stream.granted.clear()
        stream.open = False
        if stream.seat.leaving:
            stream.seat.state = "gone"
            self._close_source(stream, "drained", fact.at)
        elif not bury(stream.seat, fact.at, self.limits):
            stream.error = "RunError"
            stream.message = too_many_deaths(fact.reason, self.limits)
            self._close_source(stream, "failed", fact.at)
        elif stream.info is not None and stream.live:
            stream.epoch, stream.last_n = stream.info.epoch + 1, -1
            stream.past_errors, stream.errors = stream.past_errors + stream.errors, 0
        self._order(advance(stream.seat, fact.at, self.limits))

    def _worker_died(self, crew: Crew, station: Station, fact: f.Died) -> None:
        seat = station.seat
        if seat.leaving:
            seat.state = "gone"
            if fact.reason and not (self._hurry is not None and crew.group.children):
                reason = f"{named(crew)} failed while it was closing: {fact.reason}"
                self._fail("RunError", reason, fact.at)
            self._abandon(crew, station, fact.at)
            return
        self._take_back(crew, station, fact.at)
        if self._hurry is not None and not self._worth_a_restart(crew, fact.at):
            seat.state = "gone"
            self._abandon(crew, station, fact.at)
        elif not bury(seat, fact.at, self.limits):
            reason = f"{named(crew)}: {too_many_deaths(fact.reason, self.limits)}"
            self._fail("RunError", reason, fact.at)
            self._abandon(crew, station, fact.at)
        else:
            self._order(advance(seat, fact.at, self.limits))
            self._dirty[crew.group.index] = None

    def _worth_a_restart(self, crew: Crew, at: float) -> bool:
        """In a drain: sinks always; others that keep state, while there is time for work."""
        assert self._hurry is not None
        group = crew.group
        return is_sink(group) or (bool(group.stateful) and not self._hurry.late(at))

    def _abandon(self, crew: Crew, station: Station, at: float) -> None:
        """The process is gone for good: sources of a stateful group go on without it."""
        self._take_back(crew, station, at)
        index = crew.group.index
        self._dirty[index] = None  # another replica may go on with what it had
        for stream in self.streams.values():
            lane = stream.lanes.get(index)
            if lane is None or lane.station is not station:
                continue
            jobs = [*lane.jobs, *(job for job in station.queue if job.source == stream.name)]
            stream.told -= sum(job.flight is None for job in jobs)
            del stream.lanes[index]
            self._finish(stream, at)
        if crew.group.stateful:
            station.queue.clear()

    def _take_back(self, crew: Crew, station: Station, at: float) -> None:
        """Queue the outstanding jobs again, in order, after finding out whom to suspect."""
        batches = list(station.sent)
        station.sent.clear()
        station.begun.clear()
        station.load = 0
        jobs = [job for batch in batches for job in batch.jobs]
        for job in jobs:
            job.out = False
            if job.flight is not None:
                job.flight.out -= 1
        suspects = [job for job in batches[0].jobs if job.flight is not None] if batches else []
        for job in suspects:
            job.deaths += 1
        queue = station.queue if crew.group.stateful else crew.queue
        queue.extendleft(reversed(jobs))
        for job in jobs:
            guilty = suspects == [job] and job.deaths >= 2
            if (flight := job.flight) is not None and (guilty or flight.given_up):
                self._poison(flight, at)

    def _drain(self, at: float) -> None:
        if self._hurry is not None:
            return
        self._hurry = Hurry(at, self.limits)
        for seat in self.seats:
            seat.beat = max(seat.beat, at)  # silence counts from now on
        for stream in self.streams.values():
            if stream.ending is None:
                stream.open = False
                self._order(stop(stream.seat, at, self.limits.drain_s))
                if stream.seat.state == "gone":
                    self._close_source(stream, "drained", at)

    def _hurry_on(self, hurry: Hurry, at: float) -> None:
        """Drop what will not be done in time, and end what is too late."""
        late = hurry.late(at)
        if hurry.over(at):
            self._end_all(at)
        elif late:
            for crew in self.crews:
                if not is_sink(crew.group):
                    self._end_late(crew, at)
        for stream in self.streams.values():
            for flight in list(stream.flights.values()):
                if flight.out == 0 and (late or not flight.begun or self._stuck(stream, flight)):
                    self._drop(stream, flight, at)

    def _stuck(self, stream: Stream, flight: Flight) -> bool:
        return any(lost(crew, stream) and needs(flight, crew.group) for crew in self.crews)

    def _end_late(self, crew: Crew, at: float) -> None:
        """Kill what still works, and what the end of a source would have to wait for."""
        for station in crew.stations:
            absent = station.seat.state in ("waiting", "starting") and crew.group.stateful
            if station.sent or absent:
                self._end(station.seat, at)

    def _end_all(self, at: float) -> None:
        sinks = [crew for crew in self.crews if is_sink(crew.group)]
        left = [c for c in sinks if any(s.seat.state != "gone" for s in c.stations)]
        untold = not all(stream.done for stream in self.streams.values())
        if left and untold and self.failed is None:
            reason = f"{named(left[0])} did not end within {self.limits.hurry_end_s:g} s when asked"
            self._fail("RunError", f"{reason}; what it had still to write is missing", at)
        for seat in self.seats:
            self._end(seat, at)

    def _end(self, seat: Seat, at: float) -> None:
        """End a process for good, without asking it."""
        seat.leaving = True
        if seat.alive:
            self._order(kill(seat, ""))
        elif seat.state == "waiting":
            seat.state = "gone"
            if seat.name in self._stations:
                self._abandon(*self._stations[seat.name], at)

    def _drop(self, stream: Stream, flight: Flight, at: float) -> None:
        """Give a frame up that no worker has: it counts as dropped, not as admitted."""
        frame = flight.frame
        flight.given_up = True
        stream.admitted -= 1
        if stream.ending == "eof":
            stream.ending = "drained"
        self._count(stream, Missed("drained", 1, frame.n, frame.n))
        for index in withdraw(flight, stream, self.crews):
            self._pump(stream, index, at)
        self._retire_if_over(flight, at, dropped=True)

    # sources

    def _opened(self, stream: Stream, fact: f.Opened) -> None:
        if not stream.lanes:
            for crew in self.crews:
                if crew.group.stateful:
                    stream.lanes[crew.group.index] = Lane(self._least_sources(crew), deque())
        stream.info, stream.open = fact.info, stream.seat.state == "ready"
        if stream.epoch != stream.known_epoch:
            stream.known_epoch = stream.epoch
            stream.turns.clear()
            self._tell(stream, stream.gaps.take_all(), fact.at)
            self._notice(stream, "epoch", fact.at)

    def _least_sources(self, crew: Crew) -> Station:
        index = crew.group.index
        streams = [s for s in self.streams.values() if index in s.lanes and not s.done]
        taken = Counter(id(s.lanes[index].station) for s in streams)
        return min(crew.stations, key=lambda station: taken[id(station)])

    def _slotted(self, stream: Stream, slots: Sequence[str]) -> None:
        stream.slots = frozenset(slots)
        stream.free = list(slots)
        stream.granted.clear()

    def _admitted(self, stream: Stream, shot: Shot, at: float) -> None:
        if shot.slot not in stream.granted or stream.ending is not None:
            self._order(kill(stream.seat, f"it wrote to slot {shot.slot!r}, which it did not have"))
            return
        for gap in shot.missed:
            self._count(stream, gap)
        if self._hurry is not None:  # it was written before the decode process heard of the end
            stream.granted.remove(shot.slot)
            stream.errors = shot.errors
            self._count(stream, Missed("drained", 1, shot.n, shot.n))
            return
        # by arrival if it is live, by media time in files: there two runs must not differ
        now_s = at if stream.live else shot.media_us / 1e6
        self._tell(stream, stream.gaps.take(now_s), at)
        wall_us = stream.info.wall_us(shot.media_us) if stream.info else 0
        frame = Frame(
            source=stream.name,
            seq=stream.admitted,
            n=shot.n,
            media_us=shot.media_us,
            width=shot.width,
            height=shot.height,
            slot=shot.slot,
            epoch=stream.epoch,
            capture_us=shot.capture_us or wall_us,
            clock=shot.clock,
        )
        stream.granted.remove(shot.slot)
        self.skipped.update(skip := skipped(stream, self._timed, shot.media_us))
        flight = Flight(frame, at, stream.last_us, skip, self._waits.copy(), len(self.groups))
        stream.flights[frame.seq] = flight
        stream.admitted += 1
        stream.last_n, stream.last_us, stream.errors = shot.n, shot.media_us, shot.errors
        plan(stream, at, self.limits)
        for index, lane in stream.lanes.items():
            if not rests(self.groups[index], flight):
                flight.jobs[index] = job = Job(stream.name, flight)
                lane.jobs.append(job)
        for group in self.groups:
            if not group.parents:
                self._arrive(flight, group.index, at)

    def _count(self, stream: Stream, gap: Missed) -> None:
        if gap.reason != "decode":
            stream.dropped[gap.reason] = stream.dropped.get(gap.reason, 0) + gap.count
        stream.gaps.add(gap)

    def _tell(self, stream: Stream, gaps: Sequence[Missed], at: float) -> None:
        for gap in gaps:
            self._notice(stream, "gap", at, gap)

    def _notice(
        self,
        stream: Stream,
        kind: Literal["gap", "epoch"],
        at: float,
        gap: Missed | None = None,
    ) -> None:
        notice = Notice(
            source=stream.name,
            kind=kind,
            media_us=stream.last_us,
            first_n=gap.first_n if gap else -1,
            last_n=gap.last_n if gap else -1,
            reason=gap.reason if gap else "",
            count=gap.count if gap else 0,
        )
        for index in stream.lanes:
            stream.lanes[index].jobs.append(Job(stream.name, item=Tell(notice), ready=True))
            stream.told += 1
            self._pump(stream, index, at)

    def _ended(self, stream: Stream, fact: f.SourceEnded) -> None:
        if stream.ending is not None:
            return
        for gap in fact.missed:
            self._count(stream, gap)
        stream.errors = max(stream.errors, fact.errors)
        if fact.ending == "failed":
            stream.error, stream.message = fact.error, fact.message
        self._order(stop(stream.seat, fact.at, self.limits.drain_s))
        self._close_source(stream, fact.ending, fact.at)

    def _close_source(self, stream: Stream, ending: Ending, at: float) -> None:
        if stream.ending is None:
            cut = ending == "eof" and stream.dropped.get("drained", 0) > 0
            stream.ending = "drained" if cut else ending
        self._finish(stream, at)

    def _finish(self, stream: Stream, at: float) -> None:
        """Tell the stateful groups of the end once all is answered: none waits for another."""
        if stream.done or stream.flights:
            return
        if stream.ending is None:
            return
        if not stream.finishing:
            stream.finishing = True
            if stream.ending == "eof" and not stream.told:
                self._orders.append(f.Checkpoint(stream.name, saved(stream, self._states)))
            self._tell(stream, stream.gaps.take_all(), at)
            for index, lane in stream.lanes.items():
                lane.jobs.append(Job(stream.name, item=End(stream.name, stream.ending), ready=True))
                stream.told += 1
                self._pump(stream, index, at)
        if stream.told:
            return
        stream.done = True
        for key in [key for key in self._states if key[1] == stream.name]:
            del self._states[key]
        if all(other.done for other in self.streams.values()):
            for crew in self.crews:
                for station in crew.stations:
                    self._order(stop(station.seat, at, self.limits.close_s))

    # frames

    def _arrive(self, flight: Flight, index: int, at: float) -> None:
        """All parents of the group have answered for the frame."""
        if flight.given_up:
            return
        if rests(self.groups[index], flight):
            self._resolve(flight, index, at)
            return
        stream = self.streams[flight.frame.source]
        if self.groups[index].stateful:
            flight.jobs[index].ready = True
            if index in stream.lanes:
                self._pump(stream, index, at)
            return
        flight.jobs[index] = job = Job(flight.frame.source, flight, ready=True, since=at)
        self.crews[index].queue.append(job)
        self._dirty[index] = None

    def _pump(self, stream: Stream, index: int, at: float) -> None:
        lane = stream.lanes[index]
        while lane.jobs and lane.jobs[0].ready:
            job = lane.jobs.popleft()
            job.since = at
            lane.station.queue.append(job)
        self._dirty[index] = None

    def _answered(
        self, crew: Crew, station: Station, answer: Answer, blobs: Sequence[Any], at: float
    ) -> None:
        group = crew.group
        if not station.sent or not fits(answer, station.sent[0], group, len(blobs)):
            self._order(kill(station.seat, "its answer does not fit what it was asked"))
            return
        batch = station.sent.popleft()
        station.load -= batch.packets
        crew.worked(batch.packets, at - batch.at)
        if station.sent:
            station.sent[0].at = at
        for state in answer.states:
            self._states[state.stage, state.source] = state.data
        self._dirty[group.index] = None
        parts = iter(blobs)
        wrote = iter(answer.wrote)
        for job in batch.jobs:
            if (flight := job.flight) is not None:
                flight.out -= 1
                flight.parts.update(zip(next(wrote), parts, strict=False))
                flight.jobs.pop(group.index, None)
                self._resolve(flight, group.index, at)
            else:
                stream = self.streams[job.source]
                stream.told -= 1
                self._finish(stream, at)

    def _resolve(self, flight: Flight, index: int, at: float) -> None:
        """The group is done with the frame: its children may be next."""
        flight.left -= 1
        for child in self.groups[index].children:
            flight.waits[child] -= 1
            if flight.waits[child] == 0:
                self._arrive(flight, child, at)
        self._retire_if_over(flight, at)

    def _retire_if_over(self, flight: Flight, at: float, dropped: bool = False) -> None:
        stream = self.streams[flight.frame.source]
        over = flight.out == 0 if flight.given_up else flight.left == 0
        if not over or stream.flights.pop(flight.frame.seq, None) is None:
            return
        slot = flight.frame.slot
        if slot in stream.slots:
            stream.free.append(slot)
        else:
            self._orders.append(f.Free(stream.name, slot))
        poison = flight.given_up and not dropped
        seconds = at - flight.at
        self._orders.append(
            f.Completed(flight.frame, flight.parts, flight.skip, poison, seconds, dropped)
        )
        self._finish(stream, at)

    def _poison(self, flight: Flight, at: float) -> None:
        """Give the frame up: whoever has not seen it yet is told of the gap in its place."""
        frame = flight.frame
        stream = self.streams[frame.source]
        stream.poisoned += not flight.given_up
        flight.given_up = True
        notice = Notice(
            source=frame.source,
            kind="gap",
            media_us=flight.before_us,
            first_n=frame.n,
            last_n=frame.n,
            reason="poison",
            count=1,
        )
        for index, job in list(flight.jobs.items()):
            if job.out:
                continue
            del flight.jobs[index]
            if index in stream.lanes:
                job.flight, job.item, job.ready, job.deaths = None, Tell(notice), True, 0
                stream.told += 1
                self._pump(stream, index, at)
            elif not self.groups[index].stateful:  # else its worker is gone for good
                self.crews[index].queue.remove(job)
        self._retire_if_over(flight, at)
