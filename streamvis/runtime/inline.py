"""The whole run in one process and one thread: the hub's core without its shell.

For tests, evaluation and debugging. Stages see what they would see in workers, packet for packet.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from streamvis.config import Pipeline, StageSpec
from streamvis.errors import SourceError, StreamvisError
from streamvis.messages import Array, Frame, Packet, Site, Stage
from streamvis.runtime import facts as f
from streamvis.runtime import supervision
from streamvis.runtime.checkpoint import SourceCheckpoint
from streamvis.runtime.errors import ending_of, failure
from streamvis.runtime.host import Host
from streamvis.runtime.latest_frame import GapCounter
from streamvis.runtime.metrics import Meter, Summary, write_summary
from streamvis.runtime.output import OnUsed
from streamvis.runtime.plan import apart, fold
from streamvis.runtime.resume import RunStart, claimed
from streamvis.runtime.routing import Core
from streamvis.runtime.wire import Answer, DecodedFrame
from streamvis.sources import open_source as open_any
from streamvis.sources.picture import Picture, Source
from streamvis.sources.spec import SourceSpec

Build = Callable[[StageSpec, Site], Stage]
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
) -> Summary:
    """Run to the end of all sources; `on_packet` gets each frame with all parts, in seq order.

    `on_used` as in `launch.run`. What a stage raises comes out as it is. SourceError when every
    source failed.
    """
    with claimed(out, pipeline, sources, on_used) as start:
        if start.finished is not None:
            return start.finished
        core, meter = _run(pipeline, sources, build, open_source, out, start, on_packet)
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
        regions=pipeline.regions,
    )
    with ExitStack() as stack:
        hosts = {}
        for stage in pipeline.stages:
            hosts[f"{stage.name}.0"] = host = Host(pipeline, {stage.name: build(stage, site)})
            stack.callback(host.close)
        reader = Reader(sources, open_source, pictures)
        stack.callback(reader.close)
        groups = fold(pipeline, apart(pipeline))
        core = Core(groups, [s.id for s in sources], window=1, resumed=start.sources)
        meter = Meter(time.monotonic())
        meter.found.update(start.found)
        deliver = InOrder(pipeline, on_packet, core)
        Loop(core, hosts, reader, meter, deliver, start.save).run()
    return core, meter


class Loop:
    """Carries the core's orders out on the spot and tells it what came of them."""

    def __init__(
        self,
        core: Core,
        hosts: dict[str, Host],
        reader: "Reader",
        meter: Meter,
        deliver: "InOrder",
        save: Callable[[str, SourceCheckpoint], None] | None,
    ) -> None:
        self._core = core
        self._hosts = hosts
        self._reader = reader
        self._meter = meter
        self._deliver = deliver
        self._save = save
        self._facts: deque[f.Fact] = deque()

    def run(self) -> None:
        self._facts.append(f.Tick(time.monotonic()))
        while not self._core.finished:
            fact = self._facts.popleft() if self._facts else self._reader.next_fact()
            for order in self._core.step(fact):
                self._facts += self._carry_out(order)

    def _carry_out(self, order: f.Order) -> Iterator[f.Fact]:
        at = time.monotonic()
        match order:
            case supervision.StartProcess(process):
                yield f.Joined(process, at)
            case supervision.StopProcess(process) | supervision.KillProcess(process, _):
                yield f.ProcessExited(process, "", at)
            case f.OpenSource(source, epoch, after_n):
                yield from self._reader.open(source, epoch, after_n)
            case f.Checkpoint(source, saved):
                if self._save is not None:
                    self._save(source, saved)
            case f.GrantSlots(source, slots):
                self._reader.slots[source] += slots
            case f.Send(process, batch, items, blobs):
                ran = self._hosts[process](items, blobs)
                self._meter.spent(ran.spent)
                self._meter.found.update(ran.found)
                answer = Answer(batch, ran.wrote, ran.states, ran.spent)
                yield f.Answered(process, answer, ran.parts, time.monotonic())
            case f.Completed():
                self._reader.release(order.frame.slot)
                self._meter.completed(order, at)
                self._deliver(order)


class Reader:
    """The open sources, each in its turn when it has a slot."""

    def __init__(
        self, specs: Sequence[SourceSpec], opener: Opener, pictures: dict[str, Array]
    ) -> None:
        self.slots: dict[str, list[str]] = {spec.id: [] for spec in specs}
        self._specs = {spec.id: spec for spec in specs}
        self._opener = opener
        self._pictures = pictures
        self._open: dict[str, tuple[Source, Iterator[Picture], GapCounter]] = {}

    def open(self, name: str, epoch: int, after_n: int) -> Iterator[f.Fact]:
        try:
            source = self._opener(self._specs[name], epoch)
        except StreamvisError as error:
            yield _failed(name, 0, error)
            return
        self._open[name] = (source, _after(source, after_n), GapCounter(after_n + 1))
        yield f.Opened(name, source.info, time.monotonic())
        yield f.SlotsCreated(name, [f"{name}:0"], time.monotonic())

    def next_fact(self) -> f.Fact:
        """The next picture of the source whose turn it is, or its end."""
        name = next(name for name in self._open if self.slots[name])
        source, pictures, counter = self._open.pop(name)
        self._open[name] = (source, pictures, counter)  # the last in line now
        try:
            picture = next(pictures, None)
        except SourceError as error:
            return self._end(name, _failed(name, source.errors, error))
        if picture is None:
            ending, message = ending_of(source)
            return self._end(
                name,
                f.SourceEnded(
                    source=name,
                    ending=ending,
                    at=time.monotonic(),
                    errors=source.errors,
                    message=message,
                ),
            )
        counter.note(picture)
        slot = self.slots[name].pop()
        view = picture.pixels.view()
        view.flags.writeable = False
        self._pictures[slot] = view
        decoded = DecodedFrame(
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
        return f.Admitted(name, decoded, time.monotonic())

    def release(self, slot: str) -> None:
        del self._pictures[slot]

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1][0].close()

    def _end(self, name: str, fact: f.Fact) -> f.Fact:
        self._open.pop(name)[0].close()
        return fact


class InOrder:
    """Hands packets on by seq, though a frame that skips stages may be done before the last."""

    def __init__(self, pipeline: Pipeline, on_packet: OnPacket | None, core: Core) -> None:
        self._names = [stage.name for stage in pipeline.stages]
        self._on_packet = on_packet
        self._next = Counter({name: stream.admitted for name, stream in core.streams.items()})
        self._held: dict[tuple[str, int], Packet] = {}

    def __call__(self, done: f.Completed) -> None:
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


def _failed(name: str, errors: int, error: StreamvisError) -> f.SourceEnded:
    return f.SourceEnded(
        source=name,
        ending="failed",
        at=time.monotonic(),
        errors=errors,
        error=type(error).__name__,
        message=str(error),
    )
