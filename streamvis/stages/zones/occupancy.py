"""How many people are in each zone, as a distribution, now and in some seconds. Pure.

The persons of a zone are independent: of the number, the mean is the sum of the probabilities p of
each to be there, the variance that of p (1 - p), and the zone is empty with the product of (1 - p)
(a Poisson binomial distribution). p is the probability that the person exists, times that its
anchor is inside: a normal distribution of the anchor against the nearest edge of the zone. Of the
track's probability it is the root: a person who is hidden in one frame is mostly so in the next,
so that missed detections say half of what they would say one by one.
"""

from bisect import bisect_right, insort_right
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.special import ndtr

from streamvis.messages import Array
from streamvis.stages.zones.events import (
    ForecastOutcome,
    Occupancy,
    OccupancyForecast,
    ZoneBody,
    ZoneClear,
    ZoneCrowd,
    ZoneCrowded,
    ZoneForecastMade,
    ZoneScored,
    ZoneState,
    ZoneUpdate,
)
from streamvis.stages.zones.observed import Observed
from streamvis.stages.zones.shapes import STANDING_M, Group, Near
from streamvis.zone_layout import Zone

NEVER_US = 2**62
NOISE_SHARE = 0.05  # sd of the anchor by how boxes are drawn, share of the person's height; the
# detector errs alike in consecutive frames, so that this does not average out
FORESHORTENED = 0.5  # variance in the picture over that on the ground, mean over both axes: the
# camera sees little of depth
DRIFT_PER_S = 0.3  # sd of a change of velocity in a second, heights of the person per second
FAR = 5.0  # standard deviations from the edge of a zone, where the probability is as good as 0 or 1
LARGEST_SHARE = 5.0  # a position less certain than so many heights is as uncertain as that


class Promise(msgspec.Struct, array_like=True):
    """A published forecast that is not scored yet."""

    target_us: int
    zone: int
    horizon_us: int
    made_us: int
    p_occupied: float
    mean: float


class ZoneReport(msgspec.Struct, array_like=True):
    """What was published of the number of people in one zone, and what is next."""

    people: int = 0
    crowded: bool = False
    changed_us: int | None = None  # since when the number says otherwise than `crowded`
    due_us: int | None = None  # of the next zone.update; None: nothing to publish
    last_us: int | None = None  # of the last zone.update


class ReportState(msgspec.Struct, array_like=True):
    """All that a report remembers."""

    reports: dict[int, ZoneReport]
    entries: dict[int, int]
    earliest: dict[int, int | None]
    numbers: list[list[float]]
    promises: list[Promise]
    next_forecast_us: int


class ReportSettings(NamedTuple):
    """How often zones are published, and how far ahead they are forecast."""

    update_us: int = 1_000_000
    horizons_us: tuple[int, ...] = ()


def deviations(observed: Observed, group: Group) -> Array:
    """Return the standard deviation (N,) of the anchors, px or m as the group has them."""
    heights = np.maximum(observed.boxes[:, 3] - observed.boxes[:, 1], 1.0)
    own = (observed.variance[:, 0] + observed.variance[:, 1]) / 2  # (N,) px² or m²
    on_ground = group.key.space == "ground"
    scale = np.full(len(heights), STANDING_M) if on_ground else heights
    noise = (NOISE_SHARE * scale) ** 2
    if observed.ground_space:  # filtered with errors of the plane, which do not average out either
        own = own if on_ground else own * FORESHORTENED * (heights / STANDING_M) ** 2
        variance = np.maximum(own, noise)
    else:
        own = np.nan_to_num(observed.ground_variance) if on_ground else own
        variance = own + noise
    largest = np.minimum(variance, (LARGEST_SHARE * scale) ** 2)
    return np.asarray(np.maximum(np.sqrt(largest), 1e-9))


class Placed(NamedTuple):
    """Where the N tracks of a frame are, for the zones of a group."""

    points: Array  # (N, 2) anchors, px or m
    known: Array  # (N,) bool, who may count
    deviation: Array  # (N,) of the anchors
    near: Near


