"""One program of `streamvis bench peers` on one sequence, in a process of its own.

    python -m streamvis.benchmarks.peer_process <request as JSON>

It leaves `run/tracks.txt` and `cost.json` in the request's directory. The first frames do not
count: in them networks compile, and buffers are made. Of a pipeline all that its detector had done
when the first frames were published does not count either. CPU time is user and system time of all
threads and processes, as the kernel counts it.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamvis import config
from streamvis.benchmarks import pipeline_probe
from streamvis.benchmarks.peer_loops import LOOPS
from streamvis.benchmarks.pipeline import detection_of
from streamvis.benchmarks.pipeline_probe import read_calls
from streamvis.benchmarks.tracker_protocol import ReportedTracks, rows_of
from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import SequenceInfo
from streamvis.errors import DataError, RunError, StreamvisError
from streamvis.messages import Ending, Packet, Part
from streamvis.runtime.resource_usage import TICKS
from streamvis.stages.protocol import Site, Stage

WARM = 2  # frames that do not count
LEAST = 10  # frames after them
RUN, COST, MARKS = "run", "cost.json", "marks.npy"


class PeerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to run: a loop by its name, or a pipeline by its name or path."""

    folder: str  # of the sequence
    out: str  # directory for what is found
    weights: str  # of YOLOX-nano
    loop: str | None = None
    pipeline: str | None = None


class PeerCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the frames that count have taken."""

    frames: int
    seconds: float
    cpu_s: float
    ready_s: float  # monotonic clock at which they began


def main(text: str) -> None:
    """Run what the request says."""
    request = msgspec.json.decode(text, type=PeerRequest)
    info = motchallenge.read_info(Path(request.folder) / "seqinfo.ini")
    cost = _run_loop(request, info) if request.loop else _run_pipeline(request)
    if cost.frames < LEAST:
        raise DataError(
            f"{request.folder}: {cost.frames} frames were left to measure after the first ones; "
            f"expected {LEAST} or more: give a longer sequence"
        )
    (Path(request.out) / COST).write_bytes(msgspec.json.encode(cost))


def _run_loop(request: PeerRequest, info: SequenceInfo) -> PeerCost:
    assert request.loop is not None
    assert info.video is not None  # as the caller has checked
    tracked = LOOPS[request.loop].run(info.video, Path(request.weights), info.fps)
    found: list[ReportedTracks] = []
    began, cpu = time.monotonic(), time.process_time()
    for one in islice(tracked, info.length):
        found.append(one)
        if len(found) == WARM:
            began, cpu = time.monotonic(), time.process_time()
    cost = PeerCost(
        frames=len(found) - WARM,
        seconds=time.monotonic() - began,
        cpu_s=time.process_time() - cpu,
        ready_s=began,
    )
    motchallenge.write_results(Path(request.out) / RUN / "tracks.txt", rows_of(found))
    return cost


def _run_pipeline(request: PeerRequest) -> PeerCost:
    """Run a pipeline in worker processes, from file to event log."""
    from streamvis.runtime import launch
    from streamvis.sources import resolve

    assert request.pipeline is not None
    whole = load(request.pipeline, request.weights)
    out = Path(request.out) / RUN
    launch.run(
        *(whole, config.default_placement(whole, sources=1), resolve([request.folder])),
        build="streamvis.benchmarks.peer_process:build",
        out=out,
    )
    if not (out / MARKS).is_file():
        raise RunError("the worker that publishes has died or had too few frames; run it again")
    (began, cpu, _), (ended, cpu_ended, frames) = np.load(out / MARKS)
    detect = detection_of(whole).name
    calls = [one.calls for one in read_calls(out) if one.stage == detect]
    before = sum(one["packets"][one["ended_s"] <= began].sum() for one in calls)
    return PeerCost(
        frames=int(frames - before),
        seconds=float(ended - began),
        cpu_s=float(cpu_ended - cpu),
        ready_s=float(began),
    )


def load(pipeline: str, weights: str) -> config.Pipeline:
    """Load a pipeline without its feed; the shipped `yolox` with these weights."""
    settings = {"detect.weights": weights} if pipeline == "yolox" else {}
    return config.without_feed(config.load_pipeline(Path(pipeline), settings))


def build(spec: config.StageSpec, site: Site) -> Stage:
    """Build a stage that notes its calls; the one that publishes notes CPU time as well."""
    stage = pipeline_probe.build(spec, site)
    if not isinstance(spec.run, config.Publish) or site.out is None:
        return stage
    return MarkedStage(stage, site.out)


class MarkedStage(Stage):
    """Wraps the last stage: notes time and the run's CPU time after WARM frames and at the end."""

    def __init__(self, stage: Stage, out: Path) -> None:
        self._stage: Any = stage
        self._out = out
        self._frames = 0
        self._marks: list[tuple[float, float, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Part]:
        for part in self._stage(packets):
            self._frames += 1
            if self._frames == WARM:
                self._mark()
            yield part

    def finish(self, source: str, ending: Ending) -> Any:
        findings = self._stage.finish(source, ending)
        self._mark()
        return findings

    def close(self) -> None:
        self._stage.close()
        if len(self._marks) == 2:
            np.save(self._out / MARKS, np.array(self._marks))

    def _mark(self) -> None:
        self._marks.append((time.monotonic(), family_cpu_s(os.getppid()), self._frames))


def family_cpu_s(root: int) -> float:
    """Return the CPU time of a process and of its children, those that have ended included."""
    while True:
        own, ended = _ticks(root)
        running = sum(_ticks(child)[0] for child in _children(root))
        if _ticks(root)[1] == ended:  # else a child has ended in between: in both sums, or in none
            return (own + ended + running) / TICKS


def _children(root: int) -> list[int]:
    """Return the processes whose parent is `root`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if int(_stat(int(path.name))[1]) == root:
                found.append(int(path.name))
    return found


def _ticks(pid: int) -> tuple[int, int]:
    """Return the clock ticks of a process and of its ended children; 0 if it has ended."""
    try:
        user, system, children_user, children_system = map(int, _stat(pid)[11:15])
    except OSError:
        return 0, 0
    return user + system, children_user + children_system


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5)'s stat from the third one on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except StreamvisError as error:
        sys.exit(f"{error}")
