"""Forecast scores: segmentations forecast from past frames, compared with the frames that came.

Every forecaster starts from what one segmenter computed of past frames. Two references need no
forecaster: copy-last (the segmenter's last classes) and the oracle (its classes of the future
frame). Targets are also scored apart by whether the camera turned until they came.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from streamvis.datasets.classes import VOID, Classes
from streamvis.datasets.labelled_video import LabelledFrame, LabelledVideo
from streamvis.errors import DataError, UsageError
from streamvis.evaluation.segmentation import Confusion, Reliability, gap_closed
from streamvis.messages import Array
from streamvis.models.flow_warp import FlowFrame, flow_frame, scene_motion
from streamvis.runners.progress import Progress, silent
from streamvis.runners.scene_networks import SceneNetwork, SegmentedPicture, sized
from streamvis.runners.segmentation import Stopwatch

T = TypeVar("T")
Confusions = dict[str, Confusion]  # by method
ORACLE, COPY, COPY_TRUTH = "oracle", "copy-last", "copy-last of the labels"
LABELS, OWN = "labels", "oracle"  # the truth that forecasts are compared with
TURNING, STRAIGHT = "turning", "straight"  # parts of a video
TURNS = 3.0  # degrees a second, at least, of a camera that turns
SAMPLES = 4  # of each horizon, about
SLACK_US = 1000  # times are rounded


class SceneForecaster(Protocol):
    """Forecasts a future frame's segmentation from the states of past frames."""

    horizon_us: int  # from the newest past frame to the one that is forecast
    every_us: int  # from one past frame to the next
    past: int  # how many past frames

    @property
    def memory(self) -> object:
        """Forecasters with the same memory keep the same state of a frame and move its classes."""

    def remember(
        self, media_us: int, pixels: Array, picture: SegmentedPicture, before: Any | None = None
    ) -> Any:
        """Return the state of a frame; `before` is the state of the frame `every_us` earlier."""

    def forecast(self, past: Sequence[Any], times: int) -> Array:
        """Return classes (h, w), `times` the horizon after these states, oldest first.

        Each further step takes the forecast before it for a past frame.
        """

    def shares(self, past: Sequence[Any]) -> Array:
        """Return class probabilities (K, h, w) at every fourth pixel, one horizon ahead."""


class ForecastMethod(NamedTuple):
    """A forecaster, applied so many times that it reaches a horizon."""

    label: str
    forecaster: str
    times: int


@dataclass
class RememberedFrame:
    """A frame, its classes by the segmenter, and its states."""

    frame: LabelledFrame
    labels: Array
    states: dict[str, Any]  # by forecaster
    heading: float = 0.0  # rad, by which the camera has turned to the right since the first frame


class Window:
    """The last frames of a video, found by their media time."""

    def __init__(self, span_us: int, interval_us: float) -> None:
        self.span_us = span_us
        self.near_us = interval_us / 2 + SLACK_US  # farther away is another frame
        self.frames: deque[RememberedFrame] = deque()

    def add(self, one: RememberedFrame) -> None:
        self.frames.append(one)
        while one.frame.media_us - self.frames[0].frame.media_us > self.span_us + 2 * self.near_us:
            self.frames.popleft()

    def at(self, media_us: int) -> RememberedFrame | None:
        """Return the frame nearest to a time; None where none is near enough."""
        if not self.frames:
            return None
        best = min(self.frames, key=lambda one: abs(one.frame.media_us - media_us))
        off = abs(best.frame.media_us - media_us)
        return best if off <= self.near_us else None


class Compass:
    """The heading of a camera, from the optical flow of one frame after the other."""

    def __init__(self, classes: Classes) -> None:
        self.movable = np.isin(np.arange(len(classes.names)), classes.movable)
        self.last: FlowFrame | None = None
        self.turned = 0.0

    def heading(self, pixels: Array, classes: Array) -> float:
        """Return how far it has turned to the right since the first frame, in rad."""
        self.last = flow_frame(pixels, self.last, (classes.shape[0], classes.shape[1]))
        motion = scene_motion(self.last.flow, classes, self.movable)
        self.turned += float(motion.ego.rotation[1]) if motion else 0.0
        return self.turned


