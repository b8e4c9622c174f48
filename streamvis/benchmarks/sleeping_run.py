"""A real run of live cameras whose workers sleep for as long as simulated ones work."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.benchmarks.hub import Probe
from streamvis.benchmarks.simulated_cluster import (
    DETECT,
    PIPELINE,
    PUBLISH,
    SLOTS,
    TRACK,
    Costs,
    phases_s,
)
from streamvis.benchmarks.streams import FRAMES, AgedStage, LoadSampler, shown_in
from streamvis.config import Placement, StageSpec, WorkerSpec
from streamvis.errors import RunError
from streamvis.messages import Array, Packet, Part, SourceInfo
from streamvis.sources.picture import Ended, Picture, Waiting
from streamvis.sources.spec import SourceSpec
from streamvis.stages.protocol import Site, Stage, part_name

# What the workers sleep for: 64 frames/s at most, which two cores can follow.
COSTS = Costs(call_ms=5.0, detect_ms=15.0, track_ms=2.0, publish_ms=1.0, far_us=60.0)
BATCH = 8
MS = {DETECT: COSTS.detect_ms, TRACK: COSTS.track_ms, PUBLISH: COSTS.publish_ms}  # for each frame


class SleepingRun(NamedTuple):
    """What came of the pictures that were shown in the time that counts."""

    done: float  # share
    ages_s: Array  # (n,) float64: from shown to out


class BlankSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a camera shows its pictures."""

    fps: float
    phase_s: float
    until: str  # path of a file whose appearance ends the camera


class BlankCamera:
    """A camera of small black pictures."""

    def __init__(self, spec: SourceSpec, epoch: int = 1, waiting: Waiting | None = None) -> None:
        self._schedule = msgspec.convert(spec.options, BlankSchedule, strict=False)
        self.errors = 0
        self.ended: Ended | None = None
        self.info = SourceInfo(
            id=spec.id,
            label=spec.id,
            width=8,
            height=8,
            fps=self._schedule.fps,
            live=True,
            epoch=epoch,
        )

    def __iter__(self) -> Iterator[Picture]:
        plan = self._schedule
        pixels = np.zeros((8, 8, 3), np.uint8)
        zero_s = (time.time() // (1 / plan.fps) + 1) / plan.fps + plan.phase_s
        n = 0
        while not Path(plan.until).exists():
            due_s = zero_s + n / plan.fps
            time.sleep(max(0.0, due_s - time.time()))
            media_us = round(n * 1e6 / plan.fps)
            shown_us = round(due_s * 1e6)
            yield Picture(
                pixels=pixels, n=n, media_us=media_us, capture_us=shown_us, clock="arrival"
            )
            n += 1
        self.ended = "eof"

    def close(self) -> None:
        pass


class SleepingStage(Probe):
    """A stage that sleeps for as long as a call would take."""

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Part]:
        call_ms = COSTS.call_ms if self.name == DETECT else 0.0
        time.sleep((call_ms + len(packets) * MS[self.name]) / 1e3)
        return super().__call__(packets)

    def close(self) -> None:
        pass


def build(spec: StageSpec, site: Site) -> Stage:
    """Build a sleeping stage; the one that publishes notes the age of each frame."""
    stage = SleepingStage(spec.name, part_name(spec.run.writes), None)
    return AgedStage(stage, site.out) if spec.name == PUBLISH and site.out else stage


def run(cameras: int, fps: float, seconds: float, out: Path, seed: int = 0) -> SleepingRun:
    """Run so many cameras; pictures that are shown in `seconds` count."""
    from streamvis.runtime import launch

    until = out / "end"
    sampler = LoadSampler(cameras, seconds, until)
    schedules = [
        BlankSchedule(fps=fps, phase_s=phase_s, until=str(until))
        for phase_s in phases_s(cameras, fps, seed)
    ]
    specs = [
        SourceSpec(id=f"cam{n}", uri=f"cam{n}", kind="url", options=options_of(schedule))
        for n, schedule in enumerate(schedules)
    ]
    workers = [WorkerSpec([DETECT], batch=BATCH), WorkerSpec([TRACK]), WorkerSpec([PUBLISH])]
    launch.run(
        *(PIPELINE, Placement(workers=workers, slots=SLOTS), specs),
        build="streamvis.benchmarks.sleeping_run:build",
        open_source="streamvis.benchmarks.sleeping_run:BlankCamera",
        out=out / "run",
        on_status=sampler.note,
    )
    if len(sampler.wall_us) < 2:
        raise RunError(f"of {cameras} cameras not all have shown a picture; use fewer cameras")
    with np.load(out / "run" / FRAMES) as kept:
        done = dict(kept)
    begin, end = sampler.wall_us
    inside = (done["shown_us"] >= begin) & (done["shown_us"] < end)
    shown = sum(
        shown_in(done["shown_us"][done["source"] == one], fps, begin, end)
        for one in np.unique(done["source"])
    )
    ages = (done["done_us"] - done["shown_us"])[inside] / 1e6
    return SleepingRun(len(ages) / max(1, shown), ages)


def options_of(schedule: BlankSchedule) -> dict[str, str]:
    return {name: str(value) for name, value in msgspec.structs.asdict(schedule).items()}
