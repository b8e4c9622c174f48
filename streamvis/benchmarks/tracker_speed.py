"""Benchmark of the time per frame of our tracker and of other trackers.

All contenders get the same detections and alternate frame by frame in one thread, so that other
load on the machine affects each of them alike. Times are CPU times.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from streamvis.api.tracker import Tracker
from streamvis.benchmarks import jpda_step, peers
from streamvis.benchmarks.jpda_step import Associate
from streamvis.benchmarks.simulated_detections import FPS, Scene, detections_of, scene
from streamvis.benchmarks.tracker_protocol import ReportedTracks, Update
from streamvis.messages import Array, Detections

OURS = "streamvis"
SIZES = (10, 20, 50, 100, 200, 500)  # people
LARGE = 50  # people: from here on the fixed cost of a frame is small
WARM_UP, ROUNDS = 12, 20  # frames; the first confirm tracks and do not count
STEP_WARM_UP, STEP_ROUNDS = 1, 10
BUDGET_S = 5.0  # per contender and scene; after it, the contender is not called again
SLOW_S = 0.5  # per frame; a slower contender does not get larger scenes
START_SCORE = 0.5  # score from which a detection starts a track in the other trackers

Prepare = Callable[[int], Callable[[], Any]]  # frame number -> the call to be timed


class TrackerSize(msgspec.Struct, frozen=True, kw_only=True):
    """Results for one number of people; None where a contender did not take part."""

    detections: int  # per frame
    ms: dict[str, float | None]  # median per frame
    reported: dict[str, float]  # mean number of tracks: half as many are half the work


class StepSize(msgspec.Struct, frozen=True, kw_only=True):
    """Results for one number of people, and the comparison with ours."""

    detections: int
    ms: dict[str, float | None]
    gated: float | UnsetType = UNSET  # mean number of detections in a target's gate
    times_as_fast: dict[str, float] | UnsetType = UNSET  # ours, over each of the others
    apart: dict[str, float] | UnsetType = UNSET  # largest difference of β from ours


class TrackerPart(msgspec.Struct, frozen=True, kw_only=True):
    """The whole update of a tracker."""

    sizes: dict[str, TrackerSize]  # by number of people
    grows_as: dict[str, float]  # k of ms ∝ people^k
    given_up: dict[str, str]  # contender -> reason


class StepPart(msgspec.Struct, frozen=True, kw_only=True):
    """One step of JPDA alone."""

    sizes: dict[str, StepSize]
    grows_as: dict[str, float]
    given_up: dict[str, str]


class SpeedReport(msgspec.Struct, frozen=True, kw_only=True):
    """Times of all contenders by the number of people."""

    tracker: TrackerPart
    jpda_step: StepPart
    not_installed: dict[str, str]  # tracker -> install command


class Timings(NamedTuple):
    """The frames of one contender."""

    seconds: list[float]
    results: list[Any]

    @property
    def ms(self) -> float | None:
        """Median; None when the budget was spent before a frame counted."""
        return statistics.median(self.seconds) * 1e3 if self.seconds else None


ByName = Mapping[str, Timings]


def measure(sizes: Sequence[int] = SIZES) -> SpeedReport:
    """Time all trackers that are installed, and the JPDA steps, on scenes of these sizes."""
    others, missing = peers.installed()
    associators = jpda_step.associators()
    trackers: dict[int, ByName] = {}
    steps: dict[int, ByName] = {}
    for people in sizes:
        simulated = scene(people, WARM_UP + ROUNDS)
        updates = {OURS: our_tracker(FPS, (simulated.width, simulated.height))}
        updates |= {name: peer.start(FPS, START_SCORE) for name, peer in others.items()}
        contenders = {name: _whole(update, simulated) for name, update in updates.items()}
        frames = range(WARM_UP + ROUNDS)
        trackers[people] = interleaved(_fast_enough(contenders, trackers), frames, WARM_UP)
        associates = {OURS: jpda_step.ours, **associators}
        contenders = {name: _step(associate, simulated) for name, associate in associates.items()}
        frames = range(1, 1 + STEP_WARM_UP + STEP_ROUNDS)
        steps[people] = interleaved(_fast_enough(contenders, steps), frames, STEP_WARM_UP)
    return SpeedReport(
        tracker=tracker_part(trackers), jpda_step=step_part(steps), not_installed=missing
    )


def interleaved(contenders: Mapping[str, Prepare], frames: Sequence[int], warm_up: int) -> ByName:
    """Alternate the contenders frame by frame, each until its budget is spent."""
    timings = {name: Timings([], []) for name in contenders}
    left = dict.fromkeys(contenders, BUDGET_S)
    for k, frame in enumerate(frames):
        for name, prepare in contenders.items():
            if left[name] <= 0:
                continue
            run = prepare(frame)
            began = time.process_time()
            result = run()
            seconds = time.process_time() - began
            left[name] -= seconds
            if k >= warm_up:
                timings[name].seconds.append(seconds)
                timings[name].results.append(result)
    return timings


def our_tracker(fps: float, size: tuple[int, int], plane: Path | None = None) -> Update:
    """Start our tracker; it reads the detections alone. plane: file with a ground plane."""
    tracker = Tracker(fps, size=size, ground_plane=plane)

    def update(detections: Detections) -> ReportedTracks:
        tracks = tracker.update(detections)
        return ReportedTracks(tracks.ids, tracks.boxes)

    return update


def _whole(update: Update, simulated: Scene) -> Prepare:
    return lambda frame: lambda: update(simulated.frames[frame])


def _step(associate: Associate, simulated: Scene) -> Prepare:
    return lambda frame: associate(jpda_step.step(simulated, frame))


def _fast_enough(
    contenders: Mapping[str, Prepare], before: Mapping[int, ByName]
) -> dict[str, Prepare]:
    """Those that were fast enough in all smaller scenes."""
    slow = _too_slow(before)
    return {name: prepare for name, prepare in contenders.items() if name not in slow}


def _too_slow(by_size: Mapping[int, ByName]) -> dict[str, str]:
    """The contenders that do not get larger scenes, and the reason."""
    slow = {}
    for people, timings in by_size.items():
        for name, of in timings.items():
            if of.ms is None:
                slow[name] = f"more than {BUDGET_S:g} s for the first frames of {people} people"
            elif of.ms > SLOW_S * 1e3:
                slow[name] = f"{of.ms / 1e3:.1f} s for a frame of {people} people"
    return slow


def tracker_part(by_size: Mapping[int, ByName]) -> TrackerPart:
    """Summarise the times of the trackers."""
    return TrackerPart(
        sizes={
            str(people): TrackerSize(
                detections=detections_of(people),
                ms=_ms(timings, by_size),
                reported=_counts(timings),
            )
            for people, timings in by_size.items()
        },
        grows_as=_exponents(by_size),
        given_up=_too_slow(by_size),
    )


def step_part(by_size: Mapping[int, ByName]) -> StepPart:
    """Summarise the times of the JPDA steps."""
    return StepPart(
        sizes={
            str(people): StepSize(
                detections=detections_of(people), ms=_ms(timings, by_size), **_compared(timings)
            )
            for people, timings in by_size.items()
        },
        grows_as=_exponents(by_size),
        given_up=_too_slow(by_size),
    )


def _ms(timings: ByName, by_size: Mapping[int, ByName]) -> dict[str, float | None]:
    """Median milliseconds of everybody who took part in the smallest scene."""
    medians = {name: of.ms for name, of in timings.items()}
    found = {name: medians.get(name) for name in next(iter(by_size.values()))}
    return {name: None if ms is None else round(ms, 3) for name, ms in found.items()}


def _counts(timings: ByName) -> dict[str, float]:
    return {
        name: round(statistics.mean(len(one.ids) for one in of.results), 1)
        for name, of in timings.items()
        if of.results
    }


def _compared(timings: ByName) -> dict[str, Any]:
    """The fields of StepSize that compare the others with ours; none without ours."""
    mine = timings.get(OURS)
    if mine is None or mine.ms is None:
        return {}
    gated = statistics.mean((beta[:, 1:] > 0).sum(axis=1).mean() for beta in mine.results)
    others = {name: of for name, of in timings.items() if name != OURS and of.ms is not None}
    return {
        "gated": round(float(gated), 2),
        "times_as_fast": {name: round((of.ms or 0) / mine.ms, 1) for name, of in others.items()},
        "apart": {name: _difference(mine.results, of.results) for name, of in others.items()},
    }


def _difference(a: Sequence[Array], b: Sequence[Array]) -> float:
    largest = max(np.abs(x - y).max() for x, y in zip(a, b, strict=False))
    return float(f"{largest:.1e}")


def _exponents(by_size: Mapping[int, ByName]) -> dict[str, float]:
    """k of ms ∝ people^k in the larger scenes, by linear regression of the logarithms."""
    points: dict[str, list[tuple[float, float]]] = {}
    for people, timings in by_size.items():
        for name, of in timings.items():
            if people >= LARGE and of.ms is not None:
                points.setdefault(name, []).append((math.log(people), math.log(of.ms)))
    return {
        name: round(statistics.linear_regression(*zip(*some, strict=True)).slope, 2)
        for name, some in points.items()
        if len(some) > 1
    }
