"""Where the CPU time of a pipeline goes: by process, by stage, and in the hub.

Numbers are per frame of the steady part of a run in worker processes: after the first frames, and
before the first process ends. CPU time is user and system time as the kernel counts it, over all
threads, so that it does not depend on what else the machine does.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from streamvis import config
from streamvis.benchmarks.pipeline import LEAST, WARM_UP, one_recording
from streamvis.benchmarks.pipeline_probe import StageCalls, read_calls
from streamvis.benchmarks.process_samples import ProcessSampler, Sample, window
from streamvis.config import Pipeline, Placement
from streamvis.errors import DataError, RunError
from streamvis.messages import Array
from streamvis.sources import SourceSpec

BUILD = "streamvis.benchmarks.pipeline_probe:build"
SHORTEST_S = 2.0  # of the steady part; the kernel counts in hundredths of a second


class ProcessCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a process costs, for each frame."""

    user_ms: float
    system_ms: float
    in_stages_ms: float  # CPU time during the calls of its stages, and of their states
    rest_ms: float  # the others: messages, and threads that wait for work; all of hub and decode
    core_wait_ms: float  # its threads were ready to run, but had no core
    switches: float  # turns of its threads on a core
    working: float | None  # share of the time in which one of its stages was called


class StageCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage costs, for each frame."""

    process: str
    packets: float  # fewer than 1 with `every_s`
    user_ms: float
    system_ms: float
    state_ms: float  # CPU time in which its state was saved
    wall_ms: float  # of its calls
    call_p50_ms: float = 0.0  # median duration of a call, wall time
    part_bytes: int  # of the arrays that it writes
    state_bytes: int


class CopiedBytes(msgspec.Struct, frozen=True, kw_only=True):
    """What is copied between processes, for each frame."""

    pictures: int  # into shared memory, once
    parts_to_hub: int
    parts_from_hub: int  # once for each other worker that reads one
    states_to_hub: int


class ProfileReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where the CPU time of a pipeline goes, for each frame."""

    frames: int
    seconds: float
    fps: float
    core_ms: float  # CPU time of all processes
    cores: float  # that were busy, on average
    processes: dict[str, ProcessCost]
    stages: dict[str, StageCost]
    copied: CopiedBytes


def measure(
    source: str | None = None,
    pipeline: Pipeline | None = None,
    placement: Placement | None = None,
) -> ProfileReport:
    """Run a pipeline, the default one for None, on a recording, and say what it costs.

    Raises UsageError for a live source and for several, DataError for one that is too short.
    """
    from streamvis.runtime import launch

    whole = config.without_feed(pipeline or config.default_pipeline())
    placed = placement or config.default_placement(whole, sources=1)
    spec, picture_bytes = one_recording(source)
    with tempfile.TemporaryDirectory() as out, ProcessSampler() as sampler:
        launch.run(*(whole, placed, [spec]), build=BUILD, out=Path(out), on_status=sampler.note)
        calls = list(read_calls(Path(out)))
    first, last = _steady(calls, whole, sampler.samples, spec)
    return report(whole, placed, calls, (first, last), sampler.pids, picture_bytes)


def _steady(
    calls: Sequence[StageCalls], pipeline: Pipeline, samples: Sequence[Sample], spec: SourceSpec
) -> tuple[Sample, Sample]:
    """Return the samples between which frames are counted."""
    ends = frame_ends(calls, pipeline)
    found = window(samples, ends[WARM_UP], ends[-1]) if len(ends) > WARM_UP + LEAST else None
    if found is None or found[1].at - found[0].at < SHORTEST_S:
        raise DataError(
            f"source '{spec.label}' is too short: {len(ends)} frames were done, expected "
            f"{WARM_UP + LEAST} or more, and {SHORTEST_S:g} s after the first {WARM_UP}"
        )
    return found


def frame_ends(calls: Sequence[StageCalls], pipeline: Pipeline) -> Array:
    """Return when each frame was done by the last stage of the pipeline, in order."""
    last = pipeline.stages[-1].name
    ends = [
        np.repeat(one.calls["ended_s"], one.calls["packets"].astype(int))
        for one in calls
        if one.stage == last
    ]
    if not ends:
        raise RunError(f"stage '{last}' has not noted its calls: its worker died; run it again")
    return np.sort(np.concatenate(ends))


