"""Benchmark of the whole pipeline over its detector alone, on the same pictures."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from streamvis import config
from streamvis.config import Pipeline, Placement
from streamvis.errors import DataError, RunError, UsageError
from streamvis.messages import Array, Detections, Ending, Frame, Notice, Packet, Part, SourceInfo
from streamvis.runtime.processes import keep_memory
from streamvis.sources import SourceSpec
from streamvis.stages.protocol import Site, Stage, StatefulStage

SCENE = "synthetic:walkers?people=6&seconds=15&fps=10&size=768x576&seed=3"
DETECTOR_FRAMES = 60  # pictures on which the detector is timed alone
WARM_UP = 20  # frames in which queues fill and engines compile for each batch size
LEAST = 40  # frames after them, on which the pipeline is timed
TIMES = "times.npy"


class PipelineReport(msgspec.Struct, frozen=True, kw_only=True):
    """Frames per second of the whole pipeline and of its detector alone."""

    frames: int
    frames_not_counted: int
    pipeline_fps: float
    steady_fps: float  # that of the busiest worker
    detector_alone_fps: float
    ratio: float
    stages_p50_ms: dict[str, float]
    latency_p50_ms: float


def measure(
    source: str | None = None,
    pipeline: Pipeline | None = None,
    placement: Placement | None = None,
) -> PipelineReport:
    """Run a pipeline, and its detector alone in this process; the default one, a synthetic scene.

    Start-up, compilation and the first frames do not count. Raises UsageError for a live source
    and for several sources, DataError for too few frames, RunError when workers died.
    """
    from streamvis.runtime import launch

    whole = config.without_feed(pipeline or config.default_pipeline())
    spec, _ = one_recording(source)
    alone = _detector_fps(spec, whole)
    placement = placement or config.default_placement(whole, sources=1)
    with tempfile.TemporaryDirectory() as out:
        summary = launch.run(
            whole, placement, [spec], build="streamvis.benchmarks.pipeline:build", out=Path(out)
        )
        times = np.load(Path(out) / TIMES)[WARM_UP:]
    if len(times) < LEAST:  # a worker that died has lost the times it recorded
        raise RunError(
            f"a worker died during the benchmark: {len(times)} frames were timed, expected "
            f"{LEAST} or more; run it again"
        )
    fps = (len(times) - 1) / float(times[-1] - times[0])
    ms = {stage.name: stage.service_ms.p50 for stage in summary.stages}
    busiest = max(
        sum(ms[name] for name in worker.stages) / worker.replicas for worker in placement.workers
    )
    return PipelineReport(
        frames=len(times),
        frames_not_counted=WARM_UP,
        pipeline_fps=round(fps, 2),
        steady_fps=round(1000 / max(busiest, 1e-9), 2),
        detector_alone_fps=round(alone, 2),
        ratio=round(fps / alone, 3),
        stages_p50_ms=ms,
        latency_p50_ms=max(s.latency_ms.p50 for s in summary.sources),
    )


def build(spec: config.StageSpec, site: Site) -> Stage:
    """Build a stage of the pipeline; the last one records when each frame is done."""
    from streamvis.runtime.host import build_stage

    stage = build_stage(spec, site)
    if not isinstance(spec.run, config.Publish) or site.out is None:
        return stage
    return TimedStage(cast(StatefulStage, stage), site.out)


class TimedStage:
    """Wraps a stage and writes the second at which each packet was done to `times.npy`."""

    def __init__(self, stage: StatefulStage, out: Path) -> None:
        self._stage, self._out = stage, out
        self._times: list[float] = []

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Part]:
        for part in self._stage(packets):
            self._times.append(time.monotonic())
            yield part

    def close(self) -> None:
        self._stage.close()
        np.save(self._out / TIMES, np.array(self._times))

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        self._stage.begin(source, state)

    def state(self, source: str) -> bytes:
        return self._stage.state(source)

    def notice(self, notice: Notice) -> None:
        self._stage.notice(notice)

    def finish(self, source: str, ending: Ending) -> None:
        self._stage.finish(source, ending)


def one_recording(source: str | None) -> tuple[SourceSpec, int]:
    """Return the only source, read once, and the bytes of its pictures; None: a synthetic scene.

    Raises UsageError for several sources and for a live one.
    """
    from streamvis.sources import open_source, resolve

    specs = resolve([source or SCENE])
    if len(specs) > 1:
        raise UsageError(f"{source} is {len(specs)} sources; give one of them")
    spec = msgspec.structs.replace(specs[0], retry_s=0.0)
    opened = open_source(spec)
    opened.close()
    if opened.info.live:
        raise UsageError(
            f"source '{spec.label}' is live, so the rate of its camera would be measured; "
            "expected a recording or a synthetic: scene"
        )
    return spec, opened.info.width * opened.info.height * 3


def _detector_fps(spec: SourceSpec, whole: Pipeline) -> float:
    """Return how many pictures per second the detection stage does in this process."""
    from streamvis.runtime.host import build_stage
    from streamvis.sources import open_source

    source = open_source(spec)
    try:
        most = max(DETECTOR_FRAMES, LEAST + WARM_UP)
        pictures = [picture.pixels.copy() for picture in islice(source, most)]
    finally:
        source.close()
    if len(pictures) < WARM_UP + LEAST:
        raise DataError(
            f"source '{spec.label}' has {len(pictures)} frames; expected {WARM_UP + LEAST} or "
            f"more: {WARM_UP} for the warm-up and {LEAST} to measure"
        )
    keep_memory()
    detect = build_stage(detection_of(whole), Site(device="cpu", pixels=lambda f: pictures[f.n]))
    packets = [Packet(frame=_frame(n, pixels)) for n, pixels in enumerate(pictures)]
    for warm_up in (True, False):
        began = time.perf_counter()
        for packet in packets[: 5 if warm_up else None]:
            list(detect([packet]))
    seconds = time.perf_counter() - began
    detect.close()
    return len(pictures) / seconds


def detection_of(pipeline: Pipeline) -> config.StageSpec:
    """Return the first stage that writes detections; UsageError when there is none."""
    for stage in pipeline.stages:
        if stage.run.writes is Detections and not stage.run.reads:
            return stage
    raise UsageError(
        "the pipeline has no stage that detects, with which it could be compared; expected one, "
        "such as of kind mask_rcnn or yolox. Without it: bench pipeline --profile"
    )


def _frame(n: int, pixels: Array) -> Frame:
    height, width = pixels.shape[:2]
    return Frame(source="a", seq=n, n=n, media_us=n, width=width, height=height)
