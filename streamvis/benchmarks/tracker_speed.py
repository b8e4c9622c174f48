"""What `streamvis bench tracker` measures: our tracker's time among other people's.

Contenders see the same detections and take turns frame by frame in one thread, so that a busy
machine is busy for each of them. What counts is the time of the CPU, not that on the wall.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamvis.benchmarks import jpda_step, peers
from streamvis.benchmarks.jpda_step import Associate
from streamvis.benchmarks.peers import Follow, Reported
from streamvis.benchmarks.simulated_detections import FPS, Scene, detections_of, scene
from streamvis.cli.output import put, put_table
from streamvis.config import Jipda
from streamvis.messages import Array, Detections, SourceInfo
from streamvis.tracking.tracker import Tracker

OURS = "streamvis"
SIZES = (10, 20, 50, 100, 200, 500)  # people
LARGE = 50  # people: from here on what is fixed in a frame's cost weighs little
WARM_UP, ROUNDS = 12, 20  # frames; the first confirm tracks and do not count
STEP_WARM_UP, STEP_ROUNDS = 1, 10
BUDGET_S = 5.0  # of a contender for a scene: whoever has spent it takes no further part
SLOW_S = 0.5  # a frame: whoever takes longer is not shown larger scenes
START_SCORE = 0.5  # what lets the peers start a track

Prepare = Callable[[int], Callable[[], Any]]  # frame number -> what is to be timed


class Turns(NamedTuple):
    """What one contender has done, frame by frame."""

    seconds: list[float]
    results: list[Any]

    @property
    def ms(self) -> float | None:
        """Median; None when its budget was spent before a frame counted."""
        return statistics.median(self.seconds) * 1e3 if self.seconds else None


Taken = Mapping[str, Turns]


def measure(sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Milliseconds a frame by the number of people, and how they grow with it."""
    others, missing = peers.installed()
    associators = jpda_step.associators()
    trackers: dict[int, Taken] = {}
    steps: dict[int, Taken] = {}
    for people in sizes:
        seen = scene(people, WARM_UP + ROUNDS)
        follows = {OURS: ours(_source(seen), Jipda())}
        follows |= {name: peer.start(FPS, START_SCORE) for name, peer in others.items()}
        contenders = {name: _whole(follow, seen) for name, follow in follows.items()}
        frames = range(WARM_UP + ROUNDS)
        trackers[people] = turns(_able(contenders, trackers), frames, WARM_UP)
        associates = {OURS: jpda_step.ours, **associators}
        contenders = {name: _step(associate, seen) for name, associate in associates.items()}
        frames = range(1, 1 + STEP_WARM_UP + STEP_ROUNDS)
        steps[people] = turns(_able(contenders, steps), frames, STEP_WARM_UP)
    return {
        "tracker": _summary(trackers, lambda taken: {"reported": _counts(taken)}),
        "jpda_step": _summary(steps, _compared),
        "not_installed": missing,
    }


def turns(contenders: Mapping[str, Prepare], frames: Sequence[int], warm_up: int) -> Taken:
    """Let contenders take turns, each for as long as its budget lasts."""
    taken = {name: Turns([], []) for name in contenders}
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
                taken[name].seconds.append(seconds)
                taken[name].results.append(result)
    return taken


def ours(source: SourceInfo, config: Jipda) -> Follow:
    """The whole of our tracker's update: predict, gate, associate, exist, give birth, report."""
    tracker, numbers = Tracker(source, config), itertools.count()

    def follow(detections: Detections) -> Reported:
        tracks = tracker.update(detections, round(next(numbers) * 1e6 / source.fps))
        return Reported(tracks.ids, tracks.boxes)

    return follow


def _source(seen: Scene) -> SourceInfo:
    return SourceInfo(
        id="crowd", label="crowd", width=seen.width, height=seen.height, fps=FPS, live=False
    )


def _whole(follow: Follow, seen: Scene) -> Prepare:
    return lambda frame: lambda: follow(seen.frames[frame])


def _step(associate: Associate, seen: Scene) -> Prepare:
    return lambda frame: associate(jpda_step.step(seen, frame))


