"""Benchmark of many cameras on one machine: rate, age, fairness, drops and CPU time.

Each camera is a clip that is replayed live, at its own phase. Of `cameras`, `busy` show people, the
others the same place without anybody. Frames count from SETTLE_S after all cameras are there.
"""

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamvis import config
from streamvis.benchmarks import pipeline_probe
from streamvis.benchmarks.live_replay import (
    OPENER,
    Schedule,
    fitted,
    make_clip,
    without_people,
)
from streamvis.benchmarks.pipeline import one_recording
from streamvis.benchmarks.pipeline_probe import read_calls
from streamvis.benchmarks.pipeline_profile import ProfileReport, report
from streamvis.benchmarks.process_samples import HUB, Sample, Used, used_by
from streamvis.config import Pipeline, Placement
from streamvis.errors import DataError, RunError
from streamvis.messages import Array, Packet, Part
from streamvis.runtime.metrics import Status
from streamvis.sources import SourceSpec
from streamvis.stages.protocol import Site, Stage

SCENE = "synthetic:walkers?people=4&seconds=30&fps={fps:g}&size={width}x{height}&seed=3"
BUILD = "streamvis.benchmarks.streams:build"
LONGEST_S = 60.0  # of a recording that is replayed
SETTLE_S = 5.0  # networks are compiled, tracks begin
START_S = 300.0  # at most, until all cameras are there; and one more second for each
FRAMES = "frames.npz"
PEOPLE, NOBODY = "people.mp4", "nobody.mp4"


class StreamLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How a number of cameras fared on this machine."""

    cameras: int
    busy: int  # of them show people
    fps: float  # frames per second that were done, of all cameras
    fps_shown: float  # and that the cameras have shown
    dropped: int  # frames
    age_p50_ms: float  # from the time at which a picture was shown to its events
    age_p99_ms: float
    age_most_ms: float
    stages_ms: float  # the median time of a call of each stage, summed
    age_over_stages: float  # age_p50_ms over stages_ms: 1 if a frame never waits
    fairness: float  # fewest frames of a camera over most
    core_ms: float  # CPU time of all processes for each frame
    cores: float  # that were busy, on average
    cores_needed: float  # for all frames of these cameras in real time, at this CPU time of a frame
    hub_share: float  # of the CPU time
    load_average: float  # of the machine, over a minute, with all that runs there
    profile: ProfileReport


class StreamsReport(msgspec.Struct, frozen=True, kw_only=True):
    """How several numbers of cameras fared."""

    cores: int
    fps: float  # of each camera
    slow: float
    size: tuple[int, int]
    seconds: float  # that each was measured
    loads: list[StreamLoad]


class Cameras(msgspec.Struct, frozen=True, kw_only=True):
    """What the cameras show."""

    source: str | None = None  # a recording or a scene; None: SCENE
    fps: float = 5.0
    size: tuple[int, int] = (640, 360)
    busy: int | None = None  # how many show people; None: all
    slow: float = 1.0  # times slower than real time

    def busy_of(self, count: int) -> int:
        """Return how many of this number of cameras show people."""
        return count if self.busy is None else min(self.busy, count)


class _Bench(NamedTuple):
    """What all measurements have in common."""

    cameras: Cameras
    pictures: int  # of each clip
    pipeline: Pipeline
    placement: Placement | None
    seconds: float
    home: Path


def measure(
    counts: Sequence[int],
    cameras: Cameras,
    pipeline: Pipeline,
    placement: Placement | None = None,
    seconds: float = 30.0,
    say: Callable[[str], None] = lambda text: None,
) -> StreamsReport:
    """Run a pipeline on each number of cameras, without a placement on the one that fits it.

    Raises UsageError for a live source and for several, RunError when processes die.
    """
    whole = config.without_feed(pipeline)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        say("making clips …")
        pictures = _make_clips(cameras, home)
        bench = _Bench(cameras, pictures, whole, placement, seconds, home)
        loads = []
        for index, count in enumerate(counts):
            say(f"measuring {count} cameras …")
            loads.append(_load(bench, count, home / f"run-{index}"))
    return StreamsReport(
        cores=config.this_machine().cores,
        fps=cameras.fps,
        slow=cameras.slow,
        size=cameras.size,
        seconds=seconds,
        loads=loads,
    )


def build(spec: config.StageSpec, site: Site) -> Stage:
    """Build a stage that notes its calls; the one that publishes notes the age of each frame."""
    stage = pipeline_probe.build(spec, site)
    if not isinstance(spec.run, config.Publish) or site.out is None:
        return stage
    return AgedStage(stage, site.out)


class AgedStage(Stage):
    """Wraps the last stage: notes of each frame when it was shown and when its events were out."""

    def __init__(self, stage: Stage, out: Path) -> None:
        self._stage: Any = stage
        self._out = out
        self._done: list[tuple[str, int, int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def __call__(self, packets: Sequence[Packet]) -> list[Part]:
        parts = list(self._stage(packets))
        now_us = time.time_ns() // 1000
        for frame in (packet.frame for packet in packets):
            self._done.append((frame.source, frame.n, frame.capture_us, now_us))
        return parts

    def close(self) -> None:
        self._stage.close()
        source, n, shown_us, done_us = zip(*self._done, strict=True) if self._done else [()] * 4
        np.savez(
            self._out / FRAMES,
            source=np.array(source, str),
            n=np.array(n, np.int64),
            shown_us=np.array(shown_us, np.int64),
            done_us=np.array(done_us, np.int64),
        )


class LoadSampler:
    """Takes two samples of the processes of a run, `seconds` apart, then ends its sources.

    The run's `on_status` is `note`.
    """

    def __init__(self, cameras: int, seconds: float, until: Path) -> None:
        self._cameras = cameras
        self._seconds = seconds
        self._until = until
        self._began = time.monotonic()
        self._all_at: float | None = None  # since when all cameras are there
        self.samples: list[Sample] = []
        self.wall_us: list[int] = []  # of the samples, since 1970
        self.pids: dict[str, int] = {}

    def note(self, status: Status) -> None:
        now = time.monotonic()
        if self._all_at is None and all(one.latency_ms.most for one in status.sources):
            self._all_at = now
        if self._all_at is None:
            if now > self._began + START_S + self._cameras:
                self._until.touch()
        elif not self.samples and now >= self._all_at + SETTLE_S:
            self._sample(status)
        elif len(self.samples) == 1 and now >= self.samples[0].at + self._seconds:
            self._sample(status)
            self._until.touch()

    def _sample(self, status: Status) -> None:
        self.pids = {**status.processes, HUB: os.getpid()}
        found: dict[str, Used | None] = {name: used_by(pid) for name, pid in self.pids.items()}
        used = {name: one for name, one in found.items() if one is not None}
        self.samples.append(Sample(time.monotonic(), used))
        self.wall_us.append(time.time_ns() // 1000)


def _load(bench: _Bench, count: int, out: Path) -> StreamLoad:
    """Run the pipeline on this many cameras."""
    from streamvis.runtime import launch

    until = out.with_suffix(".end")
    sampler = LoadSampler(count, bench.seconds, until)
    specs = [_spec(bench, camera, count, until) for camera in range(count)]
    placement = bench.placement or config.default_placement(
        bench.pipeline, sources=count, live=True
    )
    summary = launch.run(
        *(bench.pipeline, placement, specs),
        build=BUILD,
        open_source=OPENER,
        out=out,
        on_status=sampler.note,
    )
    if summary.interrupted:
        raise RunError(f"the measurement of {count} cameras was ended by {summary.interrupted}")
    if len(sampler.samples) < 2:
        raise RunError(
            f"of {count} cameras not all have shown a picture within {START_S + count:g} s; run it "
            "again with fewer cameras, or on a machine with less to do"
        )
    if sampler.samples[0].used.keys() != sampler.samples[1].used.keys():
        raise RunError(
            f"a process of the run with {count} cameras died while it was measured; run it again"
        )
    with np.load(out / FRAMES) as kept:
        done = dict(kept)
    first, last = sampler.samples
    width, height = bench.cameras.size
    profile = report(
        *(bench.pipeline, placement, list(read_calls(out)), (first, last), sampler.pids),
        picture_bytes=width * height * 3,
    )
    return load_of(count, bench.cameras, done, sampler.wall_us, profile)


def load_of(
    count: int,
    cameras: Cameras,
    done: Mapping[str, Array],  # source, n, shown_us, done_us of each frame
    window_us: Sequence[int],  # begin and end, since 1970
    profile: ProfileReport,
) -> StreamLoad:
    """Return how the frames fared that were shown in the window."""
    begin, end = window_us
    inside = (done["shown_us"] >= begin) & (done["shown_us"] < end)
    ages = (done["done_us"] - done["shown_us"])[inside] / 1e3
    sources = np.unique(done["source"])
    each = [int((done["source"][inside] == one).sum()) for one in sources]
    each += [0] * (count - len(each))
    fps = cameras.fps / cameras.slow
    shown = sum(
        shown_in(done["shown_us"][done["source"] == one], fps, begin, end) for one in sources
    )
    total, hub = (
        sum(one.user_ms + one.system_ms for name, one in profile.processes.items() if name in names)
        for names in (profile.processes, (HUB,))
    )
    stages_ms = sum(one.call_p50_ms for one in profile.stages.values())
    p50, p99, most = np.quantile(ages, (0.5, 0.99, 1.0)) if len(ages) else (0.0, 0.0, 0.0)
    return StreamLoad(
        cameras=count,
        busy=cameras.busy_of(count),
        fps=round(len(ages) * 1e6 / (end - begin), 2),
        fps_shown=round(shown * 1e6 / (end - begin), 2),
        dropped=max(0, shown - len(ages)),
        age_p50_ms=round(float(p50), 1),
        age_p99_ms=round(float(p99), 1),
        age_most_ms=round(float(most), 1),
        stages_ms=round(stages_ms, 1),
        age_over_stages=round(float(p50) / stages_ms, 2) if stages_ms else 0.0,
        fairness=round(min(each) / max(*each, 1), 3),
        core_ms=profile.core_ms,
        cores=profile.cores,
        cores_needed=round(profile.core_ms * cameras.fps * count / 1e3, 2),
        hub_share=round(hub / max(total, 1e-9), 3),
        load_average=round(os.getloadavg()[0], 1),
        profile=profile,
    )


def shown_in(shown_us: Array, fps: float, begin_us: int, end_us: int) -> int:
    """Count the pictures that a camera has shown in a time, from any of them that are known."""
    before, after = ((one - int(shown_us[0])) * fps / 1e6 for one in (begin_us, end_us))
    return math.ceil(after - 1e-7) - math.ceil(before - 1e-7)


def _spec(bench: _Bench, camera: int, count: int, until: Path) -> SourceSpec:
    fps, slow = bench.cameras.fps, bench.cameras.slow
    schedule = Schedule(
        fps=fps,
        slow=slow,
        first=camera * bench.pictures // count,
        phase_s=camera / count * slow / fps,
        until=str(until),
    )
    return SourceSpec(
        id=f"cam-{camera + 1:02}",
        uri=str(bench.home / (PEOPLE if camera < bench.cameras.busy_of(count) else NOBODY)),
        kind="url",  # which may be live, so that `auto` settings are those of cameras
        retry_s=0.0,
        options={name: str(value) for name, value in msgspec.structs.asdict(schedule).items()},
    )


def _make_clips(cameras: Cameras, home: Path) -> int:
    """Write what the cameras show; return the number of pictures of each clip."""
    pictures = list(islice(_pictures(cameras), round(LONGEST_S * cameras.fps)))
    if len(pictures) < 2:
        raise DataError(
            f"source {cameras.source} has {len(pictures)} pictures at {cameras.fps:g} frames/s; "
            "expected 2 or more"
        )
    make_clip(pictures, home / PEOPLE, cameras.fps)
    return make_clip(without_people(pictures), home / NOBODY, cameras.fps)


def _pictures(cameras: Cameras) -> Iterator[Array]:
    """Yield the pictures of the source at the rate and the size of the cameras."""
    from streamvis.sources import open_source

    width, height = cameras.size
    scene = SCENE.format(fps=cameras.fps, width=width, height=height)
    spec, _ = one_recording(cameras.source or scene)
    source = open_source(spec)
    due_us = 0.0
    try:
        for picture in source:
            if picture.media_us >= due_us - 1:
                due_us += 1e6 / cameras.fps
                yield fitted(picture.pixels, cameras.size).copy()
    finally:
        source.close()