class EvenSample(Generic[T]):
    """Evenly spaced items of a stream of unknown length: fewer than twice `count`."""

    def __init__(self, count: int) -> None:
        self.count, self.step, self.offered = count, 1, 0
        self.items: list[T] = []

    def offer(self, item: T) -> None:
        if self.count and self.offered % self.step == 0:
            self.items.append(item)
        if len(self.items) == 2 * self.count:
            self.items = self.items[::2]
            self.step *= 2
        self.offered += 1


class SampledTarget(NamedTuple):
    """A frame that was forecast, the last frame before it, and its forecasts."""

    last: LabelledFrame
    target: LabelledFrame
    labels: dict[str, Array]  # by method


@dataclass
class Horizon:
    """All forecasts that look equally far ahead."""

    us: int
    methods: list[ForecastMethod]
    same: dict[str, str] = field(default_factory=dict)  # left out: label -> that of an equal method
    confusions: dict[str, Confusions] = field(default_factory=dict)  # by LABELS or OWN
    parts: dict[str, dict[str, Confusions]] = field(default_factory=dict)  # by TURNING or STRAIGHT
    reliability: dict[str, Reliability] = field(default_factory=dict)  # of movable classes
    samples: EvenSample[SampledTarget] = field(default_factory=lambda: EvenSample(SAMPLES))
    off_us: int = 0  # the farthest that a frame was from the time asked for


@dataclass(frozen=True)
class ForecastResult:
    """The scores of all forecasts of one video, and their cost."""

    video: LabelledVideo
    horizons: list[Horizon]
    segmentation: Stopwatch
    remembering: dict[str, Stopwatch]
    forecasting: dict[str, Stopwatch]

    def cost_ms(self, name: str) -> float | None:
        """The time of one forecast: to keep a frame's state, to forecast and to classify."""
        parts = (self.remembering[name].ms, self.forecasting[name].ms)
        return None if None in parts else sum(filter(None, parts))

    def report(self, segmenter: str) -> dict[str, Any]:
        """Return the report that `--json` prints. segmenter: its name."""
        segmentation = self.segmentation.ms
        costs = {name: self.cost_ms(name) for name in self.forecasting}
        return {
            "film": self.video.name,
            "fps": self.video.fps,
            "classes": self.video.classes.name,
            "segmenter": segmenter,
            "horizons": [_report(one, self.video.classes) for one in self.horizons],
            "segmentation_ms": segmentation,
            "forecast_ms": costs,
            "forecast_of_segmentation": {
                name: ms / segmentation if ms and segmentation else None
                for name, ms in costs.items()
            },
        }


def _report(horizon: Horizon, classes: Classes) -> dict[str, Any]:
    against = {}
    for kind, confusions in horizon.confusions.items():
        methods = {}
        for method, confusion in confusions.items():
            scores = asdict(confusion.scores(classes.movable))
            del scores["confusion"]
            gap, movable = gaps_closed(confusions, method, classes)
            methods[method] = {**scores, "gap_closed": gap, "movable_gap_closed": movable}
        against[kind] = {
            "targets": confusions[COPY].pictures,
            "methods": methods,
            "parts": {
                part: _part(by_kind[kind], classes)
                for part, by_kind in horizon.parts.items()
                if kind in by_kind
            },
        }
    return {
        "seconds": horizon.us / 1e6,
        "off_ms": horizon.off_us / 1e3,
        "same_by_construction": horizon.same,
        "against": against,
        "movable_reliability": {
            name: [{"forecast": p, "measured": o, "places": n} for p, o, n in one.steps()]
            for name, one in horizon.reliability.items()
        },
    }


def _part(confusions: Confusions, classes: Classes) -> dict[str, Any]:
    methods = {}
    for method, confusion in confusions.items():
        gap, movable = gaps_closed(confusions, method, classes)
        methods[method] = {
            "miou": confusion.miou(),
            "gap_closed": gap,
            "movable_gap_closed": movable,
        }
    return {"targets": confusions[COPY].pictures, "methods": methods}


