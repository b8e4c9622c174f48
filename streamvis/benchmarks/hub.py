"""Benchmark of the runtime alone: hops through the hub, and a pipeline over its slowest stage.

hop()         time of a packet from one worker to the next
capacity()    packets that the hub forwards per second of one core
throughput()  frames per second of a pipeline over those of its slowest stage alone
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from streamvis.config import Jipda, MaskRcnn, Pipeline, Placement, Publish, StageSpec
from streamvis.messages import (
    Array,
    Detections,
    Ending,
    Frame,
    Notice,
    Packet,
    Part,
    Receipt,
    SourceInfo,
    Tracks,
)
from streamvis.runtime import launch
from streamvis.runtime.plan import one_stage_per_worker
from streamvis.sources.picture import Ended, Picture, Waiting
from streamvis.sources.spec import SourceSpec
from streamvis.stages.protocol import Site, part_name
from streamvis.transport.sockets import temporary_root

SLEEP_S = {"slow": 0.01, "light": 0.002}  # per packet, by the name of the stage
NONE = np.zeros(0, np.float32)
WARM_UP = 100  # frames until the processes run steadily; they do not count


class HubReport(msgspec.Struct, frozen=True, kw_only=True):
    """Latency and capacity of the hub."""

    hop_us_p50: float  # from the end of one stage's call to the start of the next one's
    hop_us_p99: float
    hops_per_cpu_second: float  # of the hub's process, its socket thread included
    pipeline_over_slowest_stage: float  # frames per second, pipelined over alone


def measure() -> HubReport:
    """Measure hop, capacity and throughput, in about half a minute."""
    hops_us = hop()
    return HubReport(
        hop_us_p50=round(float(np.median(hops_us)), 1),
        hop_us_p99=round(float(np.quantile(hops_us, 0.99)), 1),
        hops_per_cpu_second=round(capacity()),
        pipeline_over_slowest_stage=round(throughput(), 3),
    )


def hop(frames: int = 1500, pause_s: float = 0.002) -> Array:
    """Return the microseconds (frames,) of each packet from one worker via the hub to the next."""
    pipeline = Pipeline(
        stages=[StageSpec("stamp", MaskRcnn()), StageSpec("look", Jipda(), after=["stamp"])]
    )
    hops = _run(pipeline, one_stage_per_worker(pipeline), WARM_UP + frames, pause_s)["hops"]
    return hops[WARM_UP:] / 1e3


def capacity(frames: int = 8000) -> float:
    """Return the packets that the hub forwards per second of its CPU time, under full load."""
    pipeline = _chain("stamp", "look", "end")
    placement = msgspec.structs.replace(one_stage_per_worker(pipeline), slots=32)

    def spent(frames: int) -> float:
        before = time.process_time()
        _run(pipeline, placement, frames)
        return time.process_time() - before

    hops = frames * (len(pipeline.stages) + 1)  # in from decode or a worker, out to the next one
    return hops / (spent(WARM_UP + frames) - spent(WARM_UP))  # without the time to start and end


def throughput(frames: int = 300) -> float:
    """Return the frames per second of a pipeline over those of its slowest stage in a loop."""
    stage = Probe("slow", "detections", None)
    packet = Packet(frame=Frame(source="a", seq=0, n=0, media_us=0, width=1, height=1))
    start = time.perf_counter()
    for _ in range(frames):
        list(stage([packet]))
    alone = frames / (time.perf_counter() - start)
    pipeline = _chain("slow", "light", "end")
    arrivals = _run(pipeline, one_stage_per_worker(pipeline), WARM_UP + frames)["arrivals"][
        WARM_UP:
    ]
    return (frames - 1) * 1e9 / float(arrivals[-1] - arrivals[0]) / alone


class Probe:
    """A stage that records when a packet arrives, and writes into its part when it is done."""

    def __init__(self, name: str, writes: str, out: Path | None) -> None:
        self.name = name
        self._writes = writes
        self._out = out
        self._hops: list[int] = []
        self._arrivals: list[int] = []

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Part]:
        for packet in packets:
            at = time.monotonic_ns()  # one clock for all processes
            self._arrivals.append(at)
            if (stamped := packet.part(Detections)) is not None:
                self._hops.append(at - int(stamped.labels[0]))
            if sleep_s := SLEEP_S.get(self.name):
                time.sleep(sleep_s)
            yield _part(self._writes)

    def close(self) -> None:
        if self._out is not None:
            np.savez(self._out / self.name, hops=self._hops, arrivals=self._arrivals)

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        pass

    def state(self, source: str) -> bytes:
        return b""

    def notice(self, notice: Notice) -> None:
        pass

    def finish(self, source: str, ending: Ending) -> None:
        pass


class BlankSource:
    """A source of `frames` small black pictures, one every `pause_s`."""

    def __init__(self, spec: SourceSpec, epoch: int = 1, waiting: Waiting | None = None) -> None:
        self._frames = int(spec.options["frames"])
        self._pause_s = float(spec.options["pause_s"])
        self.errors = 0
        self.ended: Ended | None = None
        self.info = SourceInfo(
            id=spec.id, label=spec.uri, width=8, height=8, fps=0, live=False, epoch=epoch
        )

    def __iter__(self) -> Iterator[Picture]:
        pixels = np.zeros((8, 8, 3), np.uint8)
        for n in range(self._frames):
            if self._pause_s:
                time.sleep(self._pause_s)
            yield Picture(pixels=pixels, n=n, media_us=n * 1000)

    def close(self) -> None:
        pass


def build(spec: StageSpec, site: Site) -> Probe:
    """Build a probe in place of the stage; called in the worker."""
    return Probe(spec.name, part_name(spec.run.writes), site.out)


def _part(writes: str) -> Part:
    if writes == "receipt":
        return Receipt()
    if writes == "tracks":
        return Tracks(
            ids=NONE,
            boxes=NONE,
            scores=NONE,
            existence=NONE,
            velocity=NONE,
            covariance=NONE,
            ground=NONE,
            entropy=NONE,
            gated=NONE,
            detection=NONE,
            first_seen_us=NONE,
            ended=NONE,
        )
    stamp = np.array([time.monotonic_ns()])
    return Detections(boxes=NONE, scores=NONE, labels=stamp, masks=NONE)


def _chain(first: str, second: str, third: str) -> Pipeline:
    return Pipeline(
        stages=[
            StageSpec(first, MaskRcnn()),
            StageSpec(second, Jipda(), after=[first]),
            StageSpec(third, Publish(bind=None), after=[second]),
        ]
    )


def _run(
    pipeline: Pipeline, placement: Placement, frames: int, pause_s: float = 0.0
) -> dict[str, Array]:
    """Run the pipeline on blank pictures; return what its second stage recorded."""
    options = {"frames": str(frames), "pause_s": str(pause_s)}
    spec = SourceSpec(id="blanks", uri="blanks", kind="synthetic", options=options)
    with tempfile.TemporaryDirectory(dir=temporary_root()) as out:
        launch.run(
            pipeline,
            placement,
            [spec],
            build="streamvis.benchmarks.hub:build",
            open_source="streamvis.benchmarks.hub:BlankSource",
            out=Path(out),
        )
        with np.load(Path(out) / f"{pipeline.stages[1].name}.npz") as recorded:
            return {"hops": recorded["hops"], "arrivals": recorded["arrivals"]}
