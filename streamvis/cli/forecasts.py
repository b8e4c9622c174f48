"""What `streamvis eval forecast` does: scenes forecast, and held against what came.

Every forecaster goes on from what one segmenter keeps of past pictures, and is compared with two
that need none: copying the segmenter's last labels, and seeing the future picture (the oracle).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from streamvis.cli.films import Film, Shot
from streamvis.cli.scene_networks import Look, Network, sized
from streamvis.cli.segmentation import Clock
from streamvis.datasets.classes import VOID, Classes
from streamvis.errors import UsageError
from streamvis.evaluation.segmentation import Confusion, Reliability
from streamvis.messages import Array

T = TypeVar("T")
ORACLE, COPY, COPY_TRUTH = "oracle", "copy-last", "copy-last of the labels"
LABELS, OWN = "labels", "oracle"  # what is taken for true
STRIPS = 4  # of each horizon, about
SLACK_US = 1000  # times are rounded


class Forecaster(Protocol):
    """Says what a network will keep of a picture to come, from what it keeps of past ones."""

    horizon_us: int  # from the newest past picture to the one that is told
    every_us: int  # from one past picture to the next
    past: int  # how many

    @property
    def memory(self) -> object:
        """Those with the same one keep the same of a picture and tell classes by its motion."""

    def remember(self, media_us: int, pixels: Array, look: Look, before: Any | None = None) -> Any:
        """What is needed of a past picture; `before` is that of the one `every_us` earlier."""

    def forecast(self, past: Sequence[Any], times: int) -> Array:
        """Classes (h, w), `times` the horizon ahead of these, oldest first.

        What it tells of a nearer future it takes for seen.
        """

    def shares(self, past: Sequence[Any]) -> Array:
        """Probabilities of the classes (K, h, w) at every fourth pixel, the horizon ahead."""


class Way(NamedTuple):
    """How a horizon is reached: by which forecaster, how often applied."""

    label: str
    forecaster: str
    times: int


@dataclass
class Seen:
    """A shot as the networks saw it."""

    shot: Shot
    labels: Array  # of the segmenter
    kept: dict[str, Any]  # by each forecaster


class Window:
    """The last pictures of a film, found by their media time."""

    def __init__(self, span_us: int, interval_us: float) -> None:
        self.span_us = span_us
        self.near_us = interval_us / 2 + SLACK_US  # farther away is another moment
        self.seen: deque[Seen] = deque()
        self.off_us = 0  # the farthest that a picture was from the moment asked for

    def add(self, seen: Seen) -> None:
        self.seen.append(seen)
        while seen.shot.media_us - self.seen[0].shot.media_us > self.span_us + 2 * self.near_us:
            self.seen.popleft()

    def at(self, media_us: int) -> Seen | None:
        """The picture nearest to a moment, if there is one near."""
        if not self.seen:
            return None
        best = min(self.seen, key=lambda seen: abs(seen.shot.media_us - media_us))
        off = abs(best.shot.media_us - media_us)
        return best if off <= self.near_us else None


class Sampled(Generic[T]):
    """Some of however many items come, evenly spaced: fewer than twice `count`."""

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


class Told(NamedTuple):
    """One target as a strip shows it."""

    last: Shot
    came: Shot
    labels: dict[str, Array]  # by method


@dataclass
class Horizon:
    """All that was forecast so far ahead."""

    us: int
    ways: list[Way]
    alike: dict[str, str] = field(default_factory=dict)  # left out: label -> that of an equal way
    tallies: dict[str, dict[str, Confusion]] = field(default_factory=dict)  # by truth, by method
    sure: dict[str, Reliability] = field(default_factory=dict)  # of what moves, by method
    strips: Sampled[Told] = field(default_factory=lambda: Sampled(STRIPS))
    off_us: int = 0  # the farthest that a picture was from the moment asked for


@dataclass(frozen=True)
class Outcome:
    """How forecasts of one film came true, and what they cost."""

    film: Film
    horizons: list[Horizon]
    segmentation: Clock
    remembering: dict[str, Clock]
    forecasting: dict[str, Clock]

    def cost_ms(self, name: str) -> float | None:
        """Of one forecast: to keep what is needed of a picture, to tell and to read the scene."""
        parts = (self.remembering[name].ms, self.forecasting[name].ms)
        return None if None in parts else sum(filter(None, parts))


def plan(forecasters: Mapping[str, Forecaster], horizons_s: Sequence[float]) -> list[Horizon]:
    """Who reaches which horizon; without any named, all that a forecaster was made for."""
    wanted = [round(s * 1e6) for s in horizons_s] or [f.horizon_us for f in forecasters.values()]
    plans = []
    for us in sorted(set(wanted)):
        ways = [way for name, one in forecasters.items() if (way := _way(name, one, us))]
        if not ways:
            there = ", ".join(f"{f.horizon_us / 1e6:g}" for f in forecasters.values())
            raise UsageError(
                f"--horizon {us / 1e6:g}: none of the forecasters reaches it; they tell {there} s "
                "ahead, and multiples if their pictures are as far apart"
            )
        plans.append(_without_doubles(Horizon(us, ways), forecasters))
    return plans


def _without_doubles(horizon: Horizon, forecasters: Mapping[str, Forecaster]) -> Horizon:
    """Leave out what gives the classes of a direct way by construction.

    Two forecasters of one memory move the same classes along the same flow: how far is a matter
    of the time alone, and they differ in what they say of probabilities.
    """
    alike = {}
    for way in horizon.ways:
        one = forecasters[way.forecaster]
        for direct in horizon.ways:
            other = forecasters[direct.forecaster]
            if way.times > 1 == direct.times and _same_motion(one, other):
                alike[way.label] = direct.label
    ways = [way for way in horizon.ways if way.label not in alike]
    return Horizon(horizon.us, ways, alike)


def _same_motion(one: Forecaster, other: Forecaster) -> bool:
    return one.memory is other.memory and one.every_us == other.every_us


def _way(name: str, forecaster: Forecaster, us: int) -> Way | None:
    if abs(us - forecaster.horizon_us) <= SLACK_US:
        return Way(name, name, 1)
    times = round(us / forecaster.horizon_us)
    steady = abs(forecaster.every_us - forecaster.horizon_us) <= SLACK_US
    if steady and times > 1 and abs(us - times * forecaster.horizon_us) <= SLACK_US:
        return Way(f"{name}, {times} times", name, times)
    return None


def evaluate(
    shots: Film, network: Network, forecasters: Mapping[str, Forecaster], horizons: list[Horizon]
) -> Outcome:
    """Show the film once; a picture is a target as soon as all that is needed came before it."""
    names = [*forecasters]
    outcome = Outcome(
        shots, horizons, Clock(), {n: Clock() for n in names}, {n: Clock() for n in names}
    )
    span = max(
        h.us + (forecasters[w.forecaster].past - 1) * forecasters[w.forecaster].every_us
        for h in horizons
        for w in h.ways
    )
    window = Window(span, 1e6 / shots.fps)
    for shot in shots:
        with outcome.segmentation.running():
            look = network.look(shot.pixels)
        kept = {}
        for name, forecaster in forecasters.items():
            earlier = window.at(shot.media_us - forecaster.every_us)
            before = None if earlier is None else earlier.kept[name]
            with outcome.remembering[name].running():
                kept[name] = forecaster.remember(shot.media_us, shot.pixels, look, before)
        now = Seen(shot, look.labels, kept)
        window.add(now)
        for horizon in horizons:
            _look_back(horizon, now, window, outcome, forecasters)
    return outcome


def _look_back(
    horizon: Horizon,
    now: Seen,
    window: Window,
    outcome: Outcome,
    forecasters: Mapping[str, Forecaster],
) -> None:
    """Forecast a picture that has come, from those before it, and count how right that was."""
    last = window.at(now.shot.media_us - horizon.us)
    if last is None:
        return
    pasts = [_past(last, forecasters[way.forecaster], window) for way in horizon.ways]
    if any(None in past for past in pasts):
        return
    told = {ORACLE: now.labels, COPY: last.labels}
    for way, past in zip(horizon.ways, pasts, strict=True):
        moments = [seen.kept[way.forecaster] for seen in past if seen is not None]
        clock = outcome.forecasting[way.forecaster] if way.times == 1 else Clock()
        with clock.running():
            classes = forecasters[way.forecaster].forecast(moments, way.times)
        told[way.label] = sized(classes, now.labels.shape)
        if way.times == 1:
            shares = forecasters[way.forecaster].shares(moments)
            _weigh(horizon.sure.setdefault(way.label, Reliability()), shares, now, outcome.film)
    horizon.off_us = max(horizon.off_us, abs(now.shot.media_us - last.shot.media_us - horizon.us))
    _count(horizon, now, last, told, outcome.film.classes)
    horizon.strips.offer(Told(last.shot, now.shot, told))


def _weigh(sure: Reliability, shares: Array, now: Seen, film: Film) -> None:
    """Count how often something that moves was where it had been told to be."""
    truth = now.labels if now.shot.truth is None else now.shot.truth
    height, width = shares.shape[1:]
    there = sized(truth, (height, width))
    counted, movable = there != VOID, list(film.classes.movable)
    sure.add(shares[movable].sum(0)[counted], np.isin(there, movable)[counted])


def _past(last: Seen, forecaster: Forecaster, window: Window) -> list[Seen | None]:
    """The pictures that it goes on from, oldest first; None for one that there is not."""
    steps = range(forecaster.past - 1, -1, -1)
    return [window.at(last.shot.media_us - step * forecaster.every_us) for step in steps]


def _count(
    horizon: Horizon, now: Seen, last: Seen, told: Mapping[str, Array], classes: Classes
) -> None:
    truth, kind = now.shot.truth, LABELS
    if truth is None:
        truth, kind = now.labels, OWN
    if kind not in horizon.tallies:
        methods = [ORACLE, *(way.label for way in horizon.ways), COPY]
        methods = [*methods, COPY_TRUTH] if kind == LABELS else methods[1:]
        horizon.tallies[kind] = {method: Confusion(classes.names, VOID) for method in methods}
    for method, confusion in horizon.tallies[kind].items():
        if method != COPY_TRUTH:
            confusion.add(told[method], truth)
        elif last.shot.truth is not None:  # what has no label in one of them cannot be compared
            both = np.where(last.shot.truth == VOID, np.uint8(VOID), truth)
            confusion.add(last.shot.truth, both)
