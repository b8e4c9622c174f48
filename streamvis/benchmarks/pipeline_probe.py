"""Stages that note what each call costs, in the worker processes of a run that is profiled.

`build` is the builder of such a run; each stage writes its calls when it is closed, to
`calls-<stage>-<pid>.npz` in the output directory, which `read_calls` returns.
"""

import os
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamvis import config
from streamvis.messages import Array, Packet, Part
from streamvis.stages.protocol import Site, Stage

CALL = ("began_s", "ended_s", "packets", "user_s", "system_s", "part_bytes")
STATE = ("ended_s", "user_s", "system_s", "state_bytes")


def build(spec: config.StageSpec, site: Site) -> Stage:
    """Build a stage of the pipeline that notes its calls."""
    from streamvis.runtime.host import build_stage

    stage = build_stage(spec, site)
    return stage if site.out is None else ProbedStage(stage, spec.name, site.out)


class ProbedStage(Stage):
    """Wraps a stage; CPU time is that of all threads of the process during a call."""

    def __init__(self, stage: Stage, name: str, out: Path) -> None:
        self._stage: Any = stage
        self._path = out / f"calls-{name}-{os.getpid()}.npz"
        self._calls: list[tuple[float, ...]] = []
        self._states: list[tuple[float, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)  # of a stateful stage, and what it lends

    def __call__(self, packets: Sequence[Packet]) -> list[Part]:
        began, before = time.monotonic(), cpu_s()
        parts = list(self._stage(packets))
        user, system = _since(before)
        size = sum(map(part_bytes, parts))
        self._calls.append((began, time.monotonic(), len(packets), user, system, size))
        return parts

    def state(self, source: str) -> bytes:
        before = cpu_s()
        state: bytes = self._stage.state(source)
        self._states.append((time.monotonic(), *_since(before), len(state)))
        return state

    def close(self) -> None:
        self._stage.close()
        calls = np.array(self._calls).reshape(-1, len(CALL))
        np.savez(self._path, calls=calls, states=np.array(self._states).reshape(-1, len(STATE)))


class StageCalls(NamedTuple):
    """The calls of a stage in one process."""

    stage: str
    pid: int
    calls: dict[str, Array]  # by CALL, in order
    states: dict[str, Array]  # by STATE


def read_calls(out: Path) -> Iterator[StageCalls]:
    """Yield the calls of each stage and process of a run that has ended."""
    for path in sorted(out.glob("calls-*.npz")):
        _, _, name = path.stem.partition("-")
        stage, _, pid = name.rpartition("-")
        with np.load(path) as found:
            calls = dict(zip(CALL, found["calls"].T, strict=True))
            states = dict(zip(STATE, found["states"].T, strict=True))
        yield StageCalls(stage, int(pid), calls, states)


def cpu_s() -> tuple[float, float]:
    """Return the user and system time of this process, all threads, as getrusage counts it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime


def part_bytes(part: Part) -> int:
    """Return the bytes of the arrays of a part, nearly all of what is sent of it."""
    values = [getattr(part, name) for name in part.__struct_fields__]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _since(before: tuple[float, float]) -> tuple[float, float]:
    user, system = cpu_s()
    return user - before[0], system - before[1]
