"""The decisions of the hub: facts in, orders out, without sockets, clocks, threads or processes.

    core = Core(group_stages(pipeline, placement), ["cam1"], window=8)
    orders = core.step(Received("decode-cam1", DecodedFrame(...), at=12.5))

A slot is the credit: a frame holds its slot until every group has answered for it, so the window
bounds memory, queues and latency at once. Frames are dropped before admission, or by a drain.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from streamvis.messages import Ending, Notice, SourceInfo
from streamvis.runtime import checkpoint, protocol
from streamvis.runtime.admission import Admission
from streamvis.runtime.dispatch import Dispatch, fits, waiting
from streamvis.runtime.drain import (
    DrainDeadlines,
    is_sink,
    is_stuck,
    limits_of,
    remove_jobs,
)
from streamvis.runtime.gaps import Gap, notice_of
from streamvis.runtime.plan import Group
from streamvis.runtime.state import (
    InFlightFrame,
    Job,
    OrderedQueue,
    Replica,
    Stream,
    WorkerGroup,
    decoder_name,
    describe_group,
    frame_of,
    queue_length,
    replica_with_fewest_sources,
    skips_frame,
    stages_to_skip,
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


class Core:
    """The state machine of one run, from the first process to the last answer."""

    def __init__(
        self,
        groups: Sequence[Group],
        sources: Sequence[str],
        window: int,
        limits: Limits | None = None,
        resumed: Mapping[str, protocol.SourceCheckpoint] | None = None,
    ) -> None:
        self.groups = tuple(groups)
        self.window = window
        self.limits = limits or Limits()
        self.streams = {name: Stream(name, ProcessSlot(decoder_name(name))) for name in sources}
        self.worker_groups = [worker_group_of(group) for group in groups]
        self.skipped: Counter[str] = Counter()  # by stage
        self.failed: protocol.FailRun | None = None
        self._deadlines: DrainDeadlines | None = None  # once the run is drained
        self._replicas = {r.process.name: (w, r) for w in self.worker_groups for r in w.replicas}
        self._decoders = {stream.process.name: stream for stream in self.streams.values()}
        self._waits = [len(group.parents) for group in groups]
        self._timed = [s for group in groups for s in group.stages if s.every_s > 0]
        self._dispatch = Dispatch(self.streams)
        self._admission = Admission(self.worker_groups, self.streams, window)
        self._states = self._dispatch.states
        self._orders: list[protocol.Order] = []
        self._to_dispatch: dict[int, None] = {}  # groups that may have something to send, in order
        for name, at in (resumed or {}).items():
            self._states.update(checkpoint.restore(self.streams[name], at))

    @property
    def processes(self) -> list[ProcessSlot]:
        decode = [stream.process for stream in self.streams.values()]
        return decode + [replica.process for _, replica in self._replicas.values()]

    @property
    def finished(self) -> bool:
        return all(process.state == "gone" for process in self.processes)

    def due(self, now: float = float("-inf")) -> float:
        """Return the time of the next decision that a `Tick` would bring about."""
        limits, deadlines = self.limits, self._deadlines
        times = [next_due(p, limits_of(p, limits, deadlines)) for p in self.processes]
        times += [stream.gaps.due_s() for stream in self.streams.values() if stream.live]
        if deadlines is not None:
            times.append(deadlines.due(now))
        for workers in self.worker_groups:
            if workers.wait_s:
                times += [job.since + workers.wait_s for job in waiting(workers)]
        return min(times)

    def queue_length(self, group: int) -> int:
        """Count the frames that the group has yet to answer and whose parents have answered."""
        return queue_length(self.worker_groups[group])

    def step(self, fact: protocol.Fact) -> list[protocol.Order]:
        """Process one fact, and return the orders that follow, to be carried out in sequence."""
        self._orders, self._to_dispatch = [], {}
        self._handle(fact)
        if self._deadlines is not None:
            self._enforce_deadlines(self._deadlines, fact.at)
        else:
            self._save()
        self._orders += self._admission(fact.at)
        while self._to_dispatch:
            index = next(iter(self._to_dispatch))
            del self._to_dispatch[index]
            self._orders += self._dispatch(self.worker_groups[index], fact.at)
        return self._orders

    def _save(self) -> None:
        """Order the checkpoints that are due; a drain has none, since it drops frames."""
        for stream in self.streams.values():
            if stream.saving and stream.ending is None:
                taken = checkpoint.take(stream, self._states)
                if taken is not None:
                    self._orders.append(protocol.SaveCheckpoint(stream.name, taken))

    def _handle(self, fact: protocol.Fact) -> None:
        match fact:
            case protocol.Received() if stream := self._decoders.get(fact.process):
                self._handle_decode(stream, fact.message, fact.at)
            case protocol.Received():
                self._handle_worker(*self._replicas[fact.process], fact)
            case protocol.Tick():
                self._tick(fact.at)
            case protocol.Heartbeat():
                self._process(fact.process).heartbeat_at = fact.at
            case protocol.SlotsCreated():
                self._use_slots(self.streams[fact.source], fact.slots)
            case protocol.ProcessExited():
                self._process_exited(fact)
            case protocol.ShellFailed():
                self._fail(fact.error, fact.message, fact.at)
            case protocol.Drain():
                self._drain(fact.at)

    def _handle_decode(self, stream: Stream, message: protocol.FromProcess, at: float) -> None:
        match message:
            case protocol.DecodedFrame():
                self._admit(stream, message, at)
            case protocol.Hello():
                if self._becomes_ready(stream.process, at):
                    self._orders.append(
                        protocol.OpenSource(stream.name, stream.epoch, stream.last_n)
                    )
            case protocol.Opened(info):
                self._opened(stream, info, at)
            case protocol.SourceEnded():
                self._source_ended(stream, message, at)
            case protocol.Refused(error, text):
                self._source_ended(
                    stream, protocol.SourceEnded("failed", error=error, message=text), at
                )

    def _handle_worker(
        self, workers: WorkerGroup, replica: Replica, fact: protocol.Received
    ) -> None:
        match fact.message:
            case protocol.Answer() as answer:
                self._answered(workers, replica, answer, fact.blobs, fact.at)
            case protocol.Ready():
                if self._becomes_ready(replica.process, fact.at):
                    self._to_dispatch[workers.group.index] = None
            case protocol.Refused(error, text):
                process = replica.process
                process.retiring, process.state = True, "stopping"
                process.due = fact.at + self.limits.stage_close_s
                self._fail(error, text, fact.at)

    # processes

    def _process(self, name: str) -> ProcessSlot:
        stream = self._decoders.get(name)
        return stream.process if stream else self._replicas[name][1].process

    def _becomes_ready(self, process: ProcessSlot, at: float) -> bool:
        if process.state != "starting":
            return False
        process.state, process.heartbeat_at = "ready", at
        return True

    def _tick(self, at: float) -> None:
        for process in self.processes:
            self._order(advance(process, at, limits_of(process, self.limits, self._deadlines)))
        late = self._deadlines is not None and self._deadlines.late(at)
        limits = self.limits
        call_timeout_s = limits.drain_heartbeat_timeout_s if late else limits.call_timeout_s
        for workers in self.worker_groups:
            for replica in workers.replicas:
                if replica.process.alive and replica.busy_s(at) >= call_timeout_s:
                    reason = f"one call took {call_timeout_s:g} s or more"
                    self._order(kill(replica.process, reason))
            if workers.wait_s:
                self._to_dispatch[workers.group.index] = None
        for stream in self.streams.values():
            if stream.live:
                self._notify_gaps(stream, stream.gaps.take(at), at)

    def _order(self, order: protocol.Order | None) -> None:
        if order is not None:
            self._orders.append(order)

    def _fail(self, error: str, message: str, at: float) -> None:
        """Record the first failure and drain the run."""
        if self.failed is None:
            self.failed = protocol.FailRun(error, message)
            self._orders.append(self.failed)
        self._drain(at)

    def _process_exited(self, fact: protocol.ProcessExited) -> None:
        if stream := self._decoders.get(fact.process):
            self._decode_exited(stream, fact)
        else:
            self._worker_exited(*self._replicas[fact.process], fact)

    def _decode_exited(self, stream: Stream, fact: protocol.ProcessExited) -> None:
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

    def _worker_exited(
        self, workers: WorkerGroup, replica: Replica, fact: protocol.ProcessExited
    ) -> None:
        process = replica.process
        if process.retiring:
            process.state = "gone"
            if fact.reason and not (self._deadlines is not None and workers.group.children):
                reason = f"{describe_group(workers)} failed while closing its stages: {fact.reason}"
                self._fail("RunError", reason, fact.at)
            self._detach(workers, replica, fact.at)
            return
        self._requeue(workers, replica, fact.at)
        if self._deadlines and not self._deadlines.allow_restart(workers.group, fact.at):
            process.state = "gone"
            self._detach(workers, replica, fact.at)
        elif not record_exit(process, fact.at, self.limits):
            reason = f"{describe_group(workers)}: {too_many_exits(fact.reason, self.limits)}"
            self._fail("RunError", reason, fact.at)
            self._detach(workers, replica, fact.at)
        else:
            self._order(advance(process, fact.at, self.limits))
            self._to_dispatch[workers.group.index] = None

    def _detach(self, workers: WorkerGroup, replica: Replica, at: float) -> None:
        """Detach a process without successor: sources of a stateful group continue without it."""
        self._requeue(workers, replica, at)
        index = workers.group.index
        self._to_dispatch[index] = None  # another replica may take over its jobs
        for stream in self.streams.values():
            queue = stream.queues.get(index)
            if queue is None or queue.replica is not replica:
                continue
            jobs = [
                *queue.jobs,
                *(job for job in replica.queue if job.source == stream.name),
            ]
            stream.open_notices -= sum(job.in_flight is None for job in jobs)
            del stream.queues[index]
            self._finish_source(stream, at)
        if workers.group.stateful:
            replica.queue.clear()

    def _requeue(self, workers: WorkerGroup, replica: Replica, at: float) -> None:
        """Queue the jobs of a process that died again, in order.

        A frame that was alone in its batch when two workers died is given up as the cause.
        """
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
            is_cause = suspects == [job] and job.deaths >= 2
            if (in_flight := job.in_flight) is not None and (is_cause or in_flight.given_up):
                self._poison(in_flight, at)

    def _drain(self, at: float) -> None:
        if self._deadlines is not None:
            return
        self._deadlines = DrainDeadlines(at, self.limits)
        for process in self.processes:
            # the shorter timeout counts from here
            process.heartbeat_at = max(process.heartbeat_at, at)
        for stream in self.streams.values():
            if stream.ending is None:
                stream.open = False
                self._order(stop(stream.process, at, self.limits.decode_stop_s))
                if stream.process.state == "gone":
                    self._close_source(stream, "drained", at)

    def _enforce_deadlines(self, deadlines: DrainDeadlines, at: float) -> None:
        """Drop the frames that cannot be completed in time, and kill processes that are late."""
        late = deadlines.late(at)
        if deadlines.over(at):
            self._kill_all(at)
        elif late:
            for workers in self.worker_groups:
                if not is_sink(workers.group):
                    self._kill_late(workers, at)
        for stream in self.streams.values():
            for in_flight in list(stream.frames_in_flight.values()):
                if in_flight.out == 0 and (
                    late or not in_flight.begun or is_stuck(in_flight, stream, self.worker_groups)
                ):
                    self._drop(stream, in_flight, at)

    def _kill_late(self, workers: WorkerGroup, at: float) -> None:
        """Kill the replicas that are still at work, or that the end of a source would wait for."""
        for replica in workers.replicas:
            absent = replica.process.state in ("waiting", "starting") and workers.group.stateful
            if replica.sent or absent:
                self._kill_for_good(replica.process, at)

    def _kill_all(self, at: float) -> None:
        sinks = [workers for workers in self.worker_groups if is_sink(workers.group)]
        left = [w for w in sinks if any(r.process.state != "gone" for r in w.replicas)]
        unfinished = not all(stream.done for stream in self.streams.values())
        if left and unfinished and self.failed is None:
            within = f"within {self.limits.drain_end_s:g} s after the drain began"
            reason = f"{describe_group(left[0])} did not end {within}; its output is incomplete"
            self._fail("RunError", reason, at)
        for process in self.processes:
            self._kill_for_good(process, at)

    def _kill_for_good(self, process: ProcessSlot, at: float) -> None:
        """Kill a process and do not restart it."""
        process.retiring = True
        if process.alive:
            self._order(kill(process, ""))
        elif process.state == "waiting":
            process.state = "gone"
            if process.name in self._replicas:
                self._detach(*self._replicas[process.name], at)

    def _drop(self, stream: Stream, in_flight: InFlightFrame, at: float) -> None:
        """Give up a frame that no worker has; it counts as dropped, not as admitted."""
        frame = in_flight.frame
        in_flight.given_up = True
        stream.admitted -= 1
        if stream.ending == "eof":
            stream.ending = "drained"
        self._count(stream, Gap("drained", 1, frame.n, frame.n))
        for index in remove_jobs(in_flight, stream, self.worker_groups):
            self._queue_ready(stream, index, at)
        self._complete_if_over(in_flight, at, dropped=True)

    # sources

    def _opened(self, stream: Stream, info: SourceInfo, at: float) -> None:
        if not stream.queues:
            for workers in self.worker_groups:
                if workers.group.stateful:
                    replica = replica_with_fewest_sources(workers, self.streams.values())
                    stream.queues[workers.group.index] = OrderedQueue(replica, deque())
        stream.info, stream.open = info, stream.process.state == "ready"
        if stream.epoch != stream.known_epoch:
            stream.known_epoch = stream.epoch
            stream.turns.clear()
            self._notify_gaps(stream, stream.gaps.take_all(), at)
            notice = Notice(source=stream.name, kind="epoch", media_us=stream.last_us)
            self._notify(stream, notice, at)

    def _use_slots(self, stream: Stream, slots: Sequence[str]) -> None:
        stream.slots = frozenset(slots)
        stream.free = list(slots)
        stream.granted.clear()

    def _admit(self, stream: Stream, decoded: protocol.DecodedFrame, at: float) -> None:
        if decoded.slot not in stream.granted or stream.ending is not None:
            reason = f"it wrote to slot {decoded.slot!r}, which it was not granted"
            self._order(kill(stream.process, reason))
            return
        for gap in decoded.gaps:
            self._count(stream, gap)
        if self._deadlines is not None:  # it was written before the decode process was stopped
            stream.granted.remove(decoded.slot)
            stream.errors = decoded.errors
            self._count(stream, Gap("drained", 1, decoded.n, decoded.n))
            return
        # a live source counts by arrival; a file by media time, so that every run is the same
        now_s = at if stream.live else decoded.media_us / 1e6
        self._notify_gaps(stream, stream.gaps.take(now_s), at)
        frame = frame_of(stream, decoded)
        stream.granted.remove(decoded.slot)
        self.skipped.update(skip := stages_to_skip(stream, self._timed, decoded.media_us))
        in_flight = InFlightFrame(
            frame, at, stream.last_us, skip, self._waits.copy(), len(self.groups)
        )
        stream.frames_in_flight[frame.seq] = in_flight
        stream.admitted += 1
        stream.last_n, stream.last_us, stream.errors = decoded.n, decoded.media_us, decoded.errors
        checkpoint.schedule(stream, at, self.limits)
        for index, queue in stream.queues.items():
            if not skips_frame(self.groups[index], in_flight):
                in_flight.jobs[index] = job = Job(stream.name, in_flight)
                queue.jobs.append(job)
        for group in self.groups:
            if not group.parents:
                self._queue_frame(in_flight, group.index, at)

    def _count(self, stream: Stream, gap: Gap) -> None:
        if gap.reason != "decode":
            stream.dropped[gap.reason] = stream.dropped.get(gap.reason, 0) + gap.count
        stream.gaps.add(gap)

    def _notify_gaps(self, stream: Stream, gaps: Sequence[Gap], at: float) -> None:
        for gap in gaps:
            self._notify(stream, notice_of(gap, stream.name, stream.last_us), at)

    def _notify(self, stream: Stream, notice: Notice, at: float) -> None:
        for index, queue in stream.queues.items():
            queue.jobs.append(Job(stream.name, item=protocol.NoticeItem(notice), ready=True))
            stream.open_notices += 1
            self._queue_ready(stream, index, at)

    def _source_ended(self, stream: Stream, ended: protocol.SourceEnded, at: float) -> None:
        if stream.ending is not None:
            return
        for gap in ended.gaps:
            self._count(stream, gap)
        stream.errors = max(stream.errors, ended.errors)
        if ended.ending == "failed":
            stream.error, stream.message = ended.error, ended.message
        self._order(stop(stream.process, at, self.limits.decode_stop_s))
        self._close_source(stream, ended.ending, at)

    def _close_source(self, stream: Stream, ending: Ending, at: float) -> None:
        if stream.ending is None:
            cut = ending == "eof" and stream.dropped.get("drained", 0) > 0
            stream.ending = "drained" if cut else ending
        self._finish_source(stream, at)

    def _finish_source(self, stream: Stream, at: float) -> None:
        """Send the end of the source to all stateful groups, once every frame is answered."""
        if stream.done or stream.frames_in_flight or stream.ending is None:
            return
        if not stream.finishing:
            stream.finishing = True
            if stream.ending == "eof" and not stream.open_notices:
                state = checkpoint.state_of(stream, self._states)
                self._orders.append(protocol.SaveCheckpoint(stream.name, state))
            self._notify_gaps(stream, stream.gaps.take_all(), at)
            for index, queue in stream.queues.items():
                item = protocol.EndItem(stream.name, stream.ending)
                queue.jobs.append(Job(stream.name, item=item, ready=True))
                stream.open_notices += 1
                self._queue_ready(stream, index, at)
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

    def _queue_frame(self, in_flight: InFlightFrame, index: int, at: float) -> None:
        """Queue the frame for a group whose parents have all answered."""
        if in_flight.given_up:
            return
        if skips_frame(self.groups[index], in_flight):
            self._count_group(in_flight, index, at)
            return
        stream = self.streams[in_flight.frame.source]
        if self.groups[index].stateful:
            in_flight.jobs[index].ready = True
            if index in stream.queues:
                self._queue_ready(stream, index, at)
            return
        in_flight.jobs[index] = job = Job(in_flight.frame.source, in_flight, ready=True, since=at)
        self.worker_groups[index].queue.append(job)
        self._to_dispatch[index] = None

    def _queue_ready(self, stream: Stream, index: int, at: float) -> None:
        queue = stream.queues[index]
        while queue.jobs and queue.jobs[0].ready:
            job = queue.jobs.popleft()
            job.since = at
            queue.replica.queue.append(job)
        self._to_dispatch[index] = None

    def _answered(
        self,
        workers: WorkerGroup,
        replica: Replica,
        answer: protocol.Answer,
        blobs: Sequence[Any],
        at: float,
    ) -> None:
        group = workers.group
        if not replica.sent or not fits(answer, replica.sent[0], group, len(blobs)):
            self._order(kill(replica.process, "its answer does not match its batch"))
            return
        batch = replica.sent.popleft()
        replica.load -= batch.packets
        workers.add_batch(batch.packets, at - batch.at)
        if replica.sent:
            replica.sent[0].at = at
        for state in answer.states:
            self._states[state.stage, state.source] = state.data
        self._to_dispatch[group.index] = None
        parts = iter(blobs)
        wrote = iter(answer.wrote)
        for job in batch.jobs:
            if (in_flight := job.in_flight) is not None:
                in_flight.out -= 1
                in_flight.parts.update(zip(next(wrote), parts, strict=False))
                in_flight.jobs.pop(group.index, None)
                self._count_group(in_flight, group.index, at)
            else:
                stream = self.streams[job.source]
                stream.open_notices -= 1
                self._finish_source(stream, at)

    def _count_group(self, in_flight: InFlightFrame, index: int, at: float) -> None:
        """Count the group as finished with the frame, and queue the frame for its children."""
        in_flight.left -= 1
        for child in self.groups[index].children:
            in_flight.waits[child] -= 1
            if in_flight.waits[child] == 0:
                self._queue_frame(in_flight, child, at)
        self._complete_if_over(in_flight, at)

    def _complete_if_over(self, in_flight: InFlightFrame, at: float, dropped: bool = False) -> None:
        stream = self.streams[in_flight.frame.source]
        over = in_flight.out == 0 if in_flight.given_up else in_flight.left == 0
        if not over or stream.frames_in_flight.pop(in_flight.frame.seq, None) is None:
            return
        slot = in_flight.frame.slot
        if slot in stream.slots:
            stream.free.append(slot)
        else:
            self._orders.append(protocol.FreeSlot(stream.name, slot))
        poison = in_flight.given_up and not dropped
        frame, parts, skip = in_flight.frame, in_flight.parts, in_flight.skip
        completed = protocol.FrameCompleted(frame, parts, skip, poison, at - in_flight.at, dropped)
        self._orders.append(completed)
        self._finish_source(stream, at)

    def _poison(self, in_flight: InFlightFrame, at: float) -> None:
        """Give up a frame that kills workers; groups without it get a notice in its place."""
        frame = in_flight.frame
        stream = self.streams[frame.source]
        stream.poisoned += not in_flight.given_up
        in_flight.given_up = True
        gap = Gap("poison", 1, frame.n, frame.n)
        item = protocol.NoticeItem(notice_of(gap, frame.source, in_flight.before_us))
        for index, job in list(in_flight.jobs.items()):
            if job.out:
                continue
            del in_flight.jobs[index]
            if index in stream.queues:
                job.in_flight, job.item, job.ready, job.deaths = None, item, True, 0
                stream.open_notices += 1
                self._queue_ready(stream, index, at)
            elif not self.groups[index].stateful:  # otherwise its worker has no successor
                self.worker_groups[index].queue.remove(job)
        self._complete_if_over(in_flight, at)
