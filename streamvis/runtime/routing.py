"""The hub's decisions: facts in, orders out. No sockets, clocks, threads or processes here.

    core = Core(fold(pipeline, placement), ["cam1"], window=8)
    orders = core.step(Admitted("cam1", shot, at=12.5))

A slot is the credit: a frame holds its slot until every group has answered for it, so the window
bounds memory, queues and latency at once, and frames are dropped before admission only.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from streamvis.messages import Ending, Frame, Notice
from streamvis.runtime import facts as f
from streamvis.runtime.ledger import Batch, Crew, Flight, Job, Lane, Station, Stream
from streamvis.runtime.plan import Group
from streamvis.runtime.seats import Limits, Seat, advance, bury, kill, next_due, stop
from streamvis.runtime.wire import Answer, Begin, End, Item, Missed, Shot, Task, Tell

PREFETCH = 2  # batches with a worker: one at work, one at hand, so that it never starves


class Core:
    """One run, from the first process to the last answer."""

    def __init__(
        self,
        groups: Sequence[Group],
        sources: Sequence[str],
        window: int,
        limits: Limits | None = None,
    ) -> None:
        self.groups = tuple(groups)
        self.window = window
        self.limits = limits or Limits()
        self.streams = {name: Stream(name, Seat(f"decode-{name}")) for name in sources}
        self.crews = [_crew(group) for group in groups]
        self.skipped: Counter[str] = Counter()  # by stage
        self.failed: f.Fail | None = None
        self._stations = {s.seat.name: (c, s) for c in self.crews for s in c.stations}
        self._decoders = {stream.seat.name: stream for stream in self.streams.values()}
        self._waits = [len(group.parents) for group in groups]
        self._timed = [s for group in groups for s in group.stages if s.every_s > 0]
        self._states: dict[tuple[str, str], bytes] = {}  # (stage, source) -> as last answered
        self._orders: list[f.Order] = []
        self._dirty: dict[int, None] = {}  # groups that may have something to send, in order
        self._batches = 0

    @property
    def seats(self) -> list[Seat]:
        decode = [stream.seat for stream in self.streams.values()]
        return decode + [station.seat for crew in self.crews for station in crew.stations]

    @property
    def finished(self) -> bool:
        return self.failed is not None or all(seat.state == "gone" for seat in self.seats)

    def due(self) -> float:
        """When the next `Tick` has something to decide."""
        times = [next_due(seat, self.limits) for seat in self.seats]
        for crew in self.crews:
            if crew.wait_s:
                times += [job.since + crew.wait_s for job in _waiting(crew)]
        return min(times)

    def queued(self, group: int) -> int:
        """Frames that the group has not answered though their parents have."""
        crew = self.crews[group]
        return len(crew.queue) + sum(len(s.queue) + s.load for s in crew.stations)

    def step(self, fact: f.Fact) -> list[f.Order]:
        """Take one fact in; the orders are to be carried out in their order."""
        self._orders, self._dirty = [], {}
        if self.failed is None:
            self._take(fact)
        while self._dirty and self.failed is None:
            index = next(iter(self._dirty))
            del self._dirty[index]
            self._dispatch(self.crews[index], fact.at)
        return self._orders

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
                self._fail(fact.error, fact.message)
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
            for stream in self.streams.values():
                self._grant(stream)

    def _tick(self, at: float) -> None:
        for seat in self.seats:
            self._order(advance(seat, at, self.limits))
        for crew in self.crews:
            for station in crew.stations:
                late = station.sent and at >= station.sent[0].at + self.limits.call_s
                if late and station.seat.alive:
                    self._order(kill(station.seat, f"at one call for {self.limits.call_s:g} s"))
            if crew.wait_s:
                self._dirty[crew.group.index] = None

    def _order(self, order: f.Order | None) -> None:
        if order is not None:
            self._orders.append(order)

    def _fail(self, error: str, message: str) -> None:
        self.failed = f.Fail(error, message)
        self._orders.append(self.failed)

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
            stream.error, stream.message = "RunError", _too_many(fact, self.limits)
            self._close_source(stream, "failed", fact.at)
        elif stream.info is not None and stream.info.live:
            stream.epoch, stream.last_n = stream.info.epoch + 1, -1
            stream.past_errors, stream.errors = stream.past_errors + stream.errors, 0
        self._order(advance(stream.seat, fact.at, self.limits))

    def _worker_died(self, crew: Crew, station: Station, fact: f.Died) -> None:
        seat = station.seat
        if seat.leaving:
            seat.state = "gone"
            if fact.reason:
                self._fail("RunError", f"{_who(crew)} failed while it was closing: {fact.reason}")
            return
        self._take_back(crew, station, fact.at)
        if not bury(seat, fact.at, self.limits):
            self._fail("RunError", f"{_who(crew)}: {_too_many(fact, self.limits)}")
            return
        self._order(advance(seat, fact.at, self.limits))
        self._dirty[crew.group.index] = None

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
            if (flight := job.flight) is not None and (guilty or flight.poison):
                self._poison(flight, at)

    def _drain(self, at: float) -> None:
        for stream in self.streams.values():
            if stream.ending is None:
                stream.open = False
                self._order(stop(stream.seat, at, self.limits.drain_s))
                if stream.seat.state == "gone":
                    self._close_source(stream, "drained", at)

    # sources

    def _opened(self, stream: Stream, fact: f.Opened) -> None:
        if stream.info is None:
            for crew in self.crews:
                if crew.group.stateful:
                    stream.lanes[crew.group.index] = Lane(self._least_sources(crew), deque())
        stream.info, stream.open = fact.info, stream.seat.state == "ready"
        if stream.epoch > 1:
            stream.turns.clear()
            self._notice(stream, "epoch", fact.at)
        self._grant(stream)

    def _least_sources(self, crew: Crew) -> Station:
        index = crew.group.index
        streams = [s for s in self.streams.values() if index in s.lanes and not s.done]
        taken = Counter(id(s.lanes[index].station) for s in streams)
        return min(crew.stations, key=lambda station: taken[id(station)])

    def _slotted(self, stream: Stream, slots: Sequence[str]) -> None:
        stream.slots = frozenset(slots)
        stream.free = list(slots)
        stream.granted.clear()
        self._grant(stream)

    def _grant(self, stream: Stream) -> None:
        room = self.window - len(stream.granted) - len(stream.flights)
        if room <= 0 or not stream.free or not stream.open or stream.ending is not None:
            return
        if stream.info is not None and stream.info.live and not self._staffed():
            return  # what a live source shows now would be old before anyone could look at it
        slots, stream.free = stream.free[:room], stream.free[room:]
        stream.granted.update(slots)
        self._orders.append(f.Grant(stream.name, slots))

    def _staffed(self) -> bool:
        """Whether every root group has a worker that is up."""
        roots = [crew for crew in self.crews if not crew.group.parents]
        return all(any(s.seat.state == "ready" for s in crew.stations) for crew in roots)

    def _admitted(self, stream: Stream, shot: Shot, at: float) -> None:
        if shot.slot not in stream.granted or stream.ending is not None:
            self._order(kill(stream.seat, f"it wrote to slot {shot.slot!r}, which it did not have"))
            return
        self._missed(stream, shot.missed, at)
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
        skip = self._skips(stream, shot.media_us) if self._timed else ()
        flight = Flight(frame, at, stream.last_us, skip, self._waits.copy(), len(self.groups))
        stream.flights[frame.seq] = flight
        stream.admitted += 1
        stream.last_n, stream.last_us, stream.errors = shot.n, shot.media_us, shot.errors
        for index, lane in stream.lanes.items():
            if not self._rests(index, flight):
                flight.jobs[index] = job = Job(stream.name, flight)
                lane.jobs.append(job)
        for group in self.groups:
            if not group.parents:
                self._arrive(flight, group.index, at)

    def _skips(self, stream: Stream, media_us: int) -> tuple[str, ...]:
        """The stages that do not run: they ran already in this interval of media time."""
        skip = []
        for stage in self._timed:
            turn = int(media_us // (stage.every_s * 1e6))
            if stream.turns.get(stage.name) == turn:
                skip.append(stage.name)
            stream.turns[stage.name] = turn
        self.skipped.update(skip)
        return tuple(skip)

    def _rests(self, index: int, flight: Flight) -> bool:
        return bool(flight.skip) and set(self.groups[index].names) <= set(flight.skip)

    def _missed(self, stream: Stream, missed: Iterable[Missed], at: float) -> None:
        for gap in missed:
            if gap.reason != "decode":
                stream.dropped[gap.reason] = stream.dropped.get(gap.reason, 0) + gap.count
            if gap.reason != "drained":
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
        )
        for index in stream.lanes:
            stream.lanes[index].jobs.append(Job(stream.name, item=Tell(notice), ready=True))
            stream.told += 1
            self._pump(stream, index, at)

    def _ended(self, stream: Stream, fact: f.SourceEnded) -> None:
        if stream.ending is not None:
            return
        self._missed(stream, fact.missed, fact.at)
        stream.errors = max(stream.errors, fact.errors)
        if fact.ending == "failed":
            stream.error, stream.message = fact.error, fact.message
        self._order(stop(stream.seat, fact.at, self.limits.drain_s))
        self._close_source(stream, fact.ending, fact.at)

    def _close_source(self, stream: Stream, ending: Ending, at: float) -> None:
        if stream.ending is None:
            stream.ending = ending
        self._finish(stream, at)

    def _finish(self, stream: Stream, at: float) -> None:
        """Tell the stateful groups of the end, one after the other, once all is answered."""
        if stream.done or stream.ending is None or stream.flights or stream.told:
            return
        left = [index for index in stream.lanes if index > stream.finishing]
        if left:
            stream.finishing = left[0]
            stream.told += 1
            job = Job(stream.name, item=End(stream.name, stream.ending), ready=True)
            stream.lanes[left[0]].jobs.append(job)
            self._pump(stream, left[0], at)
            return
        stream.done = True
        self._states = {k: data for k, data in self._states.items() if k[1] != stream.name}
        if all(other.done for other in self.streams.values()):
            for crew in self.crews:
                for station in crew.stations:
                    self._order(stop(station.seat, at, self.limits.close_s))

    # frames

    def _arrive(self, flight: Flight, index: int, at: float) -> None:
        """All parents of the group have answered for the frame."""
        if flight.poison:
            return
        if self._rests(index, flight):
            self._resolve(flight, index, at)
            return
        stream = self.streams[flight.frame.source]
        if index in stream.lanes:
            flight.jobs[index].ready = True
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

    def _dispatch(self, crew: Crew, at: float) -> None:
        if crew.group.stateful:
            for station in crew.stations:
                while self._send(crew, station, station.queue, at):
                    pass
            return
        while crew.queue:
            ready = [s for s in crew.stations if s.seat.state == "ready" and len(s.sent) < PREFETCH]
            if not ready:
                return
            station = min(ready, key=lambda s: s.load)
            if not self._send(crew, station, crew.queue, at):
                return

    def _send(self, crew: Crew, station: Station, queue: deque[Job], at: float) -> bool:
        """Send the next batch, if the worker has room and the batch is worth sending."""
        if not queue or station.seat.state != "ready" or len(station.sent) >= PREFETCH:
            return False
        jobs, packets, full = _next_batch(queue, crew.group.worker.batch)
        if not full and (station.sent or at < jobs[0].since + crew.wait_s):
            return False
        for _ in jobs:
            queue.popleft()
        items: list[Item] = []
        blobs: list[Any] = []
        for job in jobs:
            self._pack(crew.group, station, job, items, blobs)
        self._batches += 1
        station.sent.append(Batch(self._batches, jobs, packets, at))
        station.load += packets
        self._orders.append(f.Send(station.seat.name, self._batches, items, blobs))
        return True

    def _pack(
        self, group: Group, station: Station, job: Job, items: list[Item], blobs: list[Any]
    ) -> None:
        job.out = True
        if group.stateful and job.source not in station.begun:
            station.begun.add(job.source)
            items.append(self._begin(group, job.source))
        if job.item is not None:
            items.append(job.item)
        if (flight := job.flight) is not None:
            flight.out += 1
            parts = [name for name in group.inputs if name in flight.parts]
            blobs += [flight.parts[name] for name in parts]
            skip = [name for name in flight.skip if name in group.names]
            items.append(Task(flight.frame, skip, parts))

    def _begin(self, group: Group, source: str) -> Begin:
        info = self.streams[source].info
        assert info is not None
        keys = [(stage, source) for stage in group.stateful if (stage, source) in self._states]
        return Begin(info, {key[0]: self._states[key] for key in keys})

    def _answered(
        self, crew: Crew, station: Station, answer: Answer, blobs: Sequence[Any], at: float
    ) -> None:
        group = crew.group
        if not station.sent or not _fits(answer, station.sent[0], group, len(blobs)):
            self._order(kill(station.seat, "its answer does not fit what it was asked"))
            return
        batch = station.sent.popleft()
        station.load -= batch.packets
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

    def _retire_if_over(self, flight: Flight, at: float) -> None:
        stream = self.streams[flight.frame.source]
        over = flight.out == 0 if flight.poison else flight.left == 0
        if not over or stream.flights.pop(flight.frame.seq, None) is None:
            return
        slot = flight.frame.slot
        if slot in stream.slots:
            stream.free.append(slot)
        else:
            self._orders.append(f.Free(stream.name, slot))
        self._orders.append(
            f.Completed(flight.frame, flight.parts, flight.skip, flight.poison, at - flight.at)
        )
        self._grant(stream)
        self._finish(stream, at)

    def _poison(self, flight: Flight, at: float) -> None:
        """Give the frame up: whoever has not seen it yet is told of the gap in its place."""
        frame = flight.frame
        stream = self.streams[frame.source]
        stream.poisoned += not flight.poison
        flight.poison = True
        notice = Notice(
            source=frame.source,
            kind="gap",
            media_us=flight.before_us,
            first_n=frame.n,
            last_n=frame.n,
            reason="poison",
        )
        for index, job in list(flight.jobs.items()):
            if job.out:
                continue
            del flight.jobs[index]
            if index in stream.lanes:
                job.flight, job.item, job.ready, job.deaths = None, Tell(notice), True, 0
                stream.told += 1
                self._pump(stream, index, at)
            else:
                self.crews[index].queue.remove(job)
        self._retire_if_over(flight, at)


def _crew(group: Group) -> Crew:
    seats = [Seat(f"{group.name}.{replica}") for replica in range(group.worker.replicas)]
    return Crew(group, [Station(seat, deque(), deque()) for seat in seats], deque())


def _waiting(crew: Crew) -> Iterable[Job]:
    """The heads of queues whose next worker has nothing to do but wait for a fuller batch."""
    for station in crew.stations:
        queue = station.queue if crew.group.stateful else crew.queue
        if queue and not station.sent and station.seat.state == "ready":
            yield queue[0]


def _next_batch(queue: deque[Job], most: int) -> tuple[list[Job], int, bool]:
    """The jobs for one call, how many packets, and whether waiting would add nothing.

    A job that a worker died at goes alone, so that the one to blame is found. Anything but a
    packet is not worth waiting for.
    """
    jobs: list[Job] = []
    packets = 0
    for job in queue:
        if (jobs and job.deaths) or (job.flight is not None and packets == most):
            break
        jobs.append(job)
        packets += job.flight is not None
        if job.deaths:
            return jobs, packets, True
    return jobs, packets, packets == most or packets < len(jobs)


def _fits(answer: Answer, batch: Batch, group: Group, blobs: int) -> bool:
    return (
        answer.id == batch.id
        and len(answer.wrote) == batch.packets
        and sum(map(len, answer.wrote)) == blobs
        and all(name in group.names for names in answer.wrote for name in names)
    )


def _who(crew: Crew) -> str:
    names = crew.group.names
    return f"stage '{names[0]}'" if len(names) == 1 else f"stages {', '.join(map(repr, names))}"


def _too_many(fact: f.Died, limits: Limits) -> str:
    return (
        f"its process died more than {limits.deaths} times in {limits.within_s:g} s, "
        f"the last time: {fact.reason or 'it ended by itself'}"
    )