def placed(observed: Observed, group: Group) -> Placed:
    """Return where the tracks of a frame are."""
    points, deviation = group.points(observed), deviations(observed, group)
    near = group.near(points, FAR * deviation)
    return Placed(points, group.rows(observed), deviation, near)


def ahead(observed: Observed, group: Group, now: Placed, ahead_us: int) -> Placed:
    """Return where the tracks of a frame will be."""
    seconds = ahead_us / 1e6
    points = now.points + seconds * _velocity(observed, group)
    deviation = np.hypot(now.deviation, _drift(observed, group, seconds))
    return Placed(points, now.known, deviation, group.near(points, FAR * deviation))


def probabilities(p_exist: Array, group: Group, there: Placed) -> Array:
    """Return the probability (N, Z) of each track to be in each zone of a group."""
    k, z, within, distance = there.near
    p = np.where(group.outside, ndtr(FAR), ndtr(-FAR))  # (Z,) far from the polygon
    p = np.repeat(p[None], len(p_exist), axis=0)
    inward = np.where(within != group.outside[z], distance, -distance)
    p[k, z] = ndtr(inward / there.deviation[k])
    p *= (np.sqrt(p_exist) * there.known)[:, None]
    return p


def _velocity(observed: Observed, group: Group) -> Array:
    if group.key.space == "image":
        return observed.velocity
    return np.nan_to_num(observed.ground_velocity)


def _drift(observed: Observed, group: Group, seconds: float) -> Array:
    """Return the sd (N,) by which a person is elsewhere than at the velocity of now."""
    heights = np.maximum(observed.boxes[:, 3] - observed.boxes[:, 1], 1.0)
    scale = np.full(len(heights), STANDING_M) if group.key.space == "ground" else heights
    own = observed.variance[:, 2:].mean(axis=1) * seconds**2
    same = observed.ground_space == (group.key.space == "ground")
    own = own if same else np.zeros(len(heights))
    grown = np.sqrt(own + (DRIFT_PER_S * scale) ** 2 * seconds**3 / 3)
    return np.asarray(np.minimum(grown, LARGEST_SHARE * scale))


def numbers_of(p: Array, unseen: Array | float = 0.0) -> Array:
    """Return mean, sd and the probability of at least one (3, Z), of probabilities (N, Z).

    unseen: expected number (Z,) of people who are not followed.
    """
    absent = 1 - p
    numbers = np.empty((3, p.shape[1]))
    numbers[0] = p.sum(axis=0) + unseen
    numbers[1] = np.sqrt((p * absent).sum(axis=0) + unseen)
    numbers[2] = 1 - absent.prod(axis=0) * np.exp(-unseen)
    return numbers


