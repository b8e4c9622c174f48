"""The inline engine: the whole run in one process and one thread, driven by the same core.

It serves tests, evaluation and debugging. Stages get the same packets as in workers.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from streamvis.config import Pipeline
from streamvis.errors import SourceError, StreamvisError
from streamvis.messages import Array, Ending, Frame, Packet
from streamvis.runtime import protocol, supervision
from streamvis.runtime.errors import ending_of, failure
from streamvis.runtime.gaps import GapCounter
from streamvis.runtime.host import Build, Host, build_stages
from streamvis.runtime.metrics import STATUS_S, Meter, Status, Summary, write_summary
from streamvis.runtime.output import OnUsed
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.resume import RunStart, claimed
from streamvis.runtime.routing import Core
from streamvis.runtime.state import decoder_name
from streamvis.sources import open_source as open_any
from streamvis.sources.picture import Picture, Source
from streamvis.sources.spec import SourceSpec
from streamvis.stages.protocol import Site

Opener = Callable[[SourceSpec, int], Source]
OnPacket = Callable[[Packet], None]


def run(
    pipeline: Pipeline,
    sources: Sequence[SourceSpec],
    *,
    build: Build,
    open_source: Opener = open_any,
    out: Path | None = None,
    on_used: OnUsed = "refuse",
    on_packet: OnPacket | None = None,
    on_status: Callable[[Status], None] | None = None,
) -> Summary:
    """Run to the end of all sources; `on_packet` gets each frame with all parts, in seq order.

    `on_used` and `on_status` as in `launch.run`. Exceptions of stages pass through unchanged.
    Raises SourceError when every source failed.
    """
    with claimed(out, pipeline, sources, on_used) as start:
        if start.finished is not None:
            return start.finished
        core, meter = _run(pipeline, sources, build, open_source, out, start, on_packet, on_status)
        summary = meter.summary(core, time.monotonic())
        summary = msgspec.structs.replace(summary, pipeline=pipeline.hash, epoch=start.epoch)
        if out is not None:
            write_summary(summary, out)
        if (error := failure(core)) is not None:
            raise error
        return summary


def _run(
    pipeline: Pipeline,
    sources: Sequence[SourceSpec],
    build: Build,
    open_source: Opener,
    out: Path | None,
    start: RunStart,
    on_packet: OnPacket | None,
    on_status: Callable[[Status], None] | None,
) -> tuple[Core, Meter]:
    pictures: dict[str, Array] = {}

    def pixels(frame: Frame) -> Array:
        return pictures[frame.slot]

    site = Site(
        device="cpu",
        pixels=pixels,
        out=out,
        epoch=start.epoch,
        logged=start.logged,
        pipeline=pipeline.hash,
    )
    with ExitStack() as stack:
        stages = build_stages(pipeline, [stage.name for stage in pipeline.stages], site, build)
        hosts = {f"{name}.0": Host(pipeline, {name: stage}) for name, stage in stages.items()}
        for host in hosts.values():
            stack.callback(host.close)
        reader = Reader(sources, open_source, pictures)
        stack.callback(reader.close)
        groups = group_stages(pipeline, one_stage_per_worker(pipeline))
        core = Core(groups, [s.id for s in sources], window=1, resumed=start.sources)
        meter = Meter(time.monotonic())
        meter.findings.update(start.findings)
        deliver = InOrder(pipeline, on_packet, core)
        Loop(core, hosts, reader, meter, deliver, start.save, on_status).run()
    return core, meter


class Loop:
    """Carries out the orders of the core at once, and gives it the resulting facts."""

    def __init__(
        self,
        core: Core,
        hosts: dict[str, Host],
        reader: "Reader",
        meter: Meter,
        deliver: "InOrder",
        save: Callable[[str, protocol.SourceCheckpoint], None] | None,
        on_status: Callable[[Status], None] | None,
    ) -> None:
        self._core = core
        self._hosts = hosts
        self._reader = reader
        self._meter = meter
        self._deliver = deliver
        self._save = save
        self._on_status = on_status
        self._status_due = 0.0
        self._facts: deque[protocol.Fact] = deque()

    def run(self) -> None:
        self._facts.append(protocol.Tick(time.monotonic()))
        while not self._core.finished:
            fact = self._facts.popleft() if self._facts else self._reader.next_fact()
            for order in self._core.step(fact):
                self._facts += self._carry_out(order)
            self._report()

    def _report(self) -> None:
        at = time.monotonic()
        if self._on_status is not None and at >= self._status_due:
            self._status_due = at + STATUS_S
            self._on_status(self._meter.status(self._core, at))

    def _carry_out(self, order: protocol.Order) -> Iterator[protocol.Fact]:
        at = time.monotonic()
        match order:
            case supervision.StartProcess(process):
                message = protocol.Ready() if process in self._hosts else protocol.Hello()
                yield protocol.Received(process, message, at)
            case supervision.StopProcess(process) | supervision.KillProcess(process, _):
                yield protocol.ProcessExited(process, "", at)
            case protocol.OpenSource(source, epoch, after_n):
                yield from self._reader.open(source, epoch, after_n)
            case protocol.SaveCheckpoint(source, checkpoint):
                if self._save is not None:
                    self._save(source, checkpoint)
            case protocol.GrantSlots(source, slots):
                self._reader.slots[source] += slots
            case protocol.SendWork(process, batch, items, blobs):
                answer, parts = self._hosts[process](batch, items, blobs)
                self._meter.add_times(answer.times)
                self._meter.findings.update(answer.findings)
                yield protocol.Received(process, answer, time.monotonic(), parts)
            case protocol.FrameCompleted():
                self._reader.release(order.frame.slot)
                self._meter.add_frame(order, at)
                self._deliver(order)


class Reader:
    """The open sources, read in turn as far as they have slots."""

    def __init__(
        self, specs: Sequence[SourceSpec], opener: Opener, pictures: dict[str, Array]
    ) -> None:
        self.slots: dict[str, list[str]] = {spec.id: [] for spec in specs}
        self._specs = {spec.id: spec for spec in specs}
        self._opener = opener
        self._pictures = pictures
        self._open: dict[str, tuple[Source, Iterator[Picture], GapCounter]] = {}

    def open(self, name: str, epoch: int, after_n: int) -> Iterator[protocol.Fact]:
        try:
            source = self._opener(self._specs[name], epoch)
        except StreamvisError as error:
            yield self._fact(name, protocol.Refused(type(error).__name__, str(error)))
            return
        self._open[name] = (source, _after(source, after_n), GapCounter(after_n + 1))
        yield self._fact(name, protocol.Opened(source.info))
        yield protocol.SlotsCreated(name, [f"{name}:0"], time.monotonic())

    def next_fact(self) -> protocol.Fact:
        """Read the next picture of the source whose turn it is, or its end."""
        name = next(name for name in self._open if self.slots[name])
        source, pictures, counter = self._open.pop(name)
        self._open[name] = (source, pictures, counter)  # the last in line now
        try:
            picture = next(pictures, None)
        except SourceError as error:
            return self._end(name, "failed", str(error), type(error).__name__)
        if picture is None:
            return self._end(name, *ending_of(source))
        counter.note(picture)
        slot = self.slots[name].pop()
        view = picture.pixels.view()
        view.flags.writeable = False
        self._pictures[slot] = view
        decoded = protocol.DecodedFrame(
            slot=slot,
            n=picture.n,
            media_us=picture.media_us,
            capture_us=picture.capture_us,
            clock=picture.clock,
            width=view.shape[1],
            height=view.shape[0],
            errors=source.errors,
            gaps=counter.take(),
        )
        return self._fact(name, decoded)

    def release(self, slot: str) -> None:
        del self._pictures[slot]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1][0].close()

    def _end(
        self, name: str, ending: Ending, message: str, error: str = "SourceError"
    ) -> protocol.Fact:
        source = self._open.pop(name)[0]
        source.close()
        return self._fact(
            name,
            protocol.SourceEnded(ending, source.errors, message=message, error=error),
        )

    def _fact(self, name: str, message: protocol.FromProcess) -> protocol.Fact:
        return protocol.Received(decoder_name(name), message, time.monotonic())


class InOrder:
    """Calls `on_packet` in the order of seq: a frame that skips stages may complete early."""

    def __init__(self, pipeline: Pipeline, on_packet: OnPacket | None, core: Core) -> None:
        self._names = [stage.name for stage in pipeline.stages]
        self._on_packet = on_packet
        self._next = Counter({name: stream.admitted for name, stream in core.streams.items()})
        self._held: dict[tuple[str, int], Packet] = {}

    def __call__(self, done: protocol.FrameCompleted) -> None:
        if self._on_packet is None:
            return
        parts = [done.parts[name] for name in self._names if name in done.parts]
        source = done.frame.source
        self._held[source, done.frame.seq] = Packet(frame=done.frame, parts=parts)
        while packet := self._held.pop((source, self._next[source]), None):
            self._next[source] += 1
            self._on_packet(packet)


def _after(source: Source, n: int) -> Iterator[Picture]:
    return (picture for picture in source if picture.n > n)