def gaps_closed(
    confusions: Confusions, method: str, classes: Classes
) -> tuple[float | None, float | None]:
    """Return the share of the gap from copy-last to oracle that a method closes.

    Of all classes, and of the movable ones; None for the references themselves.
    """
    if method in (ORACLE, COPY, COPY_TRUTH):
        return None, None
    found = []
    for some in (None, classes.movable):
        copied, ours = (confusions[name].miou(some) for name in (COPY, method))
        oracle = confusions[ORACLE].miou(some) if ORACLE in confusions else 1.0
        found.append(gap_closed(copied, ours, oracle))
    return found[0], found[1]


def plan(forecasters: Mapping[str, SceneForecaster], horizons_s: Sequence[float]) -> list[Horizon]:
    """Choose the methods that reach each horizon.

    Without horizons, take those that the forecasters were trained for. Errors: UsageError for a
    horizon that no forecaster reaches.
    """
    wanted = [round(s * 1e6) for s in horizons_s] or [f.horizon_us for f in forecasters.values()]
    plans = []
    for us in sorted(set(wanted)):
        methods = [m for name, one in forecasters.items() if (m := _method(name, one, us))]
        if not methods:
            there = ", ".join(f"{f.horizon_us / 1e6:g}" for f in forecasters.values())
            raise UsageError(
                f"--horizon {us / 1e6:g}: no forecaster reaches it; they forecast {there} s ahead, "
                "and multiples of that where their past frames are as far apart"
            )
        plans.append(_without_doubles(Horizon(us, methods), forecasters))
    return plans


def _without_doubles(horizon: Horizon, forecasters: Mapping[str, SceneForecaster]) -> Horizon:
    """Leave out repeated methods whose classes equal those of a direct one by construction.

    Two forecasters of one memory move the same classes along the same flow, so that the distance
    is a matter of time alone; they differ in their probabilities.
    """
    same = {}
    for method in horizon.methods:
        one = forecasters[method.forecaster]
        for direct in horizon.methods:
            other = forecasters[direct.forecaster]
            if method.times > 1 == direct.times and _same_motion(one, other):
                same[method.label] = direct.label
    methods = [method for method in horizon.methods if method.label not in same]
    return Horizon(horizon.us, methods, same)


def _same_motion(one: SceneForecaster, other: SceneForecaster) -> bool:
    return one.memory is other.memory and one.every_us == other.every_us


def _method(name: str, forecaster: SceneForecaster, us: int) -> ForecastMethod | None:
    if abs(us - forecaster.horizon_us) <= SLACK_US:
        return ForecastMethod(name, name, 1)
    times = round(us / forecaster.horizon_us)
    steady = abs(forecaster.every_us - forecaster.horizon_us) <= SLACK_US
    if steady and times > 1 and abs(us - times * forecaster.horizon_us) <= SLACK_US:
        return ForecastMethod(f"{name}, {times} times", name, times)
    return None


def evaluate(
    video: LabelledVideo,
    network: SceneNetwork,
    forecasters: Mapping[str, SceneForecaster],
    horizons: list[Horizon],
    progress: Progress = silent,
) -> ForecastResult:
    """Read the video once; a frame is scored as soon as it has come.

    horizons: of `plan`, for any number of videos: the result has scores of its own.
    """
    names = [*forecasters]
    horizons = [Horizon(one.us, one.methods, one.same) for one in horizons]
    result = ForecastResult(
        video,
        horizons,
        Stopwatch(),
        {n: Stopwatch() for n in names},
        {n: Stopwatch() for n in names},
    )
    span = max(
        h.us + (forecasters[m.forecaster].past - 1) * forecasters[m.forecaster].every_us
        for h in horizons
        for m in h.methods
    )
    window, compass = Window(span, 1e6 / video.fps), Compass(video.classes)
    for frame in progress(video, video.name, video.frames):
        with result.segmentation.running():
            picture = network.segment(frame.pixels)
        states = {}
        for name, forecaster in forecasters.items():
            earlier = window.at(frame.media_us - forecaster.every_us)
            before = None if earlier is None else earlier.states[name]
            with result.remembering[name].running():
                states[name] = forecaster.remember(frame.media_us, frame.pixels, picture, before)
        heading = compass.heading(frame.pixels, picture.seen.classes)
        now = RememberedFrame(frame, picture.labels, states, heading)
        window.add(now)
        for horizon in horizons:
            _score(horizon, now, window, result, forecasters)
    return result


