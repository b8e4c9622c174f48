"""Visits and crossings by their definitions, from whole paths; slow and without a state.

Between two detections the path is taken to be straight, and its speed constant. Corrections are
applied to the paths themselves. Then:

- A visit begins where the path begins to be inside for `enter_s` without a break, and ends where it
  begins to be outside for `exit_s` without a break, or where the track ends.
  Between two detections within a polygon the path stays within it, and between two beside it the
  path passes through it at most once, also where the polygon has notches.
- On a line, the path is to the left, to the right, or within the band, which is a share of the
  height of the box. It is on the side where it was first beyond the band, and changes sides where
  it begins to be on the other one for `settle_s` without a break, with two detections at least, of
  which one is beyond the band by more than the error of a position, or until the track ends.
  That is a crossing if the path, between its last point on the one side and its first on the other,
  has cut the segment in this direction more often than in the other.
- Between the last detection of one track and the first of another that turned out to be the same
  person, the path is not known: a visit ends or begins with a detection, and a line is cut in the
  middle of the time between.
- Where a split divides a path, the person of the first part is where it was last detected until
  one frame before, and that of the second part is where it is next detected from then on.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from streamvis.zone_layout import Line, Zone

XY = tuple[float, float]
ERROR = 0.05  # of a position, share of the height of the box


class PathPoint(NamedTuple):
    """A box of a track."""

    us: int  # media time
    foot: XY  # px
    height: float  # px
    detected: bool = True
    moved: bool = False  # given to this id by a correction
    track: int = 0  # that was followed without a break, whatever its id
    divided: bool = False  # a split divided the path here: where it was is not known well

    def anchor(self, kind: str) -> XY:
        return self.foot if kind == "foot" else (self.foot[0], self.foot[1] - self.height / 2)


class Stay(NamedTuple):
    """A visit of a zone."""

    entered_us: float
    left_us: float | None  # None: still inside
    reason: str | None  # left or lost


class Passage(NamedTuple):
    """A crossing of a line."""

    direction: str
    cuts_us: tuple[float, ...]  # when the path cut the segment in this direction


class PathRun(NamedTuple):
    """A part of a path."""

    state: str
    start_us: float
    stop_us: float

    @property
    def seconds(self) -> float:
        return (self.stop_us - self.start_us) / 1e6


class Paths:
    """The paths of all ids, as they are after the corrections so far."""

    def __init__(self, frame_us: int = 1) -> None:
        self.frame_us = frame_us  # between two frames
        self.rows: dict[int, dict[int, PathPoint]] = {}  # by id and media time
        self.open: set[int] = set()
        self._track: dict[int, int] = {}  # of the ids that are open
        self._tracks = 0

    def take(
        self,
        places: dict[int, PathPoint],
        ended: Iterable[int] = (),
        merged: Iterable[tuple[int, int]] = (),
        split: Iterable[tuple[int, int, int]] = (),
    ) -> None:
        """Add a picture: splits, all at once, then merges in turn, then ends, then boxes."""
        moved = [(other, self._divide(id, since_us)) for id, other, since_us in split]
        for other, part in moved:
            for place in part:
                self._give(other, place._replace(moved=True))
        names = {id: other for id, other, _ in split if id in self.open}
        followed = {
            other: self._track.pop(id)
            for id, other in names.items()
            if any(place.detected for to, part in moved if to == other for place in part)
        }
        self.open = (self.open - names.keys()) | set(names.values())
        self._track = {id: n for id, n in self._track.items() if id not in names} | followed
        for gone, kept in merged:
            for place in self.rows.pop(gone, {}).values():
                self._give(kept, place._replace(moved=True))
            if gone in self.open:
                self.open = (self.open - {gone}) | {kept}
                self._track[kept] = self._track.pop(gone)
        into = dict(merged)
        self.open -= {into.get(id, id) for id in ended} - places.keys()
        self._track = {id: n for id, n in self._track.items() if id in self.open}
        for id, place in places.items():
            if id not in self._track:
                self._tracks += 1
                self._track[id] = self._tracks
            self._give(id, place._replace(track=self._track[id]))
            self.open.add(id)

    def _divide(self, id: int, since_us: int) -> list[PathPoint]:
        """Take the places since then from an id; it stays where it was until one frame before."""
        rows = self.rows.get(id, {})
        seen = [us for us in sorted(rows) if rows[us].detected]
        before = [us for us in seen if us < since_us]
        after = [us for us in seen if us >= since_us]
        part = [rows.pop(us) for us in list(rows) if us >= since_us]
        if before and after:
            end_us = max(since_us - self.frame_us, before[-1])
            rows[end_us] = rows[before[-1]]._replace(us=end_us, divided=True)
            first = next(place for place in part if place.us == after[0])
            part.append(first._replace(us=since_us, divided=True))
        return part

    def _give(self, id: int, place: PathPoint) -> None:
        rows = self.rows.setdefault(id, {})
        was = rows.get(place.us)
        if was is None or (place.detected, place.moved) > (was.detected, was.moved):
            rows[place.us] = place

    def path(self, id: int) -> list[PathPoint]:
        """The detections of an id, in order."""
        rows = self.rows.get(id, {})
        return [rows[us] for us in sorted(rows) if rows[us].detected]

    def visits(self, zone: Zone, polygon: Sequence[XY]) -> dict[int, list[Stay]]:
        """The visits of each id; `polygon` in px."""
        return {
            id: visits(self.path(id), zone, polygon, ended=id not in self.open) for id in self.rows
        }

    def crossings(self, line: Line, start: XY, end: XY) -> dict[int, list[Passage]]:
        """The crossings of each id; `start` and `end` in px."""
        return {
            id: crossings(self.path(id), line, start, end, ended=id not in self.open)
            for id in self.rows
        }


def visits(
    path: Sequence[PathPoint], zone: Zone, polygon: Sequence[XY], *, ended: bool
) -> list[Stay]:
    """The visits of a path."""
    found: list[Stay] = []
    entered_us = left_us = None
    last_us = 0.0
    for run in zone_runs(path, zone, polygon):
        if run.state == "inside":
            left_us, last_us = None, run.stop_us
            if entered_us is None and run.seconds >= zone.enter_s:
                entered_us = run.start_us
        elif entered_us is not None:
            left_us = last_us
            if run.stop_us - left_us >= zone.exit_s * 1e6:
                found.append(Stay(entered_us, left_us, "left"))
                entered_us = left_us = None
    if entered_us is not None:
        if not ended:
            found.append(Stay(entered_us, None, None))
        elif left_us is None:
            found.append(Stay(entered_us, path[-1].us, "lost"))
        else:
            found.append(Stay(entered_us, left_us, "left"))
    return found


def zone_runs(path: Sequence[PathPoint], zone: Zone, polygon: Sequence[XY]) -> list[PathRun]:
    """The parts of a path inside and outside, in turn."""
    edges = list(zip(polygon, [*polygon[1:], polygon[0]], strict=True))

    def state(point: XY) -> str:
        return "inside" if contains(polygon, point) != zone.outside else "outside"

    if len(path) == 1:
        return [PathRun(state(path[0].anchor(zone.anchor)), path[0].us, path[0].us)]
    runs: list[PathRun] = []
    for a, b in pairwise(path):
        p, q = a.anchor(zone.anchor), b.anchor(zone.anchor)
        if a.track != b.track:
            _extend(runs, state(p), a.us, a.us)
            _extend(runs, state(q), b.us, b.us)
            continue
        cuts = sorted(cut for edge in edges if (cut := meets(p, q, *edge)) is not None)
        within = [contains(polygon, p), contains(polygon, q)]
        if within == [True, True]:
            times = [0.0, 1.0]
        elif within == [False, False]:
            times = [0.0, cuts[0], cuts[-1], 1.0] if len(cuts) > 1 else [0.0, 1.0]
        else:
            times = [0.0, cuts[-1] if within[1] else cuts[0], 1.0]
        states = [state(p), "inside" if state(p) == "outside" else "outside", state(p)]
        for here, (low, high) in zip(states, pairwise(times), strict=False):
            _extend(runs, here, a.us + low * (b.us - a.us), a.us + high * (b.us - a.us))
    return runs


def _extend(runs: list[PathRun], state: str, start_us: float, stop_us: float) -> None:
    if runs and runs[-1].state == state:
        runs[-1] = runs[-1]._replace(stop_us=stop_us)
    else:
        runs.append(PathRun(state, start_us, stop_us))


def crossings(
    path: Sequence[PathPoint], line: Line, start: XY, end: XY, *, ended: bool
) -> list[Passage]:
    """The crossings of a path."""
    runs = line_runs(path, line, start, end)
    cuts = list(cuts_of(path, line, start, end))
    found: list[Passage] = []
    side, last_us = "band", 0.0
    for number, run in enumerate(runs):
        if run.state == "band":
            continue
        final = ended and number == len(runs) - 1
        if run.state != side and side != "band":
            there = [
                point
                for point in path
                if run.start_us <= point.us <= run.stop_us
                and line_runs([point], line, start, end)[0].state == run.state
            ]
            sure = any(
                abs(distance(start, end, point.anchor(line.anchor)))
                > (line.band + ERROR) * point.height
                for point in there
            )
            if (run.seconds < line.settle_s or len(there) < 2 or not sure) and not final:
                continue
            direction = f"{side}_to_{run.state}"
            between = [cut for cut in cuts if last_us <= cut[0] <= run.start_us]
            here = [us for us, towards in between if towards == direction]
            if 2 * len(here) > len(between):
                found.append(Passage(direction, tuple(here)))
        side, last_us = run.state, run.stop_us
    return found


def line_runs(path: Sequence[PathPoint], line: Line, start: XY, end: XY) -> list[PathRun]:
    """The parts of a path to the left, within the band and to the right."""

    def state(far: float, band: float) -> str:
        return "left" if far > band else "right" if far < -band else "band"

    measured = [
        (p.us, distance(start, end, p.anchor(line.anchor)), line.band * p.height) for p in path
    ]
    if len(measured) == 1:
        us, far, band = measured[0]
        return [PathRun(state(far, band), us, us)]
    runs: list[PathRun] = []
    for number, ((us, far, band), (us2, far2, band2)) in enumerate(pairwise(measured)):
        if path[number].track != path[number + 1].track:
            _extend(runs, state(far, band), us, us)
            _extend(runs, state(far2, band2), us2, us2)
            continue
        steps = {0.0, 1.0}
        for one, two in ((far - band, far2 - band2), (far + band, far2 + band2)):
            if one * two < 0:
                steps.add(one / (one - two))
        for low, high in pairwise(sorted(steps)):
            mid = (low + high) / 2
            between = state(far + mid * (far2 - far), band + mid * (band2 - band))
            _extend(runs, between, us + low * (us2 - us), us + high * (us2 - us))
    return runs


def cuts_of(
    path: Sequence[PathPoint], line: Line, start: XY, end: XY
) -> Iterable[tuple[float, str]]:
    """Yield when and in which direction the path cuts the segment."""
    side, since = 0.0, None
    for place in path:
        far = distance(start, end, place.anchor(line.anchor))
        if far == 0:
            continue
        if since is not None and side * far < 0:
            share = side / (side - far)
            point = along(since.anchor(line.anchor), place.anchor(line.anchor), share)
            length2 = (end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2
            dx, dy = point[0] - start[0], point[1] - start[1]
            at = (dx * (end[0] - start[0]) + dy * (end[1] - start[1])) / length2
            if 0 <= at <= 1:
                direction = "left_to_right" if side > 0 else "right_to_left"
                share = share if since.track == place.track else 0.5
                yield since.us + share * (place.us - since.us), direction
        side, since = far, place


def distance(start: XY, end: XY, point: XY) -> float:
    """Distance of a point to the left of the line through start and end, y downwards."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    across = dy * (point[0] - start[0]) - dx * (point[1] - start[1])
    return across / (dx**2 + dy**2) ** 0.5


def meets(p: XY, q: XY, a: XY, b: XY) -> float | None:
    """Return the share of pq at which it meets ab, None where they are apart or parallel."""
    (ux, uy), (vx, vy) = (q[0] - p[0], q[1] - p[1]), (b[0] - a[0], b[1] - a[1])
    cross = ux * vy - uy * vx
    if cross == 0:
        return None
    wx, wy = a[0] - p[0], a[1] - p[1]
    t, s = (wx * vy - wy * vx) / cross, (wx * uy - wy * ux) / cross
    return t if 0 <= t <= 1 and 0 <= s <= 1 else None


def along(p: XY, q: XY, share: float) -> XY:
    return p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])


def contains(polygon: Sequence[XY], point: XY) -> bool:
    """Whether a ray from the point to the right cuts the edges an odd number of times."""
    odd = False
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (y1 > point[1]) != (y2 > point[1]):
            odd ^= point[0] < x1 + (point[1] - y1) * (x2 - x1) / (y2 - y1)
    return odd
