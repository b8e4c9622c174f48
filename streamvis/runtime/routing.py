"""The decisions of the hub: facts in, orders out, without sockets, clocks, threads or processes.

    core = Core(group_stages(pipeline, placement), ["cam1"], window=8)
    orders = core.step(Received("decode-cam1", DecodedFrame(...), at=12.5))

A slot is the credit: a frame holds its slot until every group has answered for it, so the window
bounds memory, queues and latency at once. Frames are dropped before admission, or by a drain.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from streamvis.runtime import checkpoint, protocol
from streamvis.runtime.admission import Admission
from streamvis.runtime.dispatch import waiting
from streamvis.runtime.drain import DrainDeadlines, is_sink, is_stuck, limits_of, nothing_begun
from streamvis.runtime.flow import Flow
from streamvis.runtime.life_cycle import LifeCycle
from streamvis.runtime.plan import Group
from streamvis.runtime.reconnect import Reconnect
from streamvis.runtime.state import (
    Replica,
    Stream,
    WorkerGroup,
    decoder_name,
    describe_group,
    queue_length,
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
from streamvis.runtime.timers import Timers
from streamvis.zone_layout import ZoneLayout


class Core:
    """The state machine of one run, from the first process to the last answer."""

    def __init__(
        self,
        groups: Sequence[Group],
        sources: Sequence[str],
        window: int,
        limits: Limits | None = None,
        resumed: Mapping[str, protocol.SourceCheckpoint] | None = None,
        *,
        reconnect: Mapping[str, Reconnect | None] | None = None,
        labels: Mapping[str, str] | None = None,
        zones: Mapping[str, ZoneLayout | None] | None = None,
        serve: bool = False,
        chance: random.Random | None = None,
    ) -> None:
        """Prepare a run.

        `reconnect`: the sources that are connected again when they are lost. `labels`: where the
        sources come from, for those that are never open. `zones`: their zones and lines, if a stage
        counts in them. `serve`: the run goes on without sources, until it is drained. `chance`
        spreads the attempts to connect.
        """
        self.groups = tuple(groups)
        self.window = window
        self.limits = limits or Limits()
        self.serve = serve
        self.streams = {name: Stream(name, ProcessSlot(decoder_name(name))) for name in sources}
        for name, stream in self.streams.items():
            stream.reconnect = (reconnect or {}).get(name)
            stream.label = (labels or {}).get(name, name)
            stream.zones = (zones or {}).get(name)
        self.worker_groups = [worker_group_of(group) for group in groups]
        self.failed: protocol.FailRun | None = None
        self._deadlines: DrainDeadlines | None = None  # once the run is drained
        self._late = self._over = False  # deadlines that have been enforced
        self._last: ProcessSlot | None = None  # one that is not gone, when last looked for
        self._running: Stream | None = None  # one that is not done, when last looked for
        self._replicas = {r.process.name: (w, r) for w in self.worker_groups for r in w.replicas}
        self._decoders = {stream.process.name: stream for stream in self.streams.values()}
        timed = [s for group in groups for s in group.stages if s.every_s > 0 or s.skip_suspect]
        self._flow = Flow(self.groups, self.worker_groups, self.streams)
        self._sources = LifeCycle(self._flow, self.limits, timed, chance)
        self._admission = Admission(self.worker_groups, window)
        self._timers: Timers[Stream | Replica | WorkerGroup] = Timers(self._due_of)
        self._filling = [workers for workers in self.worker_groups if workers.wait_s]
        self._change_all()
        self._timers.change([*self.streams.values(), *self._flow.changed_workers])
        self._resumed = bool(resumed)
        for name, at in (resumed or {}).items():
            self._flow.states.update(checkpoint.restore(self.streams[name], at))

    @property
    def skipped(self) -> "Counter[str]":
        """How many packets each stage did not run for, by `every_s` or `skip_suspect`."""
        return self._sources.skipped

    @property
    def processes(self) -> list[ProcessSlot]:
        decode = [stream.process for stream in self.streams.values()]
        return decode + [replica.process for _, replica in self._replicas.values()]

    @property
    def finished(self) -> bool:
        if self._last is None or self._last.state == "gone":
            self._last = next((one for one in self.processes if one.state != "gone"), None)
        return self._last is None

    def due(self, now: float = float("-inf")) -> float:
        """Return the time of the next decision that a `Tick` would bring about."""
        due = self._timers.due()
        return due if self._deadlines is None else min(due, self._deadlines.due(now))

    def _due_of(self, item: Stream | Replica | WorkerGroup) -> float:
        """Return the time of the next decision about a source, a worker or a group."""
        match item:
            case Stream():
                return min(self._due_of_process(item.process), self._sources.due(item))
            case Replica():
                due = self._due_of_process(item.process)
                if item.sent and item.process.alive:
                    due = min(due, item.sent[0].at + self._call_timeout_s)
                return due
            case WorkerGroup():
                since = (job.since for job in waiting(item))
                return min(since, default=float("inf")) + item.wait_s

    def _due_of_process(self, process: ProcessSlot) -> float:
        return next_due(process, limits_of(process, self.limits, self._deadlines))

    @property
    def _call_timeout_s(self) -> float:
        limits = self.limits
        return limits.drain_heartbeat_timeout_s if self._late else limits.call_timeout_s

    def queue_length(self, group: int) -> int:
        """Count the frames that the group has yet to answer and whose parents have answered."""
        return queue_length(self.worker_groups[group])

    def step(self, fact: protocol.Fact) -> list[protocol.Order]:
        """Process one fact, and return the orders that follow, to be carried out in sequence."""
        flow, at = self._flow, fact.at
        flow.orders = []
        if self._deadlines is not None:
            self._note_lateness(self._deadlines, at)
        self._handle(fact)
        changed = flow.changed.values()
        if self._deadlines is not None:
            self._enforce_deadlines(self._deadlines, at)
        else:
            for stream in changed:
                self._save(stream)
        for stream in changed:
            self._sources.finish(stream, at)
        self._stop_if_over(at)
        flow.orders += self._admission(changed, flow.changed_workers, at)
        self._timers.change(changed)
        self._timers.change(flow.changed_workers)
        flow.changed.clear()
        flow.changed_workers.clear()
        flow.dispatch(at)
        self._timers.change(flow.changed_workers)
        self._timers.change(self._filling)
        return flow.orders

    def _change_all(self) -> None:
        """Have this step look at all sources and workers."""
        self._flow.changed.update(self.streams)
        self._flow.changed_workers.update((r, workers) for workers, r in self._replicas.values())

    def _stop_if_over(self, at: float) -> None:
        """Stop the workers once all sources have ended; those of a service when it is drained."""
        if self.serve and self._deadlines is None:
            return
        if self._running is None or self._running.done:
            self._running = next((one for one in self.streams.values() if not one.done), None)
        if self._running is not None:
            return
        for workers in self.worker_groups:
            for replica in workers.replicas:
                if not replica.process.retiring:
                    self._flow.changed_workers[replica] = workers
                    self._order(stop(replica.process, at, self.limits.stage_close_s))

    def _save(self, stream: Stream) -> None:
        """Order the checkpoint of a source if it is due; a drain has none: it drops frames."""
        if stream.saving and stream.ending is None:
            taken = checkpoint.take(stream, self._flow.states)
            if taken is not None:
                self._flow.orders.append(protocol.SaveCheckpoint(stream.name, taken))

    def _handle(self, fact: protocol.Fact) -> None:
        flow = self._flow
        match fact:
            case protocol.Received():
                self._note_alive(fact.process, fact.at)
                if stream := self._decoders.get(fact.process):
                    flow.changed[stream.name] = stream
                    self._handle_decode(stream, fact.message, fact.at)
                else:
                    self._handle_worker(*self._replicas[fact.process], fact)
            case protocol.Tick():
                self._tick(fact.at)
            case protocol.Heartbeat():
                self._note_alive(fact.process, fact.at)
            case protocol.SlotsCreated():
                self._use_slots(self._changed(fact.source), fact.slots)
            case protocol.PixelsLost():
                self._change_all()
                flow.lose(self.streams[fact.source], fact.segments)
                if self._deadlines is None:
                    self._sources.lost(self.streams[fact.source], fact.at)
            case protocol.AddSource():
                if self._deadlines is None and (stream := self._sources.add(fact)) is not None:
                    flow.changed[stream.name] = stream
                    self._decoders[stream.process.name] = stream
            case protocol.RemoveSource() if fact.source in self.streams:
                self._sources.remove(self._changed(fact.source), fact.at)
            case protocol.RestartSource() if fact.source in self.streams:
                self._sources.restart(self._changed(fact.source), fact)
            case protocol.SetZones() if fact.source in self.streams:
                self.streams[fact.source].zones = fact.zones
            case protocol.ProcessExited():
                self._process_exited(fact)
            case protocol.Drain():
                self._drain(fact.at)

    def _note_alive(self, process: str, at: float) -> None:
        """Note a message or a heartbeat of a process, which is alive then."""
        self._process(process).heartbeat_at = at
        if (stream := self._decoders.get(process)) and stream.frozen:
            self._flow.changed[stream.name] = stream
            self._sources.heartbeat(stream, at)

    def _changed(self, source: str) -> Stream:
        """Return a source that this step is to look at."""
        stream = self._flow.changed[source] = self.streams[source]
        return stream

    def _handle_decode(self, stream: Stream, message: protocol.FromProcess, at: float) -> None:
        match message:
            case protocol.DecodedFrame():
                draining = self._deadlines is not None
                self._sources.admit(stream, message, at, draining=draining)
            case protocol.Hello(node):
                stream.node = node
                if self._becomes_ready(stream.process, at):
                    self._sources.opening(stream, at)
            case protocol.Opened(info):
                self._sources.opened(stream, info, at)
            case protocol.Waiting(reason):
                self._sources.wait(stream, reason, at)
            case protocol.Silence():
                self._sources.silence(stream, message, at)
            case protocol.Measured(stats):
                self._sources.measured(stream, stats)
            case protocol.ClipSaved():
                self._sources.saved(stream, message, at)
            case protocol.SourceEnded():
                self._sources.ended(stream, message, at)
            case protocol.Refused(error, text):
                ended = protocol.SourceEnded("failed", error=error, message=text)
                self._sources.ended(stream, ended, at)

    def _handle_worker(
        self, workers: WorkerGroup, replica: Replica, fact: protocol.Received
    ) -> None:
        self._flow.changed_workers[replica] = workers
        match fact.message:
            case protocol.Answer() as answer:
                self._flow.answered(workers, replica, answer, fact.blobs, fact.at)
            case protocol.PixelsMissing():
                self._change_all()
                for stream in self._flow.missing(workers, replica, fact.message, fact.at):
                    if self._deadlines is None:
                        self._sources.lost(stream, fact.at)
            case protocol.Hello(node):
                replica.node = node
            case protocol.Ready():
                if self._becomes_ready(replica.process, fact.at):
                    self._flow.wake(workers, replica)
            case protocol.Refused(error, text):
                process = replica.process
                process.retiring, process.state = True, "stopping"
                process.due = fact.at + self.limits.stage_close_s
                self._fail(error, text, fact.at)

    # processes

    def stream_of(self, process: str) -> Stream | None:
        """Return the source of a decode process; None for workers."""
        return self._decoders.get(process)

    def _process(self, name: str) -> ProcessSlot:
        stream = self._decoders.get(name)
        return stream.process if stream else self._replicas[name][1].process

    def _becomes_ready(self, process: ProcessSlot, at: float) -> bool:
        if process.state != "starting":
            return False
        process.state, process.heartbeat_at = "ready", at
        return True

    def _tick(self, at: float) -> None:
        for item in self._timers.take(at):
            match item:
                case Stream():
                    self._flow.changed[item.name] = item
                    self._advance(item.process, at)
                    self._sources.tick(item, at)
                case Replica(process):
                    self._flow.changed_workers[item] = self._replicas[process.name][0]
                    self._advance(process, at)
                    if process.alive and item.busy_s(at) >= self._call_timeout_s:
                        reason = f"one call took {self._call_timeout_s:g} s or more"
                        self._order(kill(process, reason))
                case WorkerGroup():
                    self._flow.wake(item)

    def _advance(self, process: ProcessSlot, at: float) -> None:
        self._order(advance(process, at, limits_of(process, self.limits, self._deadlines)))

    def _order(self, order: protocol.Order | None) -> None:
        if order is not None:
            self._flow.orders.append(order)

    def _fail(self, error: str, message: str, at: float) -> None:
        """Record the first failure and drain the run."""
        if self.failed is None:
            self.failed = protocol.FailRun(error, message)
            self._flow.orders.append(self.failed)
        self._drain(at)

    def _process_exited(self, fact: protocol.ProcessExited) -> None:
        if stream := self._decoders.get(fact.process):
            self._flow.changed[stream.name] = stream
            self._sources.exited(stream, fact.reason, fact.at)
        else:
            self._change_all()
            self._worker_exited(*self._replicas[fact.process], fact)

    def _worker_exited(
        self, workers: WorkerGroup, replica: Replica, fact: protocol.ProcessExited
    ) -> None:
        process = replica.process
        if process.retiring:
            process.state = "gone"
            if fact.reason and not (self._deadlines is not None and workers.group.children):
                reason = f"{describe_group(workers)} failed while closing its stages: {fact.reason}"
                self._fail("RunError", reason, fact.at)
            self._flow.detach(workers, replica, fact.at)
            return
        self._flow.requeue(workers, replica, fact.at)
        if self._deadlines and not self._deadlines.allow_restart(workers.group, fact.at):
            process.state = "gone"
            self._flow.detach(workers, replica, fact.at)
        elif not record_exit(process, fact.at, self.limits, fact.reason):
            reason = f"{describe_group(workers)}: {too_many_exits(fact.reason, self.limits)}"
            self._fail("RunError", reason, fact.at)
            self._flow.detach(workers, replica, fact.at)
        else:
            self._order(advance(process, fact.at, self.limits))
            self._flow.wake(workers)

    def _drain(self, at: float) -> None:
        if self._deadlines is not None:
            return
        self._deadlines = DrainDeadlines(at, self.limits)
        self._change_all()
        for process in self.processes:
            # the shorter timeout counts from here
            process.heartbeat_at = max(process.heartbeat_at, at)
        if not self._resumed and nothing_begun(self.worker_groups):
            for workers in self.worker_groups:
                for replica in workers.replicas:
                    self._kill_for_good(replica.process, at)
        for stream in self.streams.values():
            self._sources.drain(stream, at)

    def _note_lateness(self, deadlines: DrainDeadlines, at: float) -> None:
        """Once the time for work is over, shorter limits hold for all processes and frames."""
        if not self._late and deadlines.late(at):
            self._late = True
            self._change_all()
            self._timers.change(self._flow.changed_workers)

    def _enforce_deadlines(self, deadlines: DrainDeadlines, at: float) -> None:
        """Drop the frames that cannot be completed in time, and kill processes that are late."""
        if self._over:
            pass
        elif deadlines.over(at):
            self._over = True
            self._kill_all(at)
        elif self._late:
            for workers in self.worker_groups:
                if not is_sink(workers.group):
                    self._kill_late(workers, at)
        for stream in self._flow.changed.values():
            for in_flight in list(stream.frames_in_flight.values()):
                if in_flight.out == 0 and (
                    self._late
                    or not in_flight.begun
                    or in_flight.lost  # it will not be decoded again
                    or is_stuck(in_flight, stream, self.worker_groups)
                ):
                    self._flow.drop(stream, in_flight, at)

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
                self._flow.detach(*self._replicas[process.name], at)

    def _use_slots(self, stream: Stream, slots: Sequence[str]) -> None:
        stream.slots = frozenset(slots)
        stream.free = list(slots)
        stream.granted.clear()
