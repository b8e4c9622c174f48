"""Runs the stages of one group on the batches that the core sends, in a worker or inline."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import cast

import msgspec

from streamvis.config import Pipeline, StageSpec, ancestors_of, inputs_of, lender_of
from streamvis.errors import RunError
from streamvis.messages import Detections, Findings, Packet, Part, Receipt, SourceGauges, StageRun
from streamvis.runtime.protocol import (
    Answer,
    BeginItem,
    ClipRequest,
    CutClip,
    EndItem,
    FrameItem,
    Item,
    NoticeItem,
    StageState,
    StageTime,
)
from streamvis.stages.protocol import GaugedStage, ServingStage, Site, Stage, StatefulStage

Build = Callable[[StageSpec, Site], Stage]
OrderedItem = BeginItem | NoticeItem | EndItem


def build_stage(spec: StageSpec, site: Site) -> Stage:
    """Build one stage in the process that runs it; raises ModelError, DeviceError, …"""
    return spec.run.build(site)


def build_stages(
    pipeline: Pipeline, names: Sequence[str], site: Site, build: Build
) -> dict[str, Stage]:
    """Build these stages in order; close those built before a failure.

    Each gets the settings of the stages that it reads, and what the stage that it borrows from
    lends.
    """
    stages: dict[str, Stage] = {}
    with ExitStack() as stack:
        for name in names:
            lender = stages.get(lender_of(pipeline, name) or "")
            above = tuple(pipeline.stage(one).run for one in inputs_of(pipeline, name))
            masks = site.masks or masks_read(pipeline, name)
            lent = getattr(lender, "lent", None)
            own = msgspec.structs.replace(site, above=above, lent=lent, masks=masks)
            stages[name] = stage = build(pipeline.stage(name), own)
            stack.callback(stage.close)
        stack.pop_all()
    return stages


def masks_read(pipeline: Pipeline, name: str) -> bool:
    """Whether a stage that gets the part of this one reads masks in it."""
    return any(
        stage.run.reads_masks
        for stage in pipeline.stages
        if name in inputs_of(pipeline, stage.name)
    )


class PendingFrame(msgspec.Struct, eq=False):
    """A frame of the batch with its parts so far, by the stage that wrote them."""

    item: FrameItem
    parts: dict[str, Part]
    ran: dict[str, StageRun] = {}  # by stage of this host


class Host:
    """Built stages, in topological order."""

    def __init__(
        self,
        pipeline: Pipeline,
        stages: dict[str, Stage],
        device: str = "cpu",
        *,
        live: bool = False,
    ) -> None:
        """Prepare to run these stages; `live`: one of the sources may be live."""
        self._stages = stages
        self._devices = _devices(pipeline, stages, device)
        self._readers = {
            name: ancestors_of(pipeline, name)
            for name in stages
            if pipeline.stage(name).run.reads_runs
        }
        self._serving = [stage for stage in stages.values() if isinstance(stage, ServingStage)]
        self._refused: Counter[str] = Counter()  # taken before
        self._gauged = [stage for stage in stages.values() if isinstance(stage, GaugedStage)]
        self._gauges: dict[str, SourceGauges] = {}  # taken before
        self._stateful = {
            name
            for name, stage in stages.items()
            if pipeline.stage(name).run.keeps_state(live) and hasattr(stage, "begin")
        }  # a builder of one's own may give a stage that remembers nothing
        self._inputs = {name: inputs_of(pipeline, name) for name in stages}
        # of each stage the sources that it begins once they are open, with the states of BeginItem
        self._unopened: dict[str, dict[str, dict[str, bytes]]] = {
            name: {} for name in self._stateful if not pipeline.stage(name).run.follows_status
        }

    def __call__(
        self, batch: int, items: Sequence[Item], parts: Iterable[Part]
    ) -> tuple[Answer, list[Part]]:
        """Run every stage on a batch, and return the answer with the parts that it lists.

        `parts` are those of the frame items, one after the other.
        """
        left = iter(parts)
        pending = [
            PendingFrame(item, {name: next(left) for name in item.parts})
            for item in items
            if isinstance(item, FrameItem)
        ]
        answer = Answer(batch, [], [], [], {}, [])
        for name in self._stages:
            if name in self._stateful:
                self._in_order(name, items, pending, answer)
            else:
                self._call(name, pending, answer)
        written: list[Part] = []
        for frame in pending:
            ran = [name for name in self._stages if name not in frame.item.skip]
            answer.wrote.append(ran)
            written += [frame.parts[name] for name in ran]
            if self._devices:
                answer.ran.append(frame.ran)
        return answer, written

    @property
    def reports(self) -> bool:
        """Whether there is something to take without a batch: refused connections, gauges."""
        return bool(self._serving or self._gauged)

    def take_refused(self) -> dict[str, int]:
        """Return, by reason, how many connections were refused since the last call."""
        now: Counter[str] = Counter()
        for stage in self._serving:
            now.update(stage.refused_clients())
        new, self._refused = now - self._refused, now
        return dict(new)

    def take_gauges(self) -> dict[str, SourceGauges]:
        """Return, by source, the numbers that are others than at the last call."""
        now: dict[str, SourceGauges] = {}
        for stage in self._gauged:
            now.update(stage.take_gauges())
        new = {source: one for source, one in now.items() if self._gauges.get(source) != one}
        self._gauges = now
        return new

    def close(self) -> None:
        """Close all stages, the last of the group first, whatever one of them raises."""
        with ExitStack() as stack:
            for stage in self._stages.values():
                stack.callback(stage.close)

    def _in_order(
        self, name: str, items: Sequence[Item], pending: Sequence[PendingFrame], answer: Answer
    ) -> None:
        """Call a stateful stage so that other items reach it between the frames around them."""
        stage = cast(StatefulStage, self._stages[name])
        left = iter(pending)
        run: list[PendingFrame] = []
        open_: dict[str, None] = {}  # sources that continue, in order of appearance
        for item in items:
            if isinstance(item, FrameItem):
                run.append(next(left))
                open_[item.frame.source] = None
                continue
            self._call(name, run, answer)
            run = []
            for given in self._items_for(name, item):
                try:
                    source, continues, findings = _deliver(name, stage, given)
                except Exception as error:
                    error.add_note(f"in stage '{name}', at {given}")
                    raise
                open_.pop(source, None)
                if continues:
                    open_[source] = None
                if findings is not None:
                    answer.findings[source] = findings
        self._call(name, run, answer)
        answer.states.extend(StageState(name, source, stage.state(source)) for source in open_)

    def _items_for(self, name: str, item: OrderedItem) -> list[OrderedItem]:
        """Return what the stage gets for the item: a source that was never open begins later."""
        unopened = self._unopened.get(name)
        if unopened is None:
            return [item]
        match item:
            case BeginItem(info, states):
                unopened.pop(info.id, None)
                if info.width == 0:
                    unopened[info.id] = states
                return [] if info.width == 0 else [item]
            case NoticeItem(notice) if notice.source in unopened:
                if notice.kind != "online" or notice.info is None:
                    return []
                return [BeginItem(notice.info, unopened.pop(notice.source)), item]
            case EndItem(source, _) if source in unopened:
                del unopened[source]
                return []
        return [item]

    def _call(self, name: str, pending: Sequence[PendingFrame], answer: Answer) -> None:
        pending = [frame for frame in pending if name not in frame.item.skip]
        if not pending:
            return
        inputs = self._inputs[name]
        packets = [
            Packet(frame=p.item.frame, parts=[p.parts[i] for i in inputs if i in p.parts])
            for p in pending
        ]
        if (above := self._readers.get(name)) is not None:
            for packet, p in zip(packets, pending, strict=True):
                known = {**p.item.ran, **p.ran}
                packet.ran = {one: known[one] for one in above if one in known}
        start = time.perf_counter()
        try:
            parts = list(self._stages[name](packets))
        except Exception as error:
            where = ", ".join(f"{p.frame.source}/{p.frame.n}" for p in packets)
            error.add_note(f"in stage '{name}', frames {where}")
            raise
        seconds = time.perf_counter() - start
        if len(parts) != len(packets):
            raise RunError(
                f"stage '{name}' returned {len(parts)} parts for {len(packets)} packets; expected "
                "one for each"
            )
        gated = sum(isinstance(part, Detections) and not part.looked for part in parts)
        answer.times.append(StageTime(name, len(packets), seconds, gated))
        for frame, part in zip(pending, parts, strict=True):
            frame.parts[name] = part
            if (device := self._devices.get(name)) is not None:
                frame.ran[name] = StageRun(device, round(1000 * seconds, 3))
            if isinstance(part, Receipt) and part.clips:
                source = frame.item.frame.source
                clips = (CutClip(one.event, one.kind, one.media_us) for one in part.clips)
                answer.clips.extend(ClipRequest(source, clip) for clip in clips)


def _devices(pipeline: Pipeline, stages: Iterable[str], device: str) -> dict[str, str]:
    """Return the device of each stage; none when no stage of the pipeline reads it."""
    if not any(spec.run.reads_runs for spec in pipeline.stages):
        return {}
    return {name: device if pipeline.stage(name).run.torch else "cpu" for name in stages}


def _deliver(
    name: str, stage: StatefulStage, item: OrderedItem
) -> tuple[str, bool, Findings | None]:
    """Give the item to the stage; return its source, whether that continues, and its findings."""
    match item:
        case BeginItem(info, states):
            stage.begin(info, states.get(name))
            return info.id, True, None
        case NoticeItem(notice):
            stage.notice(notice)
            return notice.source, True, None
        case EndItem(source, ending):
            return source, False, stage.finish(source, ending)
