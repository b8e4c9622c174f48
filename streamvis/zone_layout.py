"""The zones and lines of a source, as they are written in YAML and sent between processes.

zones:
  - {name: door, polygon: [[0.1, 0.5], [0.4, 0.5], [0.4, 0.9], [0.1, 0.9]], dwell_s: [10, 60]}
lines:
  - {name: gate, start: [0.2, 0.6], end: [0.8, 0.6]}

Coordinates are shares of the picture's width and height from its upper left corner, or metres on
the ground plane with `space: ground`. All times are seconds of media time.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from streamvis.fields import Name, Share, signed_area

Point = tuple[float, float]
Space = Literal["image", "ground"]
Anchor = Literal["foot", "centre"]
Wait = Annotated[float, Meta(ge=0, le=3600)]  # seconds
Dwell = Annotated[float, Meta(gt=0, le=86400)]  # seconds
Class = Annotated[str, Meta(min_length=1)]
MAX_SHAPES = 1000  # zones, and lines, of one source
MAX_CORNERS = 1000
FARTHEST_M = 1e5  # coordinate on the ground plane
CLASSES = ("person",)  # what the tracker follows
EDGE = 1e-9  # distance at which a corner is on an edge, in the units of both


class _Smallest(NamedTuple):
    """The smallest shapes of a space."""

    length: float
    area: float
    unit: str  # of the area


_SMALLEST: dict[Space, _Smallest] = {
    "image": _Smallest(1e-6, 1e-6, "of the picture"),
    "ground": _Smallest(1e-4, 1e-4, "m²"),
}


class Zone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A polygon in which people are counted, and what is published about it."""

    name: Name  # name in events, unique among the zones of the source
    polygon: Annotated[tuple[Point, ...], Meta(max_length=MAX_CORNERS)]  # corners in order, three
    # at least
    space: Space = "image"  # of the corners: shares of the picture, or metres on the ground plane
    outside: bool = False  # true: the zone is all that lies outside of the polygon
    anchor: Anchor = "foot"  # point of the box that has to be inside: middle of its lower edge, or
    # its centre
    enter_s: Wait = 0.3  # a person has entered once the anchor has been inside for this long
    exit_s: Wait = 0.5  # a person has left once the anchor has been outside for this long
    dwell_s: Annotated[tuple[Dwell, ...], Meta(max_length=100)] = (10.0, 60.0)  # times in the zone
    # after which zone.dwell is published
    crowd: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None  # number of people from which on
    # the zone is crowded; none: never
    crowd_s: Wait = 1.0  # zone.crowded and zone.clear are published after this long
    min_p_exist: Share = 0.5  # a track with a lower probability of existence does not count
    min_height: Share = 0.0  # share of the picture's height; a box that is lower does not count
    classes: tuple[Class, ...] = CLASSES  # object classes that count

    def __post_init__(self) -> None:
        where = f"zone '{self.name}'"
        _check_classes(where, self.classes)
        _check_points(where, self.polygon, self.space)
        _check_polygon(where, self.polygon, self.space)
        if list(self.dwell_s) != sorted(set(self.dwell_s)):
            raise ValueError(
                f"{where} has dwell_s {list(self.dwell_s)}; expected ascending times, each once"
            )


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A segment whose crossings are counted.

    Left and right are as seen when walking from `start` to `end` in the picture, or on the ground
    seen from above with y to the left of x. A crossing from left to right counts as in.
    """

    name: Name  # name in events, unique among the lines of the source
    start: Point  # [x, y]
    end: Point  # [x, y]
    space: Space = "image"  # of start and end: shares of the picture, or metres on the ground plane
    anchor: Anchor = "foot"  # point of the box that has to cross: middle of its lower edge, or its
    # centre
    band: Annotated[float, Meta(ge=0, le=1)] = 0.1  # share of the person's height; who is nearer to
    # the line is on neither side
    settle_s: Wait = 0.4  # a crossing counts once the anchor has been beyond the band for this long
    min_p_exist: Share = 0.5  # a track with a lower probability of existence does not count
    min_height: Share = 0.0  # share of the picture's height; a box that is lower does not count
    classes: tuple[Class, ...] = CLASSES  # object classes that count

    def __post_init__(self) -> None:
        where = f"line '{self.name}'"
        _check_classes(where, self.classes)
        _check_points(where, (self.start, self.end), self.space)
        if math.dist(self.start, self.end) < _SMALLEST[self.space].length:
            raise ValueError(
                f"{where} starts where it ends, at {list(self.start)}; expected two points"
            )


class ZoneLayout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All zones and lines of a source."""

    zones: Annotated[tuple[Zone, ...], Meta(max_length=MAX_SHAPES)] = ()  # polygons
    lines: Annotated[tuple[Line, ...], Meta(max_length=MAX_SHAPES)] = ()  # segments

    def __post_init__(self) -> None:
        for what, shapes in (("zones", self.zones), ("lines", self.lines)):
            count = Counter(shape.name for shape in shapes)
            if twice := next((name for name, number in count.items() if number > 1), None):
                raise ValueError(f"two {what} are called '{twice}'; give each its own name")

    @property
    def needs_ground(self) -> bool:
        """Whether a zone or line is given in metres on the ground plane."""
        return "ground" in {zone.space for zone in self.zones} | {line.space for line in self.lines}


