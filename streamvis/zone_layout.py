"""The zones and lines of a source, as they are written in YAML and sent between processes.

zones:
  - {name: door, polygon: [[0.1, 0.5], [0.4, 0.5], [0.4, 0.9], [0.1, 0.9]], dwell_s: [10, 60]}
lines:
  - {name: gate, start: [0.2, 0.6], end: [0.8, 0.6]}

Coordinates are shares of the picture's width and height from its upper left corner, or metres on
the ground plane with `space: ground`. All times are seconds of media time.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streamvis.fields import Name, Share, signed_area

Point = tuple[float, float]
Space = Literal["image", "ground"]
Anchor = Literal["foot", "centre"]
Wait = Annotated[float, Meta(ge=0, le=3600)]  # seconds
Class = Annotated[str, Meta(min_length=1)]
MAX_SHAPES = 1000  # zones, and lines, of one source
MAX_CORNERS = 1000
FARTHEST_M = 1e5  # coordinate on the ground plane
CLASSES = ("person",)  # what the tracker follows


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
    dwell_s: tuple[Annotated[float, Meta(gt=0)], ...] = (10.0, 60.0)  # times in the zone after
    # which zone.dwell is published
    crowd: Annotated[int, Meta(ge=1)] | None = None  # number of people from which on the zone is
    # crowded; none: never
    crowd_s: Wait = 1.0  # zone.crowded and zone.clear are published after this long
    min_p_exist: Share = 0.5  # a track with a lower probability of existence does not count
    min_height: Share = 0.0  # share of the picture's height; a box that is lower does not count
    classes: tuple[Class, ...] = CLASSES  # object classes that count

    def __post_init__(self) -> None:
        where = f"zone '{self.name}'"
        _check_classes(where, self.classes)
        _check_points(where, self.polygon, self.space)
        if len(set(self.polygon)) < 3:
            raise ValueError(
                f"{where} has {len(set(self.polygon))} different corners; expected three at least"
            )
        if crosses_itself(self.polygon):
            raise ValueError(
                f"{where} crosses itself; list the corners of `polygon` in order around the area"
            )
        if abs(signed_area(self.polygon)) < (1e-6 if self.space == "image" else 1e-4):
            raise ValueError(f"{where} encloses no area; its corners lie on a line")
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
    start: Point
    end: Point
    space: Space = "image"  # of start and end: shares of the picture, or metres on the ground plane
    anchor: Anchor = "foot"  # point of the box that has to cross: middle of its lower edge, or its
    # centre
    band: Annotated[float, Meta(ge=0, le=1)] = 0.1  # share of the person's height; who is nearer to
    # the line is on neither side
    settle_s: Wait = 0.2  # a crossing counts once the anchor has been beyond the band for this long
    min_p_exist: Share = 0.5  # a track with a lower probability of existence does not count
    min_height: Share = 0.0  # share of the picture's height; a box that is lower does not count
    classes: tuple[Class, ...] = CLASSES  # object classes that count

    def __post_init__(self) -> None:
        where = f"line '{self.name}'"
        _check_classes(where, self.classes)
        _check_points(where, (self.start, self.end), self.space)
        if self.start == self.end:
            raise ValueError(f"{where} starts where it ends, at {list(self.start)}")


class ZoneLayout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All zones and lines of a source."""

    zones: Annotated[tuple[Zone, ...], Meta(max_length=MAX_SHAPES)] = ()
    lines: Annotated[tuple[Line, ...], Meta(max_length=MAX_SHAPES)] = ()

    def __post_init__(self) -> None:
        for what, shapes in (("zones", self.zones), ("lines", self.lines)):
            names = [shape.name for shape in shapes]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"two {what} are called '{twice}'; give each its own name")

    @property
    def needs_ground(self) -> bool:
        """Whether a zone or line is given in metres on the ground plane."""
        return "ground" in {zone.space for zone in self.zones} | {line.space for line in self.lines}


def crosses_itself(polygon: Sequence[Point]) -> bool:
    """Whether two edges of a polygon cross between their ends."""
    edges = list(zip(polygon, [*polygon[1:], polygon[0]], strict=True))
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for (a, b), (c, d) in combinations(edges, 2)
    )


def side(a: Point, b: Point, c: Point) -> float:
    """Twice the signed area of a triangle: its sign is the side of ab on which c lies."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _check_points(where: str, points: Sequence[Point], space: Space) -> None:
    """Raise ValueError for a point that is outside of the picture, or far away on the ground."""
    low, high = (0.0, 1.0) if space == "image" else (-FARTHEST_M, FARTHEST_M)
    for point in points:
        if not all(low <= value <= high for value in point):  # NaN is not
            expected = (
                "expected shares of its width and height, 0 to 1; pixels are divided by its size"
                if space == "image"
                else f"expected metres, {-FARTHEST_M:g} to {FARTHEST_M:g}"
            )
            raise ValueError(f"{where} has {list(point)}, outside of the picture; {expected}")


def _check_classes(where: str, classes: Sequence[str]) -> None:
    if unknown := sorted(set(classes) - set(CLASSES)):
        raise ValueError(
            f"{where} counts class '{unknown[0]}', which the tracker does not follow; expected "
            f"{', '.join(CLASSES)}"
        )
    if not classes:
        raise ValueError(f"{where} counts no classes; expected {', '.join(CLASSES)}")
