"""Runs the stages of one group on what the hub sends: the same in a worker and inline."""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import cast

import msgspec

from streamvis.config import Pipeline, inputs_of
from streamvis.errors import RunError
from streamvis.messages import Findings, Packet, Part, Stage, StatefulStage
from streamvis.runtime.wire import (
    BeginItem,
    EndItem,
    FrameItem,
    Item,
    NoticeItem,
    StageState,
    StageTime,
)


class BatchResult(msgspec.Struct):
    """What came out of one batch; `parts` lie in the order of `wrote`."""

    wrote: list[list[str]]  # for each task
    parts: list[Part]
    states: list[StageState]
    spent: list[StageTime]
    found: dict[str, Findings] = {}  # by source that has ended


class PendingFrame(msgspec.Struct, eq=False):
    """A task and the parts at hand for it, by the stage that wrote them."""

    task: FrameItem
    parts: dict[str, Part]


class Host:
    """Built stages, in topological order."""

    def __init__(self, pipeline: Pipeline, stages: dict[str, Stage]) -> None:
        self._stages = stages
        self._stateful = {name for name in stages if pipeline.stage(name).run.stateful}
        self._inputs = {name: inputs_of(pipeline, name) for name in stages}

    def __call__(self, items: Sequence[Item], parts: Iterable[Part]) -> BatchResult:
        """Run every stage on its packets; `parts` are those of the tasks, one after the other."""
        left = iter(parts)
        pending = [
            PendingFrame(item, {name: next(left) for name in item.parts})
            for item in items
            if isinstance(item, FrameItem)
        ]
        result = BatchResult([], [], [], [])
        for name in self._stages:
            if name in self._stateful:
                self._in_order(name, items, pending, result)
            else:
                self._call(name, pending, result)
        for hand in pending:
            wrote = [name for name in self._stages if name not in hand.task.skip]
            result.wrote.append(wrote)
            result.parts += [hand.parts[name] for name in wrote]
        return result

    def close(self) -> None:
        """Close all stages, the last of the group first, whatever one of them raises."""
        with ExitStack() as stack:
            for stage in self._stages.values():
                stack.callback(stage.close)

    def _in_order(
        self, name: str, items: Sequence[Item], pending: Sequence[PendingFrame], result: BatchResult
    ) -> None:
        """What is told between two packets reaches the stage between them."""
        stage = cast(StatefulStage, self._stages[name])
        left = iter(pending)
        run: list[PendingFrame] = []
        open_: dict[str, None] = {}  # sources that go on, in order of appearance
        for item in items:
            if isinstance(item, FrameItem):
                run.append(next(left))
                open_[item.frame.source] = None
                continue
            self._call(name, run, result)
            run = []
            try:
                source, goes_on, found = _pass_on(name, stage, item)
            except Exception as error:
                error.add_note(f"in stage '{name}', told {item}")
                raise
            open_.pop(source, None)
            if goes_on:
                open_[source] = None
            if found is not None:
                result.found[source] = found
        self._call(name, run, result)
        result.states += [StageState(name, source, stage.state(source)) for source in open_]

    def _call(self, name: str, pending: Sequence[PendingFrame], result: BatchResult) -> None:
        pending = [hand for hand in pending if name not in hand.task.skip]
        if not pending:
            return
        inputs = self._inputs[name]
        packets = [
            Packet(frame=h.task.frame, parts=[h.parts[i] for i in inputs if i in h.parts])
            for h in pending
        ]
        start = time.perf_counter()
        try:
            parts = list(self._stages[name](packets))
        except Exception as error:
            where = ", ".join(f"{p.frame.source}/{p.frame.n}" for p in packets)
            error.add_note(f"in stage '{name}', frames {where}")
            raise
        result.spent.append(StageTime(name, len(packets), time.perf_counter() - start))
        if len(parts) != len(packets):
            raise RunError(
                f"stage '{name}' gave {len(parts)} parts for {len(packets)} packets; expected one "
                "for each"
            )
        for hand, part in zip(pending, parts, strict=True):
            hand.parts[name] = part


def _pass_on(
    name: str, stage: StatefulStage, item: BeginItem | NoticeItem | EndItem
) -> tuple[str, bool, Findings | None]:
    """Pass it on; whose it was, whether that source goes on, and what was found in it if not."""
    match item:
        case BeginItem(info, states):
            stage.begin(info, states.get(name))
            return info.id, True, None
        case NoticeItem(notice):
            stage.notice(notice)
            return notice.source, True, None
        case EndItem(source, ending):
            return source, False, stage.finish(source, ending)