def crosses_itself(polygon: Sequence[Point]) -> bool:
    """Whether edges of a polygon cross or touch elsewhere than at the corner between them.

    A corner that is repeated, as at the end of a closed ring, is one corner.
    """
    following = [*polygon[1:], *polygon[:1]]
    start = np.array(
        [corner for corner, after in zip(polygon, following, strict=True) if corner != after]
    ).reshape(-1, 2)
    edge = np.roll(start, -1, axis=0) - start  # (K, 2)
    to = start - start[:, None]  # (K, K, 2) from the start of an edge to each corner
    sides = edge[:, None, 0] * to[..., 1] - edge[:, None, 1] * to[..., 0]  # (K, K)
    parted = sides * np.roll(sides, -1, axis=1) < 0  # an edge's line parts the corners of another
    dot, length = (to * edge[:, None]).sum(2), (edge**2).sum(1)[:, None]  # 0 by underflow
    along = np.clip(
        np.divide(dot, length, out=np.zeros(dot.shape), where=length > 0), 0, 1
    )  # (K, K)
    distance = np.linalg.norm(to - along[..., None] * edge[:, None], axis=2)
    own = np.eye(len(start), dtype=bool)
    touches = (distance < EDGE) & ~(own | np.roll(own, 1, axis=1))
    return bool((parted & parted.T).any() or touches.any())


def side(a: Point, b: Point, c: Point) -> float:
    """Twice the signed area of a triangle: its sign is the side of ab on which c lies."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _check_points(where: str, points: Sequence[Point], space: Space) -> None:
    """Raise ValueError for a point that is outside of the picture, or far away on the ground."""
    low, high = (0.0, 1.0) if space == "image" else (-FARTHEST_M, FARTHEST_M)
    for point in points:
        if not all(low <= value <= high for value in point):  # NaN is not
            raise ValueError(
                f"{where} has {list(point)}, outside of the picture; expected shares of its width "
                "and height, 0 to 1: divide pixels by them"
                if space == "image"
                else f"{where} has {list(point)}; expected metres, {low:g} to {high:g}"
            )


def _check_polygon(where: str, polygon: Sequence[Point], space: Space) -> None:
    """Raise ValueError for a polygon that encloses no area, or that crosses itself."""
    corners = sorted(set(polygon))
    if len(corners) < 3:
        raise ValueError(f"{where} has {len(corners)} different corners; expected three at least")
    first, last = corners[0], corners[-1]
    farthest = max(abs(side(first, last, corner)) for corner in corners)
    if farthest < EDGE * math.dist(first, last):
        raise ValueError(f"{where} encloses no area: its corners lie on a line")
    if crosses_itself(polygon):
        raise ValueError(
            f"{where} crosses or touches itself; list the corners of `polygon` in order around "
            "the area"
        )
    area, smallest = abs(signed_area(polygon)), _SMALLEST[space]
    if area < smallest.area:
        raise ValueError(
            f"{where} encloses {area:.2g} {smallest.unit}; expected {smallest.area:g} at least"
        )


def _check_classes(where: str, classes: Sequence[str]) -> None:
    if unknown := sorted(set(classes) - set(CLASSES)):
        raise ValueError(
            f"{where} counts class '{unknown[0]}', which the tracker does not follow; expected "
            f"{', '.join(CLASSES)}"
        )
    if not classes:
        raise ValueError(f"{where} counts no classes; expected {', '.join(CLASSES)}")
