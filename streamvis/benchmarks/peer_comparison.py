"""Our pipelines beside the loops of `peer_loops`: speed, CPU time and accuracy, in one run.

Each program runs in a process of its own, one after the other, so that none disturbs another; with
repeats they alternate (a b c, a b c), and the median counts.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streamvis.benchmarks.peer_loops import NMS_IOU, PeerLoop
from streamvis.benchmarks.peer_process import COST, RUN, WARM, PeerCost, PeerRequest, load
from streamvis.benchmarks.pipeline import detection_of
from streamvis.datasets import motchallenge
from streamvis.errors import DataError, RunError, UsageError
from streamvis.evaluation.mot import MotScores, evaluate
from streamvis.runners.tables import Table
from streamvis.runners.tracking import check_sequences

COLUMNS = (
    *("sequence", "program", "score ≥", "frames/s", "×", "core-ms", "×"),
    *("MOTA", "IDF1", "switches", "start s"),
)
PIPELINES = ("people", "yolox")
NOTE = (
    "× is relative to the first program on the same sequence. core-ms: user and system time of a "
    "frame. frames/s and core-ms are without the start of the processes and the first frames, "
    "which are in `start s`."
)
Say = Callable[[str], None]


class PeerScore(msgspec.Struct, frozen=True, kw_only=True):
    """What a program does on a sequence; of several runs the median."""

    sequence: str
    program: str
    min_score: float  # detections with a lower score are not used
    fps: float
    fps_ratio: float  # to the first program
    core_ms: float  # CPU time of a frame
    core_ms_ratio: float
    mota: float
    idf1: float
    idsw: int
    start_s: float  # from the start of the process until frames count
    fps_of_runs: list[float]
    core_ms_of_runs: list[float]


class PeersReport(msgspec.Struct, frozen=True, kw_only=True):
    """Our pipelines and the loops of others on each sequence."""

    cores: int
    repeats: int
    frames_not_counted: int
    nms_iou: float  # of the loops
    scores: list[PeerScore]
    skipped: dict[str, str]  # program -> why, and what to do


class PeerProgram(NamedTuple):
    """A program to compare, and the score from which it uses detections."""

    request: PeerRequest  # without a sequence
    min_score: float


class PeerRun(NamedTuple):
    """One run of a program."""

    fps: float
    core_ms: float
    start_s: float
    scores: MotScores


Programs = Mapping[str, PeerProgram]  # by name
Runs = Mapping[tuple[str, str], Sequence[PeerRun]]  # sequence, program -> its runs


def measure(
    data: Sequence[motchallenge.Sequence],
    weights: Path,
    *,
    pipelines: Sequence[str],
    loops: Mapping[str, PeerLoop],
    repeats: int = 1,
    say: Say = lambda text: None,
) -> PeersReport:
    """Run the pipelines, then the loops, on each sequence; the first pipeline is the measure.

    A loop whose packages are absent, or a program that fails, is left out and named in `skipped`.
    Raises UsageError or DataError for what cannot be compared, RunError when the first one fails.
    """
    check(data, weights)
    skipped = {name: why for name, loop in loops.items() if (why := absent(loop))}
    programs = {
        name: one
        for name, one in programs_of(weights, pipelines, loops).items()
        if name not in skipped
    }
    runs = _alternate(programs, data, repeats, skipped, say)
    return PeersReport(
        cores=len(os.sched_getaffinity(0)),
        repeats=repeats,
        frames_not_counted=WARM,
        nms_iou=NMS_IOU,
        scores=list(_scores(runs, programs, skipped)),
        skipped=skipped,
    )


def check(data: Sequence[motchallenge.Sequence], weights: Path) -> None:
    """Raise DataError or UsageError, before anything runs, for what cannot be compared."""
    for one in data:
        if one.video is None:
            raise DataError(
                f"{one.folder} has neither the video that seqinfo.ini names nor img1/; expected "
                "pictures, on which the programs run"
            )
    check_sequences(data, public=True, pictures=False)
    if not weights.is_file():
        raise UsageError(
            f"--weights {weights}: no such file; expected YOLOX-nano, exported by its authors as "
            "an .onnx file"
        )


def programs_of(
    weights: Path, pipelines: Sequence[str], loops: Mapping[str, PeerLoop]
) -> dict[str, PeerProgram]:
    """Return the programs by name; ConfigError for a pipeline that cannot be used."""
    file = str(weights.resolve())
    programs = {}
    for name in pipelines:
        path = str(Path(name).resolve()) if Path(name).is_file() else name
        detector: Any = detection_of(load(path, file)).run
        request = PeerRequest(folder="", out="", weights=file, pipeline=path)
        programs[f"streamvis {name}"] = PeerProgram(request, detector.min_score)
    for name, loop in loops.items():
        request = PeerRequest(folder="", out="", weights=file, loop=name)
        programs[name] = PeerProgram(request, loop.min_score)
    return programs


def _alternate(
    programs: Programs,
    data: Sequence[motchallenge.Sequence],
    repeats: int,
    skipped: dict[str, str],
    say: Say,
) -> Runs:
    """Run all programs in turn, so many times; those that fail are added to `skipped`."""
    runs: dict[tuple[str, str], list[PeerRun]] = {}
    for repeat, sequence, (name, program) in product(range(repeats), data, programs.items()):
        if name in skipped:
            continue
        say(f"{sequence.name}, run {repeat + 1} of {repeats}: {name} …")
        try:
            done = run(program.request, sequence)
        except RunError as error:
            if name == next(iter(programs)):
                raise
            skipped[name] = f"{error}"
        else:
            runs.setdefault((sequence.name, name), []).append(done)
    return runs


def absent(loop: PeerLoop) -> str | None:
    """Say which packages a loop lacks and how to install them; None when it has all."""
    lacking = {module: how for module, how in loop.packages.items() if not find_spec(module)}
    if not lacking:
        return None
    return f"{', '.join(lacking)} not installed: {' && '.join(lacking.values())}"


def run(request: PeerRequest, sequence: motchallenge.Sequence) -> PeerRun:
    """Run a program once, in a process of its own; RunError when it fails."""
    with tempfile.TemporaryDirectory() as out:
        asked = msgspec.structs.replace(request, folder=str(sequence.folder.resolve()), out=out)
        began = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "streamvis.benchmarks.peer_process"),
                msgspec.json.encode(asked).decode(),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not (Path(out) / COST).is_file():
            said = [line for line in done.stderr.splitlines() if line.strip()]
            why = said[-1].strip() if said else f"exit status {done.returncode}"
            raise RunError(f"{request.loop or request.pipeline} failed on {sequence.name}: {why}")
        cost = msgspec.json.decode((Path(out) / COST).read_bytes(), type=PeerCost)
        return PeerRun(
            fps=cost.frames / cost.seconds,
            core_ms=1e3 * cost.cpu_s / cost.frames,
            start_s=cost.ready_s - began,
            scores=evaluate(sequence, Path(out) / RUN / "tracks.txt"),
        )


def _scores(runs: Runs, programs: Programs, skipped: Mapping[str, str]) -> Iterator[PeerScore]:
    first: dict[str, tuple[float, float]] = {}  # sequence -> frames/s and core-ms of the first
    for (sequence, program), of in runs.items():
        if program in skipped:  # it has failed in another run
            continue
        fps = statistics.median(one.fps for one in of)
        core_ms = statistics.median(one.core_ms for one in of)
        by_fps, by_core_ms = first.setdefault(sequence, (fps, core_ms))
        yield PeerScore(
            sequence=sequence,
            program=program,
            min_score=programs[program].min_score,
            fps=round(fps, 2),
            fps_ratio=round(fps / by_fps, 3),
            core_ms=round(core_ms, 2),
            core_ms_ratio=round(core_ms / max(by_core_ms, 1e-9), 3),
            mota=of[0].scores.mota,
            idf1=of[0].scores.idf1,
            idsw=of[0].scores.idsw,
            start_s=round(statistics.median(one.start_s for one in of), 2),
            fps_of_runs=[round(one.fps, 2) for one in of],
            core_ms_of_runs=[round(one.core_ms, 2) for one in of],
        )


def tables(report: PeersReport) -> Iterator[Table | str]:
    """Yield the scores, a row for each sequence and program, and who was left out and why."""
    rows: list[list[object]] = [
        [
            *(one.sequence, one.program, one.min_score, one.fps, one.fps_ratio),
            *(one.core_ms, one.core_ms_ratio, one.mota, one.idf1, one.idsw, one.start_s),
        ]
        for one in report.scores
    ]
    rows += [["-", name, *[None] * (len(COLUMNS) - 2)] for name in report.skipped]
    title = f"{report.cores} cores; {report.repeats} run(s) of each, the median"
    yield Table(title, COLUMNS, rows)
    for name, why in report.skipped.items():
        yield f"{name} is left out: {why}"
    yield NOTE