def _able(contenders: Mapping[str, Prepare], before: Mapping[int, Taken]) -> dict[str, Prepare]:
    """Those that were fast enough in all smaller scenes."""
    slow = _given_up(before)
    return {name: prepare for name, prepare in contenders.items() if name not in slow}


def _given_up(by_size: Mapping[int, Taken]) -> dict[str, str]:
    """Who is too slow for larger scenes than those shown, and why."""
    slow = {}
    for people, taken in by_size.items():
        for name, of in taken.items():
            if of.ms is None:
                slow[name] = f"more than {BUDGET_S:g} s for the first frames of {people} people"
            elif of.ms > SLOW_S * 1e3:
                slow[name] = f"{of.ms / 1e3:.1f} s for a frame of {people} people"
    return slow


def _summary(
    by_size: Mapping[int, Taken], more: Callable[[Taken], dict[str, Any]]
) -> dict[str, Any]:
    names = list(next(iter(by_size.values()), {}))
    return {
        "sizes": {
            str(people): {
                "detections": detections_of(people),
                "ms": {name: _ms(taken.get(name)) for name in names},
                **more(taken),
            }
            for people, taken in by_size.items()
        },
        "grows_as": _exponents(by_size),
        "given_up": _given_up(by_size),
    }


def _ms(of: Turns | None) -> float | None:
    return None if of is None or of.ms is None else round(of.ms, 3)


def _counts(taken: Taken) -> dict[str, float]:
    """How many each follows, on average: half as many are half the work."""
    return {
        name: round(statistics.mean(len(one.ids) for one in of.results), 1)
        for name, of in taken.items()
        if of.results
    }


def _compared(taken: Taken) -> dict[str, Any]:
    """How many detections are gated, how much slower others are, how far their β from ours."""
    mine = taken.get(OURS)
    if mine is None or mine.ms is None:
        return {}
    gated = statistics.mean((beta[:, 1:] > 0).sum(axis=1).mean() for beta in mine.results)
    others = {name: of for name, of in taken.items() if name != OURS and of.ms is not None}
    return {
        "gated": round(float(gated), 2),
        "times_as_fast": {name: round((of.ms or 0) / mine.ms, 1) for name, of in others.items()},
        "apart": {name: _apart(mine.results, of.results) for name, of in others.items()},
    }


def _apart(a: Sequence[Array], b: Sequence[Array]) -> float:
    furthest = max(np.abs(x - y).max() for x, y in zip(a, b, strict=False))
    return float(f"{furthest:.1e}")


def _exponents(by_size: Mapping[int, Taken]) -> dict[str, float]:
    """k of ms ∝ people^k among the larger scenes, fitted to logarithms."""
    points: dict[str, list[tuple[float, float]]] = {}
    for people, taken in by_size.items():
        for name, of in taken.items():
            if people >= LARGE and of.ms is not None:
                points.setdefault(name, []).append((math.log(people), math.log(of.ms)))
    return {
        name: round(statistics.linear_regression(*zip(*some, strict=True)).slope, 2)
        for name, some in points.items()
        if len(some) > 1
    }


def put_speed(found: Mapping[str, Any]) -> None:
    """The times as tables."""
    _put("The whole tracker, CPU ms a frame", found["tracker"])
    _put("A step of JPDA, CPU ms, and times ours", found["jpda_step"])
    for part in (found["tracker"], found["jpda_step"]):
        for name, why in part["given_up"].items():
            put(f"{name} was given up: {why}")
    for name, install in found["not_installed"].items():
        put(f"{name} is not installed: {install}")


def _put(title: str, part: Mapping[str, Any]) -> None:
    sizes, growth = part["sizes"], part["grows_as"]
    names = list(next(iter(sizes.values()), {"ms": {}})["ms"])
    rows = [
        [f"{people} × {at['detections']}", *(_cell(name, at) for name in names)]
        for people, at in sizes.items()
    ]
    exponents = (f"people^{growth[name]:.2f}" if name in growth else "" for name in names)
    rows.append(["grows as", *exponents])
    put_table(title, ("people × detections", *names), rows)


def _cell(name: str, at: Mapping[str, Any]) -> str:
    ms, ratio = at["ms"][name], at.get("times_as_fast", {}).get(name)
    shown = "–" if ms is None else f"{ms:.2f}"
    return shown if ratio is None else f"{shown} = {ratio:.0f} ×"
