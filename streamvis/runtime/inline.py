"""The inline engine: the whole run in one process and one thread, driven by the same core.

    for frame in frames(pipeline, sources):
        frame.packet, frame.pixels

It serves Python programs, tests, evaluation and debugging. Stages get the same packets as in
workers. Nothing is decoded while the consumer of `frames` works.

A camera or stream that is lost is connected again as in worker processes. Sources are opened and
read in turn, in one thread: one that does not answer holds the others back until its timeout
(`open_s`, `read_s`). A silent source is lost after `read_s` without having been `stalled`.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamvis import logs
from streamvis.config import Pipeline, zones_of
from streamvis.errors import SourceError, StreamvisError
from streamvis.messages import Array, Ending, Packet
from streamvis.runtime import protocol, supervision
from streamvis.runtime.errors import failure
from streamvis.runtime.gaps import GapCounter
from streamvis.runtime.host import Build, Host, build_stage, build_stages
from streamvis.runtime.media_time import MediaTime
from streamvis.runtime.metrics import STATUS_S, Meter, Status, Summary, write_summary
from streamvis.runtime.opened import Note, writer_of
from streamvis.runtime.output import OnUsed
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.reconnect import reconnect_of
from streamvis.runtime.resume import RunStart, claimed
from streamvis.runtime.routing import Core
from streamvis.runtime.state import decoder_name
from streamvis.sources import open_source as open_any
from streamvis.sources.picture import Picture, Source, ending_of
from streamvis.sources.privacy import masked
from streamvis.sources.spec import SourceSpec
from streamvis.stages.protocol import Site

Opener = Callable[[SourceSpec, int], Source]
OnPacket = Callable[[Packet], None]
OnStatus = Callable[[Status], None]

WAIT_S = 0.5  # at most, between two looks at the time while no source is open
NO_HEARTBEATS = supervision.Limits(heartbeat_timeout_s=float("inf"))  # there are no processes


class CompletedFrame(NamedTuple):
    """A frame that every stage has answered."""

    packet: Packet  # with all parts, in the order of the pipeline
    pixels: Array  # (H, W, 3) uint8 RGB, read-only


def run(
    pipeline: Pipeline,
    sources: Sequence[SourceSpec],
    *,
    build: Build,
    open_source: Opener = open_any,
    out: Path | None = None,
    on_used: OnUsed = "refuse",
    on_packet: OnPacket | None = None,
    on_status: OnStatus | None = None,
    give_up_s: float | None = None,
) -> Summary:
    """Run to the end of all sources; `on_packet` gets each frame with all parts, in seq order.

    Otherwise as `frames`.
    """
    summary: Summary

    def completed() -> Generator[CompletedFrame, None, None]:
        nonlocal summary
        summary = yield from frames(
            pipeline,
            sources,
            build=build,
            open_source=open_source,
            out=out,
            on_used=on_used,
            on_status=on_status,
            give_up_s=give_up_s,
        )

    with closing(completed()) as running:
        for frame in running:
            if on_packet is not None:
                on_packet(frame.packet)
    return summary


def frames(
    pipeline: Pipeline,
    sources: Sequence[SourceSpec],
    *,
    build: Build = build_stage,
    open_source: Opener = open_any,
    device: str = "cpu",
    out: Path | None = None,
    on_used: OnUsed = "refuse",
    on_status: OnStatus | None = None,
    give_up_s: float | None = None,
) -> Generator[CompletedFrame, None, Summary]:
    """Yield each frame of a run with all parts, in seq order within its source.

    When the generator is closed, the run is drained: sources and stages are closed, and the files
    in `out` are complete up to the last frame. `on_used`, `on_status` and `give_up_s` as in
    `launch.run`. Exceptions of stages pass through unchanged. Raises SourceError when every source
    failed.
    """
    with claimed(out, pipeline, sources, on_used) as start:
        if start.finished is not None:
            return start.finished
        live = any(spec.may_be_live for spec in sources)
        groups = group_stages(pipeline, one_stage_per_worker(pipeline), live=live)
        core = Core(
            groups,
            [spec.id for spec in sources],
            1,
            NO_HEARTBEATS,
            start.sources,
            reconnect={spec.id: reconnect_of(spec, give_up_s) for spec in sources},
            labels={spec.id: spec.label for spec in sources},
            zones=zones_of(pipeline, sources),
        )
        meter = Meter(time.monotonic())
        meter.findings.update(start.findings)
        pictures: dict[str, Array] = {}
        site = Site(
            device=device,
            pixels=lambda frame: pictures[frame.slot],
            out=out,
            epoch=start.epoch,
            logged=start.logged,
            pipeline=pipeline.hash,
            masks=True,  # the caller may read them
        )
        with ExitStack() as stack:
            stages = build_stages(pipeline, [stage.name for stage in pipeline.stages], site, build)
            hosts = {
                f"{name}.0": Host(pipeline, {name: stage}, device, live=live)
                for name, stage in stages.items()
            }
            for host in hosts.values():
                stack.callback(host.close)
            reader = Reader(sources, open_source, pictures, writer_of(out))
            stack.callback(reader.close)
            deliver = InOrder(pipeline, core)
            loop = Loop(core, hosts, reader, meter, deliver, start.save, on_status)
            try:
                yield from loop.frames()
            except GeneratorExit:  # the consumer has seen enough
                loop.drain()
        return _summary(core, meter, pipeline, start, out)


def _summary(
    core: Core, meter: Meter, pipeline: Pipeline, start: RunStart, out: Path | None
) -> Summary:
    """Return the summary of a run that has ended, written to `out`; or raise its error."""
    summary = meter.summary(core, time.monotonic())
    summary = msgspec.structs.replace(summary, pipeline=pipeline.hash, epoch=start.epoch)
    if out is not None:
        write_summary(summary, out)
    if (error := failure(core)) is not None:
        raise error
    return summary


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
        on_status: OnStatus | None,
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

    def frames(self) -> Iterator[CompletedFrame]:
        """Run to the end of all sources, and yield the frames that are complete."""
        self._facts.append(protocol.Tick(time.monotonic()))
        while not self._core.finished:
            self._step(self._facts.popleft() if self._facts else self._next_fact())
            yield from self._deliver.take()

    def _next_fact(self) -> protocol.Fact:
        """Read a picture; or return the time when a decision is due, after waiting for it."""
        now = time.monotonic()
        due = self._core.due(now)
        if due > now:
            if self._reader.readable:
                return self._reader.next_fact()
            time.sleep(min(due - now, WAIT_S))
        return protocol.Tick(time.monotonic())

    def drain(self) -> None:
        """End the run: no frame is read any more, and stages get the end of each source."""
        self._facts.append(protocol.Drain(time.monotonic()))
        while not self._core.finished:
            self._step(self._facts.popleft())

    def _step(self, fact: protocol.Fact) -> None:
        for order in self._core.step(fact):
            self._facts += self._carry_out(order)
        self._report()

    def _report(self) -> None:
        at = time.monotonic()
        if self._on_status is not None and at >= self._status_due:
            self._status_due = at + STATUS_S
            for host in self._hosts.values():
                self._meter.refused_clients.update(host.take_refused())
                self._meter.gauges.update(host.take_gauges())
            self._on_status(self._meter.status(self._core, at))

    def _carry_out(self, order: protocol.Order) -> Iterator[protocol.Fact]:
        at = time.monotonic()
        match order:
            case supervision.StartProcess(process):
                message = protocol.Ready() if process in self._hosts else protocol.Hello()
                yield protocol.Received(process, message, at)
            case supervision.StopProcess(process):
                yield protocol.ProcessExited(process, "", at)
            case supervision.KillProcess(process, reason):
                if (stream := self._core.stream_of(process)) is not None:
                    self._reader.discard(stream.name)
                yield protocol.ProcessExited(process, reason, at)
            case protocol.OpenSource():
                yield from self._reader.open(order)
            case protocol.LogEntry(event, fields, level):
                logs.log(level, event, **fields)
            case protocol.SaveCheckpoint(source, checkpoint):
                if self._save is not None:
                    self._save(source, checkpoint)
            case protocol.GrantSlots(source, slots):
                self._reader.slots[source] += slots
            case protocol.SendWork(process, batch, items, blobs):
                answer, parts = self._hosts[process](batch, items, blobs)
                self._meter.add_answer(answer)
                yield protocol.Received(process, answer, time.monotonic(), parts)
            case protocol.FrameCompleted():
                pixels = self._reader.release(order.frame.slot)
                self._meter.add_frame(order, at)
                self._deliver.add(order, pixels)


class Connection(NamedTuple):
    """A source that is open, and what is known of its pictures so far."""

    source: Source
    pictures: Iterator[Picture]
    counter: GapCounter
    media_time: MediaTime


class Reader:
    """The open sources, read in turn as far as they have slots."""

    def __init__(
        self,
        specs: Sequence[SourceSpec],
        opener: Opener,
        pictures: dict[str, Array],
        note_opened: Note,
    ) -> None:
        self.slots: dict[str, list[str]] = {spec.id: [] for spec in specs}
        self._specs = {spec.id: spec for spec in specs}
        self._opener = opener
        self._pictures = pictures
        self._note_opened = note_opened
        self._open: dict[str, Connection] = {}

    @property
    def readable(self) -> bool:
        """Whether a source is open and may be read."""
        return any(self.slots[name] for name in self._open)

    def open(self, order: protocol.OpenSource) -> Iterator[protocol.Fact]:
        """Open a source, for the first time or again."""
        name = order.source
        self.slots[name].clear()
        self._note_opened(self._specs[name], order.epoch)
        try:
            source = self._opener(self._specs[name], order.epoch)
        except StreamvisError as error:
            yield self._fact(name, protocol.Refused(type(error).__name__, str(error)))
            return
        self._open[name] = Connection(
            source,
            _after(source, order.after_n),
            GapCounter(order.after_n + 1),
            MediaTime(order.last_us, order.zero_s),
        )
        yield self._fact(name, protocol.Opened(source.info))
        yield protocol.SlotsCreated(name, [f"{name}:0"], time.monotonic())

    def next_fact(self) -> protocol.Fact:
        """Read the next picture of the source whose turn it is, or its end."""
        name = next(name for name in self._open if self.slots[name])
        source, pictures, counter, media_time = self._open[name] = self._open.pop(name)  # now last
        try:
            picture = next(pictures, None)
        except SourceError as error:
            return self._end(name, "failed", str(error), type(error).__name__)
        if picture is None:
            return self._end(name, *ending_of(source))
        counter.note(picture)
        picture = media_time.continued(picture)
        slot = self.slots[name].pop()
        view = picture.pixels.view()
        if masks := self._specs[name].privacy_masks:
            view = masked(picture.pixels, masks)
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
            suspect=picture.suspect,
            restarted=picture.restarted,
        )
        return self._fact(name, decoded)

    def release(self, slot: str) -> Array:
        """Forget the picture in this slot, and return it."""
        return self._pictures.pop(slot)

    def discard(self, name: str) -> None:
        """Close a source without reporting its end."""
        if (opened := self._open.pop(name, None)) is not None:
            opened.source.close()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].source.close()

    def _end(
        self, name: str, ending: Ending, message: str, error: str = "SourceError"
    ) -> protocol.Fact:
        source = self._open.pop(name).source
        source.close()
        return self._fact(
            name,
            protocol.SourceEnded(
                ending, source.errors, message=message, error=error, promised=source.info.promised
            ),
        )

    def _fact(self, name: str, message: protocol.FromProcess) -> protocol.Fact:
        return protocol.Received(decoder_name(name), message, time.monotonic())


class InOrder:
    """Puts frames in the order of seq: one that skips stages may complete early."""

    def __init__(self, pipeline: Pipeline, core: Core) -> None:
        self._names = [stage.name for stage in pipeline.stages]
        self._next = Counter({name: stream.admitted for name, stream in core.streams.items()})
        self._held: dict[tuple[str, int], CompletedFrame] = {}
        self._ready: deque[CompletedFrame] = deque()

    def add(self, done: protocol.FrameCompleted, pixels: Array) -> None:
        """Add a frame that is complete."""
        parts = [done.parts[name] for name in self._names if name in done.parts]
        source = done.frame.source
        packet = Packet(frame=done.frame, parts=parts)
        self._held[source, done.frame.seq] = CompletedFrame(packet, pixels)
        while frame := self._held.pop((source, self._next[source]), None):
            self._next[source] += 1
            self._ready.append(frame)

    def take(self) -> Iterator[CompletedFrame]:
        """Yield the frames that are complete and whose predecessors have been yielded."""
        while self._ready:
            yield self._ready.popleft()


def _after(source: Source, n: int) -> Iterator[Picture]:
    return (picture for picture in source if picture.n > n)