def check_scored(result: ForecastResult, path: Path) -> None:
    """Raise DataError when the video at `path` was too short for any forecast."""
    if not any(one.confusions for one in result.horizons):
        nearest = f"{result.horizons[0].us / 1e6:g} s and the past frames that a forecaster needs"
        raise DataError(f"{path}: too short for any forecast; expected more than {nearest}")


def _score(
    horizon: Horizon,
    now: RememberedFrame,
    window: Window,
    result: ForecastResult,
    forecasters: Mapping[str, SceneForecaster],
) -> None:
    """Forecast a frame that has come from those before it, and score the forecasts."""
    last = window.at(now.frame.media_us - horizon.us)
    if last is None:
        return
    pasts = [_past(last, forecasters[m.forecaster], window) for m in horizon.methods]
    if any(None in past for past in pasts):
        return
    labels = {ORACLE: now.labels, COPY: last.labels}
    for method, past in zip(horizon.methods, pasts, strict=True):
        states = [one.states[method.forecaster] for one in past if one is not None]
        watch = result.forecasting[method.forecaster] if method.times == 1 else Stopwatch()
        with watch.running():
            classes = forecasters[method.forecaster].forecast(states, method.times)
        labels[method.label] = sized(classes, now.labels.shape)
        if method.times == 1:
            shares = forecasters[method.forecaster].shares(states)
            reliability = horizon.reliability.setdefault(method.label, Reliability())
            _add_shares(reliability, shares, now, result.video)
    off_us = abs(now.frame.media_us - last.frame.media_us - horizon.us)
    horizon.off_us = max(horizon.off_us, off_us)
    rate = math.degrees(now.heading - last.heading) * 1e6 / horizon.us
    part = horizon.parts.setdefault(TURNING if abs(rate) > TURNS else STRAIGHT, {})
    for confusions in (horizon.confusions, part):
        _add_labels(confusions, now, last, labels, result.video.classes)
    horizon.samples.offer(SampledTarget(last.frame, now.frame, labels))


def _add_shares(
    reliability: Reliability, shares: Array, now: RememberedFrame, video: LabelledVideo
) -> None:
    """Count how often there was a movable class where one had been forecast."""
    truth = now.labels if now.frame.truth is None else now.frame.truth
    height, width = shares.shape[1:]
    there = sized(truth, (height, width))
    counted, movable = there != VOID, list(video.classes.movable)
    reliability.add(shares[movable].sum(0)[counted], np.isin(there, movable)[counted])


def _past(
    last: RememberedFrame, forecaster: SceneForecaster, window: Window
) -> list[RememberedFrame | None]:
    """Return the frames that a forecaster starts from, oldest first; None for a missing one."""
    steps = range(forecaster.past - 1, -1, -1)
    return [window.at(last.frame.media_us - step * forecaster.every_us) for step in steps]


def _add_labels(
    by_kind: dict[str, Confusions],
    now: RememberedFrame,
    last: RememberedFrame,
    labels: Mapping[str, Array],
    classes: Classes,
) -> None:
    """Count right and wrong pixels of each method, against the labels where there are any."""
    truth, kind = now.frame.truth, LABELS
    if truth is None:
        truth, kind = now.labels, OWN
    if kind not in by_kind:
        names = [name for name in labels if name not in (ORACLE, COPY)] + [COPY]
        names = [ORACLE, *names, COPY_TRUTH] if kind == LABELS else names
        by_kind[kind] = {name: Confusion(classes.names, VOID) for name in names}
    for name, confusion in by_kind[kind].items():
        if name != COPY_TRUTH:
            confusion.add(labels[name], truth)
        elif last.frame.truth is not None:  # pixels without a label in one of them do not count
            both = np.where(last.frame.truth == VOID, np.uint8(VOID), truth)
            confusion.add(last.frame.truth, both)
