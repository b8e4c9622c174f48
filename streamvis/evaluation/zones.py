"""What happens in zones and on lines by the ground truth of a sequence, computed by brute force.

    truth = true_record(people_rows, layout, SequenceTime(length, fps), size)
    truth.crossings, truth.visits, truth.people

It shares no code with the stage that counts: each path is known from its beginning to its end, and
is sampled every 10 ms, so that the definitions can be applied as they are written.

*Visit*: begins once the anchor has been inside for `enter_s` and ends once it has been outside for
`exit_s`, or where the path ends. *Crossing*: the anchor has been beyond the band on one side, then
is beyond it on the other for `settle_s` or until the path ends, and in between it has cut the
segment once more in this direction than in the other. Where the picture ends behind the line, the
band covers at most half of what is left.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

import numpy as np

from streamvis.datasets.motchallenge import PEDESTRIAN, Rows
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.zone_layout import Anchor, Line, Zone, ZoneLayout

Way = Literal["left_to_right", "right_to_left"]
SAMPLE_S = 0.01
LONGEST_GAP_S = 2.0  # a person without boxes for longer was away: a new path begins


class CountedCrossing(NamedTuple):
    """A crossing of a line."""

    line: int  # index in the layout
    way: Way
    at_s: float


class CountedVisit(NamedTuple):
    """A stay in a zone."""

    zone: int  # index in the layout
    entered_s: float
    left_s: float  # or the last time inside
    ended: bool = True  # False: inside until the end of the sequence

    @property
    def dwell_s(self) -> float:
        return self.left_s - self.entered_s


@dataclass(frozen=True)
class ZoneRecord:
    """What happens in the Z zones and on the lines of a sequence of F frames, as one counts it."""

    crossings: list[CountedCrossing]  # by time
    visits: list[CountedVisit]  # by time of entry
    people: Array  # (F, Z) number of people inside
    mean: Array  # (F, Z) expected number of people inside; of who has none, the number
    p_occupied: Array  # (F, Z) probability that anyone is inside; of who has none, 0 or 1


class SequenceTime(NamedTuple):
    """The frames of a sequence."""

    length: int
    fps: float

    def at(self, frames: Array) -> Array:
        """Return the times (N,) in seconds of frames (N,), which are numbered from 1."""
        return (frames - 1) / self.fps


class PersonPath(NamedTuple):
    """The boxes of one person in consecutive frames; they may be missing in some."""

    frames: Array  # (T,) ascending, from 1
    boxes: Array  # (T, 4)


class Samples(NamedTuple):
    """A path at steps of 10 ms, interpolated linearly."""

    times: Array  # (S,) seconds
    boxes: Array  # (S, 4)

    def anchor(self, anchor: Anchor) -> Array:
        """Return the points (S, 2) that have to be inside, or to cross."""
        x1, y1, x2, y2 = self.boxes.T
        return np.stack([(x1 + x2) / 2, y2 if anchor == "foot" else (y1 + y2) / 2], axis=1)


def true_record(
    truth: Rows, layout: ZoneLayout, time: SequenceTime, size: tuple[int, int]
) -> ZoneRecord:
    """Return what happens by ground truth. size: width and height of the picture in pixels."""
    if layout.needs_ground:
        raise DataError("zones and lines on the ground are not scored; give shares of the picture")
    crossings: list[CountedCrossing] = []
    visits: list[CountedVisit] = []
    people = np.zeros((time.length, len(layout.zones)), np.int64)
    for path in paths_of(truth, time.fps):
        samples = sampled(path, time)
        last = path.frames[-1] == time.length
        for i, line in enumerate(layout.lines):
            found = line_crossings(samples, line, size)
            crossings += [CountedCrossing(i, way, at_s) for way, at_s in found]
        for i, zone in enumerate(layout.zones):
            inside = inside_zone(samples.anchor(zone.anchor), zone, size)
            stays = zone_visits(samples.times, inside, zone)
            visits += [CountedVisit(i, *stay) for stay in stays]
            if last and inside[-1] and stays:
                visits[-1] = visits[-1]._replace(ended=False)
            frames = np.arange(path.frames[0], path.frames[-1] + 1)
            nearest = np.rint((time.at(frames) - samples.times[0]) / SAMPLE_S).astype(int)
            people[frames - 1, i] += inside[np.minimum(nearest, len(inside) - 1)]
    return ZoneRecord(
        sorted(crossings, key=lambda one: one.at_s),
        sorted(visits, key=lambda one: one.entered_s),
        people,
        people.astype(float),
        (people > 0).astype(float),
    )


def paths_of(truth: Rows, fps: float) -> Iterator[PersonPath]:
    """Yield the paths of the people who count: pedestrians whose flag is not 0."""
    truth = truth.where((truth.classes == PEDESTRIAN) & (truth.scores > 0))
    for person in np.unique(truth.ids):
        of = truth.where(truth.ids == person)
        of = of.where(np.argsort(of.frames, kind="stable"))
        away = np.flatnonzero(np.diff(of.frames) > LONGEST_GAP_S * fps) + 1
        for low, high in pairwise([0, *away.tolist(), len(of)]):
            yield PersonPath(of.frames[low:high], of.boxes[low:high])


def sampled(path: PersonPath, time: SequenceTime) -> Samples:
    """Interpolate a path at steps of 10 ms from its first frame to its last."""
    known = time.at(path.frames)
    steps = int(np.floor((known[-1] - known[0]) / SAMPLE_S + 1e-9)) + 1
    times = known[0] + np.arange(steps) * SAMPLE_S
    if known[-1] - times[-1] > 1e-9:
        times = np.append(times, known[-1])
    boxes = [np.interp(times, known, edge) for edge in path.boxes.T]
    return Samples(times, np.stack(boxes, axis=1))


def inside_zone(points: Array, zone: Zone, size: tuple[int, int]) -> Array:
    """Whether points (S, 2), pixels, are in the zone: (S,). A ray to the right cuts edges."""
    corners = np.array(zone.polygon) * size
    odd = np.zeros(len(points), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ay == by:
            continue
        between = (ay > points[:, 1]) != (by > points[:, 1])
        odd ^= between & (points[:, 0] < ax + (points[:, 1] - ay) / (by - ay) * (bx - ax))
    return ~odd if zone.outside else odd


def zone_visits(times: Array, inside: Array, zone: Zone) -> list[tuple[float, float]]:
    """Return when the visits of one path began and ended."""
    stays: list[tuple[float, float]] = []
    entered: float | None = None  # of the visit that has begun
    left = 0.0  # end of the last run of samples inside
    for within, low, high in _runs(inside):
        start, end = times[low], times[min(high + 1, len(times) - 1)]
        if entered is None:
            if within and end - start >= zone.enter_s - 1e-9:
                entered = start
        elif not within and end - start >= zone.exit_s - 1e-9:
            stays.append((float(entered), float(left)))
            entered = None
        if within:
            left = end
    if entered is not None:
        stays.append((float(entered), float(left)))
    return stays


def line_crossings(samples: Samples, line: Line, size: tuple[int, int]) -> list[tuple[Way, float]]:
    """Return the crossings of one path: direction and time."""
    points = samples.anchor(line.anchor)
    start, end = np.array(line.start) * size, np.array(line.end) * size
    along = (end - start) / np.linalg.norm(end - start)
    left = np.array([along[1], -along[0]])  # y points down: left of +x is -y
    distance = (points - start) @ left  # (S,) pixels, positive on the left
    height = samples.boxes[:, 3] - samples.boxes[:, 1]
    band = _band(points, distance, left, line.band * height, size)
    beyond = np.sign(distance) * (np.abs(distance) > band)  # (S,) 1 left, 0 in the band, -1 right
    cuts = _cuts(distance, (points - start) @ along, float(np.linalg.norm(end - start)))

    found: list[tuple[Way, float]] = []
    side, since = 0.0, 0  # the side on which the path has settled, and its last sample there
    for state, low, high in _runs(beyond):
        settled = samples.times[high] - samples.times[low] >= line.settle_s - 1e-9
        if state and side in (0, state):
            side, since = state, high
        elif state and (settled or high == len(beyond) - 1):
            between = cuts[since:low]
            if between.sum() * state > 0:  # as many more cuts towards this side
                at = since + int(np.flatnonzero(between == state)[-1])
                share = distance[at] / (distance[at] - distance[at + 1])
                at_s = samples.times[at] + share * (samples.times[at + 1] - samples.times[at])
                way: Way = "left_to_right" if state < 0 else "right_to_left"
                found.append((way, float(at_s)))
            side, since = state, high
    return found


def _band(points: Array, distance: Array, left: Array, band: Array, size: tuple[int, int]) -> Array:
    """Return the half width (S,) of the band: at most half of what the picture has behind it."""
    away = np.where(distance < 0, -1, 1)[:, None] * left  # (S, 2) unit vectors away from the line
    with np.errstate(divide="ignore"):
        reach = np.where(away > 0, np.array(size) - points, -points) / away  # (S, 2) to the edges
    reach = np.where(away == 0, np.inf, reach).min(axis=1)
    return np.minimum(band, np.maximum(np.abs(distance) + reach, 0) / 2)


def _cuts(distance: Array, along: Array, length: float) -> Array:
    """Return, for each step of a path (S - 1,), 1 if it cuts the segment to the left, -1 right."""
    before, after = distance[:-1] >= 0, distance[1:] >= 0
    crosses = before != after
    share = np.zeros(len(before))
    share[crosses] = distance[:-1][crosses] / (distance[:-1] - distance[1:])[crosses]
    at = along[:-1] + share * np.diff(along)
    return np.where(crosses & (at >= 0) & (at <= length), np.where(after, 1, -1), 0)


def _runs(values: Array) -> Iterator[tuple[float, int, int]]:
    """Yield the runs of equal values: the value, its first and its last index."""
    at = 0
    for value, members in groupby(values.tolist()):
        n = len(list(members))
        yield value, at, at + n - 1
        at += n