def report(
    pipeline: Pipeline,
    placement: Placement,
    calls: Sequence[StageCalls],
    steady: tuple[Sample, Sample],
    pids: Mapping[str, int],
    picture_bytes: int,
) -> ProfileReport:
    """Return the costs between two samples."""
    first, last = steady
    seconds, ends = last.at - first.at, frame_ends(calls, pipeline)
    frames = int(((ends > first.at) & (ends <= last.at)).sum())
    names = {pid: name for name, pid in pids.items()}
    stages = {
        stage.name: _stage_cost(
            [one for one in calls if one.stage == stage.name], (first.at, last.at), frames, names
        )
        for stage in pipeline.stages
    }
    processes = dict(_process_costs(calls, steady, frames, names))
    core_ms = sum(one.user_ms + one.system_ms for one in processes.values())
    return ProfileReport(
        frames=frames,
        seconds=round(seconds, 2),
        fps=round(frames / seconds, 2),
        core_ms=round(core_ms, 2),
        cores=round(core_ms * frames / seconds / 1e3, 3),
        processes=processes,
        stages=stages,
        copied=_copied(pipeline, placement, stages, picture_bytes),
    )


def _stage_cost(
    calls: Sequence[StageCalls], times: tuple[float, float], frames: int, names: Mapping[int, str]
) -> StageCost:
    total: dict[str, float] = {}
    for one in calls:
        for key, value in _sums(one, times).items():
            total[key] = total.get(key, 0.0) + value
    each = {key: value / frames for key, value in total.items()}
    return StageCost(
        process=", ".join(sorted({names.get(one.pid, str(one.pid)) for one in calls})),
        packets=round(each["packets"], 3),
        user_ms=_ms(each["user_s"]),
        system_ms=_ms(each["system_s"]),
        state_ms=_ms(each["state_s"]),
        wall_ms=_ms(each["wall_s"]),
        call_p50_ms=_ms(_median_call_s(calls, times)),
        part_bytes=round(each["part_bytes"]),
        state_bytes=round(each["state_bytes"]),
    )


def _median_call_s(calls: Sequence[StageCalls], times: tuple[float, float]) -> float:
    """Return the median duration of the calls that ended within these times; 0 without calls."""
    seconds = np.concatenate(
        [
            (one.calls["ended_s"] - one.calls["began_s"])[_within(one.calls["ended_s"], times)]
            for one in calls
        ]
        or [np.zeros(0)]
    )
    return float(np.median(seconds)) if len(seconds) else 0.0


def _sums(one: StageCalls, times: tuple[float, float]) -> dict[str, float]:
    """Sum what the calls that ended within these times took."""
    calls, states = (
        {key: values[_within(kept["ended_s"], times)] for key, values in kept.items()}
        for kept in (one.calls, one.states)
    )
    return {
        **{key: float(calls[key].sum()) for key in ("packets", "user_s", "system_s", "part_bytes")},
        "wall_s": float((calls["ended_s"] - calls["began_s"]).sum()),
        "state_s": float((states["user_s"] + states["system_s"]).sum()),
        "state_bytes": float(states["state_bytes"].sum()),
    }


def _process_costs(
    calls: Sequence[StageCalls],
    steady: tuple[Sample, Sample],
    frames: int,
    names: Mapping[int, str],
) -> Iterator[tuple[str, ProcessCost]]:
    first, last = steady
    times = first.at, last.at
    for name, before in first.used.items():
        used = last.used[name].since(before)
        own = [_sums(one, times) for one in calls if names.get(one.pid) == name]
        inside = sum(one["user_s"] + one["system_s"] + one["state_s"] for one in own)
        wall = sum(one["wall_s"] for one in own)
        yield (
            name,
            ProcessCost(
                user_ms=_ms(used.user_s / frames),
                system_ms=_ms(used.system_s / frames),
                in_stages_ms=_ms(inside / frames),
                rest_ms=_ms((used.user_s + used.system_s - inside) / frames),
                core_wait_ms=_ms(used.core_wait_s / frames),
                switches=round(used.switches / frames, 1),
                working=round(wall / (last.at - first.at), 3) if own else None,
            ),
        )


def _copied(
    pipeline: Pipeline,
    placement: Placement,
    stages: Mapping[str, StageCost],
    picture_bytes: int,
) -> CopiedBytes:
    home = {name: i for i, worker in enumerate(placement.workers) for name in worker.stages}
    readers: dict[str, set[int]] = {name: set() for name in stages}  # other workers
    for name in stages:
        for read in config.inputs_of(pipeline, name):
            readers[read] |= {home[name]} - {home[read]}
    return CopiedBytes(
        pictures=picture_bytes,
        parts_to_hub=sum(one.part_bytes for one in stages.values()),
        parts_from_hub=sum(one.part_bytes * len(readers[name]) for name, one in stages.items()),
        states_to_hub=sum(one.state_bytes for one in stages.values()),
    )


def _within(values: Array, times: tuple[float, float]) -> Array:
    return (values > times[0]) & (values <= times[1])


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)