class OccupancyReport:
    """What is published of the number of people in the zones of a source."""

    def __init__(self, settings: ReportSettings) -> None:
        self.settings = settings
        self.zones: dict[int, Zone] = {}  # by number of the machine
        self.reports: dict[int, ZoneReport] = {}
        self.entries: dict[int, int] = {}
        self.earliest: dict[int, int | None] = {}  # when the first of those inside has entered
        self.numbers = np.zeros((3, 0))  # mean, sd and p_occupied of the zones, in their order
        self.promises: list[Promise] = []  # by time
        self._place: dict[int, int] = {}  # of a zone among all
        self._idle: set[int] = set()  # zones of which nothing is due
        self.next_forecast_us = 0
        self._soonest_us = NEVER_US  # nothing is due before

    def set_zones(self, zones: dict[int, Zone]) -> None:
        """Change the zones; those that stay go on."""
        before = {z: self.numbers[:, i] for z, i in self._place.items()}
        self.reports = {z: self.reports.get(z, ZoneReport()) for z in zones}
        self.entries = {z: self.entries.get(z, 0) for z in zones}
        self.earliest = {z: self.earliest.get(z) for z in zones}
        numbers = [before.get(z, np.zeros(3)) for z in zones]
        self.numbers = np.array(numbers).reshape(-1, 3).T.copy()
        self.promises = [one for one in self.promises if one.zone in zones]
        self._arrange(zones)

    def _arrange(self, zones: dict[int, Zone]) -> None:
        self.zones = zones
        self._place = {z: i for i, z in enumerate(zones)}
        self._idle = {z for z, report in self.reports.items() if report.due_us is None}

    def restart(self) -> None:
        """Begin a stream epoch, with nobody in the zones."""
        self.reports = {z: ZoneReport() for z in self.zones}
        self._soonest_us = NEVER_US
        self.earliest = dict.fromkeys(self.zones)
        self.numbers = np.zeros((3, len(self.zones)))
        self.promises = []
        self._idle = set(self.zones)
        self.next_forecast_us = 0

    def occupancy(self, zone: int) -> Occupancy:
        """Return the occupancy of a zone, for events."""
        mean, sd, p_occupied = self.numbers[:, self._place[zone]].tolist()
        return Occupancy(
            people=self.reports[zone].people,
            mean=round(mean, 3),
            sd=round(sd, 3),
            p_occupied=round(p_occupied, 4),
        )

    def set_inside(self, zone: int, since: Collection[int], at_us: int, now_us: int) -> None:
        """Set when those who are inside have entered; `at_us` is when that changed."""
        self.earliest[zone] = min(since, default=None)
        report, crowd = self.reports[zone], self.zones[zone].crowd
        if len(since) == report.people:
            return
        report.people = len(since)
        if crowd is not None:
            differs = (report.people >= crowd) != report.crowded
            if not differs:
                report.changed_us = None
            elif report.changed_us is None:
                report.changed_us = at_us
                self._soonest_us = 0
        self._changed(zone, now_us)

    def set_numbers(self, zones: Sequence[int], numbers: Array, now_us: int) -> None:
        """Set the distributions (3, Z) of the numbers of people in some zones."""
        at: list[int] | slice = [self._place[zone] for zone in zones]
        if at == list(range(len(self._place))):
            at = slice(None)  # which is faster
        changed = np.abs(numbers[0] - self.numbers[0, at]) >= 0.0005
        self.numbers[:, at] = numbers
        if self._idle:
            for zone, moved in zip(zones, changed.tolist(), strict=True):
                if zone in self._idle and (moved or self.reports[zone].people):
                    self._changed(zone, now_us)

    def entered(self, zone: int, more: int, now_us: int) -> None:
        """Count visits of a zone, or take some back."""
        self.entries[zone] += more
        self._changed(zone, now_us)

    def _changed(self, zone: int, now_us: int) -> None:
        report = self.reports[zone]
        if report.due_us is None:
            last = report.last_us
            report.due_us = now_us if last is None else max(last + self.settings.update_us, now_us)
            self._soonest_us = min(self._soonest_us, report.due_us)
            self._idle.discard(zone)

    def publish(self, until_us: int) -> list[ZoneBody]:
        """Return what is due until a time, in order of time."""
        if until_us < self._soonest_us:
            return []
        due: list[tuple[int, int, int, Promise | None]] = []  # when, kind, zone
        for zone, report in self.reports.items():
            if report.changed_us is not None:
                crowd_us = report.changed_us + round(self.zones[zone].crowd_s * 1e6)
                if crowd_us <= until_us:
                    due.append((crowd_us, 0, zone, None))
            if report.due_us is not None and report.due_us <= until_us:
                due.append((report.due_us, 1, zone, None))
        kept = bisect_right(self.promises, until_us, key=lambda one: one.target_us)
        due += [(one.target_us, 2, one.zone, one) for one in self.promises[:kept]]
        del self.promises[:kept]
        due.sort(key=lambda one: one[:2])
        bodies = [self._due(kind, zone, promise) for _, kind, zone, promise in due]
        self._soonest_us = min(self._times(), default=NEVER_US)
        return bodies

    def _times(self) -> Iterator[int]:
        """Return when what is known to come is due."""
        for zone, report in self.reports.items():
            if report.changed_us is not None:
                yield report.changed_us + round(self.zones[zone].crowd_s * 1e6)
            if report.due_us is not None:
                yield report.due_us
        yield from (promise.target_us for promise in self.promises[:1])

    def _due(self, kind: int, zone: int, promise: Promise | None) -> ZoneBody:
        """Return a body that is due, after those that were due before it."""
        if promise is not None:
            return self._score(promise)
        report = self.reports[zone]
        return self._update(zone, report) if kind else self._crowd(zone, report)

    def _crowd(self, zone: int, report: ZoneReport) -> ZoneBody:
        at_us, report.changed_us = report.changed_us or 0, None
        report.crowded = not report.crowded
        crowd = ZoneCrowd(
            name=self.zones[zone].name,
            at_us=at_us,
            people=report.people,
            threshold=self.zones[zone].crowd or 0,
        )
        return ZoneCrowded(crowd) if report.crowded else ZoneClear(crowd)

    def _update(self, zone: int, report: ZoneReport) -> ZoneBody:
        report.last_us, report.due_us = report.due_us, None
        self._idle.add(zone)
        now_us, earliest_us = report.last_us or 0, self.earliest[zone]
        longest_us = 0 if earliest_us is None else max(now_us - earliest_us, 0)
        return ZoneUpdate(
            ZoneState(
                name=self.zones[zone].name,
                occupancy=self.occupancy(zone),
                longest_s=round(longest_us / 1e6, 3),
                entries=self.entries[zone],
                crowded=report.crowded,
            )
        )

    def _score(self, promise: Promise) -> ZoneBody:
        people = self.reports[promise.zone].people
        return ZoneScored(
            ForecastOutcome(
                name=self.zones[promise.zone].name,
                horizon_us=promise.horizon_us,
                made_us=promise.made_us,
                p_occupied=promise.p_occupied,
                mean=promise.mean,
                people=people,
                brier=round((promise.p_occupied - (people > 0)) ** 2, 4),
            )
        )

    def forecast(self, observed: Observed, groups: dict[int, Group]) -> list[ZoneBody]:
        """Return the forecasts that are due; each is scored when its time has come."""
        if not self.settings.horizons_us or not len(observed.ids):
            return []
        if observed.media_us < self.next_forecast_us:
            return []
        self.next_forecast_us = observed.media_us + self.settings.update_us
        bodies: list[ZoneBody] = []
        for group in groups.values():
            if not len(group.zones):
                continue
            now = placed(observed, group)
            for horizon_us in self.settings.horizons_us:
                then = ahead(observed, group, now, horizon_us)
                mean, _, occupied = numbers_of(probabilities(observed.p_exist, group, then))
                values = zip(group.zones.tolist(), mean.tolist(), occupied.tolist(), strict=True)
                bodies += [
                    self._forecast(observed, zone, horizon_us, number, p)
                    for zone, number, p in values
                ]
        return bodies

    def _forecast(
        self, observed: Observed, zone: int, horizon_us: int, mean: float, p: float
    ) -> ZoneBody:
        name, now_us = self.zones[zone].name, observed.media_us
        mean, p = round(mean, 3), round(p, 4)
        self._soonest_us = min(self._soonest_us, now_us + horizon_us)
        promise = Promise(now_us + horizon_us, zone, horizon_us, now_us, p, mean)
        insort_right(self.promises, promise, key=lambda one: one.target_us)
        return ZoneForecastMade(
            OccupancyForecast(
                name=name,
                horizon_us=horizon_us,
                target_us=now_us + horizon_us,
                p_occupied=p,
                mean=mean,
                p_scene=observed.scene.get((name, horizon_us)),
            )
        )

    def state(self) -> ReportState:
        """Return what `restore` continues from."""
        return ReportState(
            self.reports,
            self.entries,
            self.earliest,
            self.numbers.tolist(),
            self.promises,
            self.next_forecast_us,
        )

    def restore(self, state: ReportState, zones: dict[int, Zone]) -> None:
        """Continue from a state."""
        self.reports, self.entries, self.earliest = state.reports, state.entries, state.earliest
        self.numbers = np.array(state.numbers, np.float64).reshape(3, len(zones))
        self._arrange(zones)
        self.promises, self.next_forecast_us = state.promises, state.next_forecast_us
        self._soonest_us = 0
