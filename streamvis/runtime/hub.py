"""The hub: sockets, processes, shared memory and clocks around the pure core.

One thread receives messages, gives them to the core as facts, and carries out its orders. The
core makes every decision.
"""

import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from signal import SIGHUP
from typing import Any

import msgspec
import zmq

from streamvis import logs
from streamvis.config import Pipeline, pipeline_zones
from streamvis.errors import RunError
from streamvis.events.log import FILE_NAME, fold
from streamvis.runtime import protocol, supervision
from streamvis.runtime.control import SourcePicture, View
from streamvis.runtime.control_socket import Control
from streamvis.runtime.engine import Engine, Process
from streamvis.runtime.metrics import STATUS_S, Meter, Status
from streamvis.runtime.opened import writer_of
from streamvis.runtime.plan import Group
from streamvis.runtime.processes import BEAT_SUFFIX, why_refused
from streamvis.runtime.recordings import RecordingRoom
from streamvis.runtime.routing import Core
from streamvis.runtime.state import Stream
from streamvis.sources.spec import Hwaccel, SourceSpec
from streamvis.stages.protocol import LogPosition
from streamvis.transport.sockets import Server

TICK_S = 0.5  # at most, between two ticks of the core
DELIVERY_MS = 50  # at most, from the exit of a process to the arrival of its last message
ONE_SIGNAL_S = 0.1  # the same signal again within this time is the same request
REMEMBERED = 64  # dead processes whose late messages do not count as refused
MESSAGES_AT_ONCE = 256  # between two checks of processes and signals


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of a run that its processes receive."""

    pipeline: Pipeline
    sources: Mapping[str, SourceSpec]
    build: str  # "module:function"
    opener: str
    out: str | None
    epoch: str
    logged: Mapping[str, LogPosition]  # by source: the end of the event log of a resumed run
    threads: Mapping[str, int]  # of the numeric libraries, by group
    hwaccel: Hwaccel = "none"  # that decodes sources without a setting of their own
    give_up_s: float | None = None  # of sources that are added
    live: bool = False  # one of the sources may be live


class Hub:
    """Runs a core until it is finished."""

    def __init__(
        self,
        core: Core,
        program: Program,
        meter: Meter,
        endpoint: str,
        engine: Engine[Any],
        on_status: Callable[[Status], None] | None = None,
        save: Callable[[str, protocol.SourceCheckpoint], None] | None = None,
        control: Control | None = None,
    ) -> None:
        self.signals: list[int] = []  # that have asked the run to end, in order
        self._signalled_at = 0.0
        self._core = core
        self._program = program
        self._meter = meter
        self._engine = engine
        self._on_status = on_status
        self._save = save
        self._control = control
        self._status = meter.status(core, meter.start)
        self._tick_due = self._status_due = 0.0
        self._asked = False  # a request may have come
        self._specs = dict(program.sources)
        self._note_opened = writer_of(program.out)
        self._zones = pipeline_zones(program.pipeline)
        self._groups = {r.process.name: w.group for w in core.worker_groups for r in w.replicas}
        self._facts: deque[protocol.Fact] = deque()
        self._children: dict[str, Process] = {}  # by process slot
        self._peers: dict[bytes, str] = {}  # identity of a living process -> its slot
        self._incarnations = 0
        self._gone: deque[bytes] = deque(maxlen=REMEMBERED)  # identities of dead processes: late
        # messages are known
        self._fds: dict[int, Process] = {}  # by the descriptors that say something of them
        self._room = RecordingRoom(Path(program.out)) if program.out is not None else None
        self._server = Server(endpoint)
        engine.listen(self._server)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # of the processes, of which there are many: a poll takes longer with each of its items
        self._seldom = select.epoll()
        self._seldom.register(self._wake, select.EPOLLIN)
        if engine.wake is not None:
            self._seldom.register(engine.wake, select.EPOLLIN)
        self._poller = zmq.Poller()
        self._poller.register(self._seldom.fileno(), zmq.POLLIN)
        self._poller.register(self._server.socket, zmq.POLLIN)
        if control is not None:
            self._poller.register(control.socket, zmq.POLLIN)

    @property
    def refused(self) -> int:
        """The number of messages that no process of this run has sent, and that are no requests."""
        return self._server.refused + (self._control.refused if self._control is not None else 0)

    def interrupt(self, signal: int) -> None:
        """Drain the run at the first signal, and end it at once at the second; signal-safe.

        In a run with a sources file, SIGHUP has the file read again. Otherwise it never counts as
        the second: a terminal that is closed may send several, and with systemd one may follow a
        SIGTERM. Nor does a signal that comes twice within ONE_SIGNAL_S:
        `timeout` sends its own to the process and to its group.
        """
        if signal == SIGHUP and self._control is not None and self._control.follows_file:
            self._control.ask_reload()
            os.eventfd_write(self._wake, 1)
            return
        at = time.monotonic()
        repeated = signal in self.signals[-1:] and at < self._signalled_at + ONE_SIGNAL_S
        self._signalled_at = at
        if repeated:
            return
        self.signals.append(signal)
        os.eventfd_write(self._wake, 1)

    @property
    def ended_early(self) -> bool:
        """Whether a second signal has ended the run before it was finished."""
        asked = sum(number != SIGHUP for number in self.signals)
        return asked > 1 and not self._core.finished

    def run(self) -> None:
        """Run until the core is finished, or until the second signal."""
        drained = False
        while not self._core.finished and not self.ended_early:
            at = time.monotonic()
            if at >= self._tick_due:
                self._tick_due = at + TICK_S
                self._feed(protocol.Tick(at))
                self._asked = True
            if self.signals and not drained:
                drained = True
                self._feed(protocol.Drain(at))
            self._report(at)
            if self._asked:
                self._asked = False
                self._carry_out_requests()
            if not self._core.finished:
                self._wait()

    def close(self) -> None:
        """End every process, close every segment and every socket."""
        for child in list(self._children.values()):
            self._end_process(child)
        if self._program.out is not None:
            fold(Path(self._program.out) / FILE_NAME)  # of a publisher that was killed
        if self._room is not None:
            self._room.close()
        self._server.close()
        os.close(self._wake)
        self._seldom.close()

    def _wait(self) -> None:
        now = time.monotonic()
        self._tick_due = min(self._core.due(now), self._tick_due)
        due_ms = round((self._tick_due - now) * 1000 + 0.5)
        ready = [item for item, _ in self._poller.poll(max(0, due_ms))]
        self._receive()
        if self._seldom.fileno() in ready:
            self._look_at_processes()
        if self._control is not None and self._control.socket in ready:
            self._asked = True

    def _look_at_processes(self) -> None:
        """Handle what processes have printed, their ends, and signals."""
        ready = [(fd, self._fds.get(fd)) for fd, _ in self._seldom.poll(0)]
        for fd, child in ready:
            if fd == self._wake:
                os.eventfd_read(self._wake)
                self._asked = True
            elif fd == self._engine.wake:
                for source, segments in self._engine.take_lost():
                    self._feed(protocol.PixelsLost(source, segments, time.monotonic()))
            elif child is None or self._fds.get(fd) is not child:  # it has ended meanwhile, and
                continue  # the descriptor may be that of another process
            elif fd == child.exit:
                self._exited(child)
            elif (text := child.read()) is not None:
                _print(text)
            else:
                self._forget(fd)

    def _report(self, at: float) -> None:
        if at < self._status_due:
            return
        self._status_due = at + STATUS_S
        for stream in self._core.streams.values():
            self._engine.tidy(stream)
        if self._room is not None:
            self._room.tick(at, self._specs)
        if self._on_status is None and self._control is None:
            return
        pids = {name: each.pid for name, each in self._children.items() if each.pid is not None}
        self._status = self._meter.status(self._core, at, self.refused, pids)
        if self._on_status is not None:
            self._on_status(self._status)

    # requests

    def _carry_out_requests(self) -> None:
        if self._control is None:
            return
        for decision in self._control.decisions(self._view):
            self._specs.update(decision.specs)
            for fact in decision.facts:
                self._feed(fact)
            if decision.picture_of is not None:
                decoder = self._core.streams[decision.picture_of].process.name
                self._send(decoder, protocol.TakePicture(decision.pictures))

    def _view(self) -> View:
        streams = self._core.streams.values()
        ended = {s.name: str(s.ending) for s in streams if s.done and s.process.state == "gone"}
        return View(
            at=time.monotonic(),
            status=self._status,
            specs=self._specs,
            ended=ended,
            leaving={s.name for s in streams if s.ending or s.leaving} - ended.keys(),
            online={
                s.name
                for s in streams
                if s.state == "online" and not s.ending and s.process.name in self._children
            },
            draining=bool(self.signals),
            give_up_s=self._program.give_up_s,
            zones=self._zones,
        )

    # facts

    def _receive(self) -> None:
        for peer, frames in islice(self._server.receive(), MESSAGES_AT_ONCE):
            if (process := self._peers.get(peer)) is not None:
                self._handle(process, frames)
                continue
            sender = peer.removesuffix(BEAT_SUFFIX)
            if (process := self._peers.get(sender)) is not None:
                self._feed(protocol.Heartbeat(process, time.monotonic()))
            else:
                self._server.refused += sender not in self._gone
                self._meter.late_messages += sender in self._gone

    def _handle(self, process: str, frames: list[bytes]) -> None:
        try:
            message = protocol.decode_from_process(frames[0])
        except (msgspec.DecodeError, RecursionError):
            self._server.refused += 1
            return
        if stream := self._core.stream_of(process):
            self._handle_decode(stream, message)
        else:
            self._handle_worker(process, message, frames[1:])

    def _handle_worker(
        self, process: str, message: protocol.FromProcess, blobs: list[bytes]
    ) -> None:
        match message:
            case protocol.Answer():
                self._meter.add_answer(message)
                self._feed(protocol.Received(process, message, time.monotonic(), blobs))
            case protocol.ClientsRefused(counts):
                self._meter.refused_clients.update(counts)
            case protocol.Gauges(sources):
                self._meter.gauges.update(sources)
            case protocol.Hello():
                self._feed(protocol.Received(process, message, time.monotonic()))
                self._send(process, self._setup(self._groups[process]))
            case protocol.PixelsReceived():
                self._meter.add_pixels(process, message)
            case protocol.PixelsMissing() | protocol.Ready() | protocol.Refused():
                self._feed(protocol.Received(process, message, time.monotonic()))
            case _:
                self._server.refused += 1

    def _handle_decode(self, stream: Stream, message: protocol.FromProcess) -> None:
        fact = protocol.Received(stream.process.name, message, time.monotonic())
        match message:
            case protocol.SizeChanged(width, height):
                self._fit(stream, width, height)
            case protocol.SlotsMade(slots):
                if self._engine.made(stream, message, self._children[stream.process.name]):
                    self._feed(protocol.SlotsCreated(stream.name, slots, time.monotonic()))
                else:
                    self._server.refused += 1
            case protocol.Opened(info) if info.id == stream.name:
                self._feed(fact)
                self._fit(stream, info.width, info.height)
            case (
                protocol.Opened()
                | protocol.Answer()
                | protocol.Ready()
                | protocol.PixelsMissing()
                | protocol.PixelsReceived()
                | protocol.ClientsRefused()
                | protocol.Gauges()
            ):
                self._server.refused += 1
            case protocol.PictureTaken():
                if self._control is not None:
                    self._control.answer_picture(_sent_picture(stream, message))
            case _:
                self._feed(fact)

    def _fit(self, stream: Stream, width: int, height: int) -> None:
        try:
            name = stream.process.name
            send = partial(self._send, name)
            slots = self._engine.fit(stream, width, height, self._children[name], send)
        except RunError as error:
            # the others go on
            ended = protocol.SourceEnded("failed", error=type(error).__name__, message=str(error))
            self._feed(protocol.Received(stream.process.name, ended, time.monotonic()))
            return
        if slots is not None:
            self._feed(protocol.SlotsCreated(stream.name, slots, time.monotonic()))

    def _exited(self, child: Process) -> None:
        # messages that it sent before its exit may still be in ZeroMQ's queues
        self._server.socket.poll(DELIVERY_MS)
        self._receive()
        if child.name in self._children and self._children[child.name] is child:
            self._end_process(child)
            if reason := child.reason():
                logs.log("warning", "process died", process=child.name, reason=reason)
            self._feed(protocol.ProcessExited(child.name, reason, time.monotonic()))
            self._asked = True  # a source may follow that waited for it

    # orders

    def _feed(self, fact: protocol.Fact) -> None:
        """Give the fact to the core and carry out its orders, which may bring about more facts."""
        self._facts.append(fact)
        while self._facts:
            for order in self._core.step(self._facts.popleft()):
                self._carry_out(order)

    def _carry_out(self, order: protocol.Order) -> None:
        match order:
            case protocol.SendWork(process, batch, items, blobs):
                self._send(process, protocol.Work(batch, items), blobs)
            case protocol.FrameCompleted():
                self._meter.add_frame(order, time.monotonic())
            case protocol.SaveCheckpoint(source, checkpoint):
                if self._save is not None:
                    self._save(source, checkpoint)
            case protocol.GrantSlots(source, slots):
                credit = protocol.SlotGrant(slots, self._engine.size(source))
                self._send(self._core.streams[source].process.name, credit)
            case protocol.FreeSlot(source, _):
                self._engine.tidy(self._core.streams[source])
            case supervision.StartProcess(process):
                self._start(process)
            case protocol.OpenSource(source, epoch, after_n, last_us, zero_s):
                spec, opener = self._specs[source], self._program.opener
                self._note_opened(spec, epoch)
                spec = msgspec.structs.replace(
                    spec,
                    hwaccel=spec.hwaccel or self._program.hwaccel,
                    record_to=self._program.out or "",
                )
                process = self._core.streams[source].process.name
                self._send(process, protocol.Open(spec, opener, epoch, after_n, last_us, zero_s))
            case protocol.SendClip(source, clip):
                process = self._core.streams[source].process.name
                if process in self._children:
                    self._send(process, clip)
            case protocol.LogEntry(event, fields, level):
                logs.log(level, event, **fields)
            case protocol.ResumeWorker(process):
                self._send(process, protocol.Resume())
            case supervision.StopProcess(process):
                self._send(process, protocol.Stop())
            case supervision.KillProcess(process, reason):
                if reason:
                    logs.log("warning", "process killed", process=process, reason=reason)
                self._end_process(self._children[process])
                self._facts.append(protocol.ProcessExited(process, reason, time.monotonic()))

    def _send(
        self, process: str, message: protocol.ToProcess, blobs: list[bytes] | None = None
    ) -> None:
        # a process that is gone is noticed by its exit
        self._server.send(
            self._children[process].identity, [protocol.encode(message), *(blobs or ())]
        )

    def _setup(self, group: Group) -> protocol.Setup:
        return protocol.Setup(
            pipeline=self._program.pipeline,
            stages=list(group.names),
            build=self._program.build,
            device=self._engine.device(group.worker.device),
            fallback=group.worker.fallback,
            out=self._program.out,
            epoch=self._program.epoch,
            logged=dict(self._program.logged),
            live=self._program.live,
        )

    # processes

    def _start(self, process: str) -> None:
        self._incarnations += 1
        group = self._groups.get(process)
        threads = self._program.threads[group.name] if group is not None else 1
        try:
            child = self._engine.start(process, self._incarnations, group, threads)
        except OSError as error:  # as a death: it is tried again after a pause
            reason = f"it cannot be started: {why_refused(error)}"
            logs.log("warning", "process died", process=process, reason=reason)
            self._facts.append(protocol.ProcessExited(process, reason, time.monotonic()))
            return
        self._children[process] = child
        self._peers[child.identity] = process
        for fd in child.fds:
            self._fds[fd] = child
            self._seldom.register(fd, select.EPOLLIN)

    def _end_process(self, child: Process) -> None:
        """Kill the process if it runs, and wait until it is gone."""
        for fd in child.fds:
            self._forget(fd)
        del self._children[child.name], self._peers[child.identity]
        self._gone.append(child.identity)
        _print(child.end())
        self._engine.ended(child)

    def _forget(self, fd: int) -> None:
        if self._fds.pop(fd, None) is not None:
            self._seldom.unregister(fd)


def _print(text: str) -> None:
    """Print the output of a process on stderr, where our own log goes."""
    if text:
        with suppress(OSError):  # the terminal may have been closed
            sys.stderr.write(text)
            sys.stderr.flush()


def _sent_picture(stream: Stream, taken: protocol.PictureTaken) -> SourcePicture:
    """Return a picture for those who asked for it; its frame was admitted just before."""
    return SourcePicture(
        source=stream.name,
        jpeg=taken.jpeg,
        stream_epoch=stream.epoch,
        n=taken.n,
        media_us=taken.media_us,
        capture_us=taken.capture_us,
        width=taken.width,
        height=taken.height,
    )
