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
from streamvis.runtime.checkpoint import SourceCheckpoint, plan, restore, saved, take
from streamvis.runtime.dispatch import Dispatch, fits, waiting
from streamvis.runtime.drain import (
    DrainDeadlines,
    has_no_worker,
    is_sink,
    limits_of,
    remove_jobs,
    still_awaits,
)
from streamvis.runtime.plan import Group
from streamvis.runtime.state import (
    InFlightFrame,
    Job,
    OrderedQueue,
    Replica,
    Stream,
    WorkerGroup,
    describe_group,
    queue_length,
    skipped,
    skips_frame,
    too_many_exits,
    worker_group_of,
)
from streamvis.runtime.supervision import (
    Limits,
    ProcessSlot,
    advance,
    kill,
    next_due,
    record_exit,
    stop,
)
from streamvis.runtime.wire import Answer, DecodedFrame, EndItem, Gap, NoticeItem


class Core:
    """One run, from the first process to the last answer."""

    def __init__(
        self,
        groups: Sequence[Group],
        sources: Sequence[str],
        window: int,
        limits: Limits | None = None,
        resumed: Mapping[str, SourceCheckpoint] | None = None,
    ) -> None:
        self.groups = tuple(groups)
        self.window = window
        self.limits = limits or Limits()
        self.streams = {name: Stream(name, ProcessSlot(f"decode-{name}")) for name in sources}
        self.worker_groups = [worker_group_of(group) for group in groups]
        self.skipped: Counter[str] = Counter()  # by stage
        self.failed: f.Fail | None = None
        self._deadlines: DrainDeadlines | None = None  # once the run is drained
        self._replicas = {s.process.name: (c, s) for c in self.worker_groups for s in c.replicas}
        self._decoders = {stream.process.name: stream for stream in self.streams.values()}
        self._waits = [len(group.parents) for group in groups]
        self._timed = [s for group in groups for s in group.stages if s.every_s > 0]
        self._dispatch = Dispatch(self.streams)
        self._admission = Admission(self.worker_groups, self.streams, window)
        self._states = self._dispatch.states
        self._orders: list[f.Order] = []
        self._dirty: dict[int, None] = {}  # groups that may have something to send, in order
        for name, at in (resumed or {}).items():
            self._states.update(restore(self.streams[name], at))

    @property
    def processes(self) -> list[ProcessSlot]:
        decode = [stream.process for stream in self.streams.values()]
        return decode + [replica.process for _, replica in self._replicas.values()]

    @property
    def finished(self) -> bool:
        return all(process.state == "gone" for process in self.processes)

    def due(self, now: float = float("-inf")) -> float:
        """When the next `Tick` has something to decide."""
        times = [
            next_due(process, limits_of(process, self.limits, self._deadlines))
            for process in self.processes
        ]
        times += [stream.gaps.due_s() for stream in self.streams.values() if stream.live]
        if self._deadlines is not None:
            times.append(self._deadlines.due(now))
        for workers in self.worker_groups:
            if workers.wait_s:
                times += [job.since + workers.wait_s for job in waiting(workers)]
        return min(times)

    def queue_length(self, group: int) -> int:
        """Frames that the group has not answered though their parents have."""
        return queue_length(self.worker_groups[group])

    def step(self, fact: f.Fact) -> list[f.Order]:
        """Take one fact in; the orders are to be carried out in their order."""
        self._orders, self._dirty = [], {}
        self._take(fact)
        if self._deadlines is not None:
            self._enforce_deadlines(self._deadlines, fact.at)
        else:
            self._save()
        self._orders += self._admission(fact.at)
        while self._dirty:
            index = next(iter(self._dirty))
            del self._dirty[index]
            self._orders += self._dispatch(self.worker_groups[index], fact.at)
        return self._orders

    def _save(self) -> None:
        """The checkpoints that are due; in a drain there is none, since frames are dropped."""
        for stream in self.streams.values():
            if stream.saving and stream.ending is None and (kept := take(stream, self._states)):
                self._orders.append(f.Checkpoint(stream.name, kept))

    def _take(self, fact: f.Fact) -> None:
        match fact:
            case f.Answered():
                self._answered(*self._replicas[fact.process], fact.answer, fact.blobs, fact.at)
            case f.Admitted():
                self._admitted(self.streams[fact.source], fact.decoded, fact.at)
            case f.Tick():
                self._tick(fact.at)
            case f.Heartbeat():
                self._process(fact.process).heartbeat_at = fact.at
            case f.Joined():
                self._joined(fact.process, fact.at)
            case f.Opened():
                self._opened(self.streams[fact.source], fact)
            case f.SlotsCreated():
                self._slotted(self.streams[fact.source], fact.slots)
            case f.SourceEnded():
                self._ended(self.streams[fact.source], fact)
            case f.Refused():
                self._refused(fact)
            case f.ProcessExited():
                self._died(fact)
            case f.Drain():
                self._drain(fact.at)

    # processes

    def _process(self, name: str) -> ProcessSlot:
        stream = self._decoders.get(name)
        return stream.process if stream else self._replicas[name][1].process

    def _joined(self, name: str, at: float) -> None:
        process = self._process(name)
        if process.state != "starting":
            return
        process.state, process.heartbeat_at = "ready", at
        if stream := self._decoders.get(name):
            self._orders.append(f.OpenSource(stream.name, stream.epoch, stream.last_n))
        else:
            self._dirty[self._replicas[name][0].group.index] = None

    def _tick(self, at: float) -> None:
        for process in self.processes:
            self._order(advance(process, at, limits_of(process, self.limits, self._deadlines)))
        late = self._deadlines is not None and self._deadlines.late(at)
        call_timeout_s = (
            self.limits.drain_heartbeat_timeout_s if late else self.limits.call_timeout_s
        )
        for workers in self.worker_groups:
            for replica in workers.replicas:
                if (
                    replica.sent
                    and at >= replica.sent[0].at + call_timeout_s
                    and replica.process.alive
                ):
                    self._order(kill(replica.process, f"at one call for {call_timeout_s:g} s"))
            if workers.wait_s:
                self._dirty[workers.group.index] = None
        for stream in self.streams.values():
            if stream.live:
                self._notify_gaps(stream, stream.gaps.take(at), at)

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
        if fact.process in self._replicas:
            process = self._replicas[fact.process][1].process
            process.retiring, process.state, process.due = (
                True,
                "stopping",
                fact.at + self.limits.stage_close_s,
            )
        self._fail(fact.error, fact.message, fact.at)

    def _died(self, fact: f.ProcessExited) -> None:
        if stream := self._decoders.get(fact.process):
            self._decode_died(stream, fact)
        else:
            self._worker_died(*self._replicas[fact.process], fact)

    def _decode_died(self, stream: Stream, fact: f.ProcessExited) -> None:
        stream.free += sorted(stream.granted)
        stream.granted.clear()
        stream.open = False
        if stream.process.retiring:
            stream.process.state = "gone"
            self._close_source(stream, "drained", fact.at)
        elif not record_exit(stream.process, fact.at, self.limits):
            stream.error = "RunError"
            stream.message = too_many_exits(fact.reason, self.limits)
            self._close_source(stream, "failed", fact.at)
        elif stream.info is not None and stream.live:
            stream.epoch, stream.last_n = stream.info.epoch + 1, -1
            stream.past_errors, stream.errors = stream.past_errors + stream.errors, 0
        self._order(advance(stream.process, fact.at, self.limits))

    def _worker_died(self, workers: WorkerGroup, replica: Replica, fact: f.ProcessExited) -> None:
        process = replica.process
        if process.retiring:
            process.state = "gone"
            if fact.reason and not (self._deadlines is not None and workers.group.children):
                reason = f"{describe_group(workers)} failed while it was closing: {fact.reason}"
                self._fail("RunError", reason, fact.at)
            self._abandon(workers, replica, fact.at)
            return
        self._take_back(workers, replica, fact.at)
        if self._deadlines is not None and not self._worth_a_restart(workers, fact.at):
            process.state = "gone"
            self._abandon(workers, replica, fact.at)
        elif not record_exit(process, fact.at, self.limits):
            reason = f"{describe_group(workers)}: {too_many_exits(fact.reason, self.limits)}"
            self._fail("RunError", reason, fact.at)
            self._abandon(workers, replica, fact.at)
        else:
            self._order(advance(process, fact.at, self.limits))
            self._dirty[workers.group.index] = None

    def _worth_a_restart(self, workers: WorkerGroup, at: float) -> bool:
        """In a drain: sinks always; others that keep state, while there is time for work."""
        assert self._deadlines is not None
        group = workers.group
        return is_sink(group) or (bool(group.stateful) and not self._deadlines.late(at))

    def _abandon(self, workers: WorkerGroup, replica: Replica, at: float) -> None:
        """The process is gone for good: sources of a stateful group go on without it."""
        self._take_back(workers, replica, at)
        index = workers.group.index
        self._dirty[index] = None  # another replica may go on with what it had
        for stream in self.streams.values():
            ordered_queue = stream.ordered_queues.get(index)
            if ordered_queue is None or ordered_queue.replica is not replica:
                continue
            jobs = [
                *ordered_queue.jobs,
                *(job for job in replica.queue if job.source == stream.name),
            ]
            stream.open_notices -= sum(job.in_flight is None for job in jobs)
            del stream.ordered_queues[index]
            self._finish(stream, at)
        if workers.group.stateful:
            replica.queue.clear()

    def _take_back(self, workers: WorkerGroup, replica: Replica, at: float) -> None:
        """Queue the outstanding jobs again, in order, after finding out whom to suspect."""
        batches = list(replica.sent)
        replica.sent.clear()
        replica.begun.clear()
        replica.load = 0
        jobs = [job for batch in batches for job in batch.jobs]
        for job in jobs:
            job.out = False
            if job.in_flight is not None:
                job.in_flight.out -= 1
        suspects = [job for job in batches[0].jobs if job.in_flight is not None] if batches else []
        for job in suspects:
            job.deaths += 1
        queue = replica.queue if workers.group.stateful else workers.queue
        queue.extendleft(reversed(jobs))
        for job in jobs:
            guilty = suspects == [job] and job.deaths >= 2
            if (in_flight := job.in_flight) is not None and (guilty or in_flight.given_up):
                self._poison(in_flight, at)

    def _drain(self, at: float) -> None:
        if self._deadlines is not None:
            return
        self._deadlines = DrainDeadlines(at, self.limits)
        for process in self.processes:
            process.heartbeat_at = max(process.heartbeat_at, at)  # silence counts from now on
        for stream in self.streams.values():
            if stream.ending is None:
                stream.open = False
                self._order(stop(stream.process, at, self.limits.decode_stop_s))
                if stream.process.state == "gone":
                    self._close_source(stream, "drained", at)

    def _enforce_deadlines(self, deadlines: DrainDeadlines, at: float) -> None:
        """Drop what will not be done in time, and end what is too late."""
        late = deadlines.late(at)
        if deadlines.over(at):
            self._end_all(at)
        elif late:
            for workers in self.worker_groups:
                if not is_sink(workers.group):
                    self._end_late(workers, at)
        for stream in self.streams.values():
            for in_flight in list(stream.frames_in_flight.values()):
                if in_flight.out == 0 and (
                    late or not in_flight.begun or self._stuck(stream, in_flight)
                ):
                    self._drop(stream, in_flight, at)

    def _stuck(self, stream: Stream, in_flight: InFlightFrame) -> bool:
        return any(
            has_no_worker(workers, stream) and still_awaits(in_flight, workers.group)
            for workers in self.worker_groups
        )

    def _end_late(self, workers: WorkerGroup, at: float) -> None:
        """Kill what still works, and what the end of a source would have to wait for."""
        for replica in workers.replicas:
            absent = replica.process.state in ("waiting", "starting") and workers.group.stateful
            if replica.sent or absent:
                self._end(replica.process, at)

    def _end_all(self, at: float) -> None:
        sinks = [workers for workers in self.worker_groups if is_sink(workers.group)]
        left = [c for c in sinks if any(s.process.state != "gone" for s in c.replicas)]
        unfinished = not all(stream.done for stream in self.streams.values())
        if left and unfinished and self.failed is None:
            self._fail(
                "RunError",
                f"{describe_group(left[0])} did not end within {self.limits.drain_end_s:g} s after "
                "the drain began; its output is incomplete",
                at,
            )
        for process in self.processes:
            self._end(process, at)

    def _end(self, process: ProcessSlot, at: float) -> None:
        """End a process for good, without asking it."""
        process.retiring = True
        if process.alive:
            self._order(kill(process, ""))
        elif process.state == "waiting":
            process.state = "gone"
            if process.name in self._replicas:
                self._abandon(*self._replicas[process.name], at)

    def _drop(self, stream: Stream, in_flight: InFlightFrame, at: float) -> None:
        """Give a frame up that no worker has: it counts as dropped, not as admitted."""
        frame = in_flight.frame
        in_flight.given_up = True
        stream.admitted -= 1
        if stream.ending == "eof":
            stream.ending = "drained"
        self._count(stream, Gap("drained", 1, frame.n, frame.n))
        for index in remove_jobs(in_flight, stream, self.worker_groups):
            self._pump(stream, index, at)
        self._retire_if_over(in_flight, at, dropped=True)

    # sources

    def _opened(self, stream: Stream, fact: f.Opened) -> None:
        if not stream.ordered_queues:
            for workers in self.worker_groups:
                if workers.group.stateful:
                    stream.ordered_queues[workers.group.index] = OrderedQueue(
                        self._least_sources(workers), deque()
                    )
        stream.info, stream.open = fact.info, stream.process.state == "ready"
        if stream.epoch != stream.known_epoch:
            stream.known_epoch = stream.epoch
            stream.turns.clear()
            self._notify_gaps(stream, stream.gaps.take_all(), fact.at)
            self._notice(stream, "epoch", fact.at)

    def _least_sources(self, workers: WorkerGroup) -> Replica:
        index = workers.group.index
        streams = [s for s in self.streams.values() if index in s.ordered_queues and not s.done]
        taken = Counter(id(s.ordered_queues[index].replica) for s in streams)
        return min(workers.replicas, key=lambda replica: taken[id(replica)])

    def _slotted(self, stream: Stream, slots: Sequence[str]) -> None:
        stream.slots = frozenset(slots)
        stream.free = list(slots)
        stream.granted.clear()

    def _admitted(self, stream: Stream, decoded: DecodedFrame, at: float) -> None:
        if decoded.slot not in stream.granted or stream.ending is not None:
            self._order(
                kill(stream.process, f"it wrote to slot {decoded.slot!r}, which it did not have")
            )
            return
        for gap in decoded.gaps:
            self._count(stream, gap)
        if self._deadlines is not None:  # it was written before the decode process heard of the end
            stream.granted.remove(decoded.slot)
            stream.errors = decoded.errors
            self._count(stream, Gap("drained", 1, decoded.n, decoded.n))
            return
        # by arrival if it is live, by media time in files: there two runs must not differ
        now_s = at if stream.live else decoded.media_us / 1e6
        self._notify_gaps(stream, stream.gaps.take(now_s), at)
        wall_us = stream.info.wall_us(decoded.media_us) if stream.info else 0
        frame = Frame(
            source=stream.name,
            seq=stream.admitted,
            n=decoded.n,
            media_us=decoded.media_us,
            width=decoded.width,
            height=decoded.height,
            slot=decoded.slot,
            epoch=stream.epoch,
            capture_us=decoded.capture_us or wall_us,
            clock=decoded.clock,
        )
        stream.granted.remove(decoded.slot)
        self.skipped.update(skip := skipped(stream, self._timed, decoded.media_us))
        in_flight = InFlightFrame(
            frame, at, stream.last_us, skip, self._waits.copy(), len(self.groups)
        )
        stream.frames_in_flight[frame.seq] = in_flight
        stream.admitted += 1
        stream.last_n, stream.last_us, stream.errors = decoded.n, decoded.media_us, decoded.errors
        plan(stream, at, self.limits)
        for index, ordered_queue in stream.ordered_queues.items():
            if not skips_frame(self.groups[index], in_flight):
                in_flight.jobs[index] = job = Job(stream.name, in_flight)
                ordered_queue.jobs.append(job)
        for group in self.groups:
            if not group.parents:
                self._arrive(in_flight, group.index, at)

    def _count(self, stream: Stream, gap: Gap) -> None:
        if gap.reason != "decode":
            stream.dropped[gap.reason] = stream.dropped.get(gap.reason, 0) + gap.count
        stream.gaps.add(gap)

    def _notify_gaps(self, stream: Stream, gaps: Sequence[Gap], at: float) -> None:
        for gap in gaps:
            self._notice(stream, "gap", at, gap)

    def _notice(
        self,
        stream: Stream,
        kind: Literal["gap", "epoch"],
        at: float,
        gap: Gap | None = None,
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
        for index in stream.ordered_queues:
            stream.ordered_queues[index].jobs.append(
                Job(stream.name, item=NoticeItem(notice), ready=True)
            )
            stream.open_notices += 1
            self._pump(stream, index, at)

    def _ended(self, stream: Stream, fact: f.SourceEnded) -> None:
        if stream.ending is not None:
            return
        for gap in fact.gaps:
            self._count(stream, gap)
        stream.errors = max(stream.errors, fact.errors)
        if fact.ending == "failed":
            stream.error, stream.message = fact.error, fact.message
        self._order(stop(stream.process, fact.at, self.limits.decode_stop_s))
        self._close_source(stream, fact.ending, fact.at)

    def _close_source(self, stream: Stream, ending: Ending, at: float) -> None:
        if stream.ending is None:
            cut = ending == "eof" and stream.dropped.get("drained", 0) > 0
            stream.ending = "drained" if cut else ending
        self._finish(stream, at)

    def _finish(self, stream: Stream, at: float) -> None:
        """Tell the stateful groups of the end once all is answered: none waits for another."""
        if stream.done or stream.frames_in_flight:
            return
        if stream.ending is None:
            return
        if not stream.finishing:
            stream.finishing = True
            if stream.ending == "eof" and not stream.open_notices:
                self._orders.append(f.Checkpoint(stream.name, saved(stream, self._states)))
            self._notify_gaps(stream, stream.gaps.take_all(), at)
            for index, ordered_queue in stream.ordered_queues.items():
                ordered_queue.jobs.append(
                    Job(stream.name, item=EndItem(stream.name, stream.ending), ready=True)
                )
                stream.open_notices += 1
                self._pump(stream, index, at)
        if stream.open_notices:
            return
        stream.done = True
        for key in [key for key in self._states if key[1] == stream.name]:
            del self._states[key]
        if all(other.done for other in self.streams.values()):
            for workers in self.worker_groups:
                for replica in workers.replicas:
                    self._order(stop(replica.process, at, self.limits.stage_close_s))

    # frames

    def _arrive(self, in_flight: InFlightFrame, index: int, at: float) -> None:
        """All parents of the group have answered for the frame."""
        if in_flight.given_up:
            return
        if skips_frame(self.groups[index], in_flight):
            self._resolve(in_flight, index, at)
            return
        stream = self.streams[in_flight.frame.source]
        if self.groups[index].stateful:
            in_flight.jobs[index].ready = True
            if index in stream.ordered_queues:
                self._pump(stream, index, at)
            return
        in_flight.jobs[index] = job = Job(in_flight.frame.source, in_flight, ready=True, since=at)
        self.worker_groups[index].queue.append(job)
        self._dirty[index] = None

    def _pump(self, stream: Stream, index: int, at: float) -> None:
        ordered_queue = stream.ordered_queues[index]
        while ordered_queue.jobs and ordered_queue.jobs[0].ready:
            job = ordered_queue.jobs.popleft()
            job.since = at
            ordered_queue.replica.queue.append(job)
        self._dirty[index] = None

    def _answered(
        self,
        workers: WorkerGroup,
        replica: Replica,
        answer: Answer,
        blobs: Sequence[Any],
        at: float,
    ) -> None:
        group = workers.group
        if not replica.sent or not fits(answer, replica.sent[0], group, len(blobs)):
            self._order(kill(replica.process, "its answer does not fit what it was asked"))
            return
        batch = replica.sent.popleft()
        replica.load -= batch.packets
        workers.worked(batch.packets, at - batch.at)
        if replica.sent:
            replica.sent[0].at = at
        for state in answer.states:
            self._states[state.stage, state.source] = state.data
        self._dirty[group.index] = None
        parts = iter(blobs)
        wrote = iter(answer.wrote)
        for job in batch.jobs:
            if (in_flight := job.in_flight) is not None:
                in_flight.out -= 1
                in_flight.parts.update(zip(next(wrote), parts, strict=False))
                in_flight.jobs.pop(group.index, None)
                self._resolve(in_flight, group.index, at)
            else:
                stream = self.streams[job.source]
                stream.open_notices -= 1
                self._finish(stream, at)

    def _resolve(self, in_flight: InFlightFrame, index: int, at: float) -> None:
        """The group is done with the frame: its children may be next."""
        in_flight.left -= 1
        for child in self.groups[index].children:
            in_flight.waits[child] -= 1
            if in_flight.waits[child] == 0:
                self._arrive(in_flight, child, at)
        self._retire_if_over(in_flight, at)

    def _retire_if_over(self, in_flight: InFlightFrame, at: float, dropped: bool = False) -> None:
        stream = self.streams[in_flight.frame.source]
        over = in_flight.out == 0 if in_flight.given_up else in_flight.left == 0
        if not over or stream.frames_in_flight.pop(in_flight.frame.seq, None) is None:
            return
        slot = in_flight.frame.slot
        if slot in stream.slots:
            stream.free.append(slot)
        else:
            self._orders.append(f.FreeSlot(stream.name, slot))
        poison = in_flight.given_up and not dropped
        seconds = at - in_flight.at
        self._orders.append(
            f.Completed(in_flight.frame, in_flight.parts, in_flight.skip, poison, seconds, dropped)
        )
        self._finish(stream, at)

    def _poison(self, in_flight: InFlightFrame, at: float) -> None:
        """Give the frame up: whoever has not seen it yet is told of the gap in its place."""
        frame = in_flight.frame
        stream = self.streams[frame.source]
        stream.poisoned += not in_flight.given_up
        in_flight.given_up = True
        notice = Notice(
            source=frame.source,
            kind="gap",
            media_us=in_flight.before_us,
            first_n=frame.n,
            last_n=frame.n,
            reason="poison",
            count=1,
        )
        for index, job in list(in_flight.jobs.items()):
            if job.out:
                continue
            del in_flight.jobs[index]
            if index in stream.ordered_queues:
                job.in_flight, job.item, job.ready, job.deaths = None, NoticeItem(notice), True, 0
                stream.open_notices += 1
                self._pump(stream, index, at)
            elif not self.groups[index].stateful:  # else its worker is gone for good
                self.worker_groups[index].queue.remove(job)
        self._retire_if_over(in_flight, at)
