"""Zones and lines on a picture: outlines, fill, arrows, and labels that do not cover each other.

    drawing = ZonesDrawing(layout, (1920, 1080), plane)
    for label in drawing.draw(image, {"door": Label("2, 0:35")}, {"gate": Sides("in 3", "out 4")}):
        drawing.style.write_label(image, label)

Zones and lines on the ground plane are drawn in perspective. The arrow of a line points to its
right side, where who crosses it counts as in. Labels keep their places from frame to frame.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.viz.style import DARK, FARTHEST, PALE, PALETTE, Colour, PlacedLabel, Plate, Style, at
from streamvis.zone_layout import Line, Point, Space, Zone, ZoneLayout

Size = tuple[int, int]  # width, height, px
OPACITY = 0.16  # of the fill of a zone
WIDEST = 0.3  # share of the picture's width that a name may take
ARROW = 2.2  # half of the length of an arrow, in heights of the text
_EDGES = np.array(  # of what is drawn, in homogeneous pixels
    [(1, 0, FARTHEST), (-1, 0, FARTHEST), (0, 1, FARTHEST), (0, -1, FARTHEST)], np.float64
)
STEPS = 400  # places along each side that are tried for a label, at most


class Label(NamedTuple):
    """What the label of a zone says after its name."""

    text: str = ""
    bold: bool = False  # whether its outline is thick


class Sides(NamedTuple):
    """What stands on the two sides of a line."""

    right: str = "in"
    left: str = "out"


class ZoneShape(NamedTuple):
    """A zone as it is drawn."""

    name: str
    polygon: Array  # (K, 2) float64 px; none where it is not in view
    outside: bool
    colour: Colour


class LineShape(NamedTuple):
    """A line as it is drawn."""

    name: str
    start: Array  # (2,) float64 px
    end: Array  # (2,) float64 px
    into: Array  # (2,) float64, of length 1: the direction that counts as in


class Spot(NamedTuple):
    """The place of a label."""

    plate: Plate
    tip: tuple[int, int] | None  # what it belongs to, where the label is not on it


class Wanted(NamedTuple):
    """A label that is to be placed, and where it belongs."""

    text: str
    centre: Array  # (2,) px
    tip: Array  # (2,) px
    polygon: Array  # (K, 2) px: the area on which it needs no line to its tip; may be empty


def on_picture(points: Sequence[Point], space: Space, size: Size, plane: Array | None) -> Array:
    """Return the corners (K, 2) px of a closed polygon, clipped where it passes the camera.

    `plane` (3, 3) maps pixels of the picture to metres. Nothing is returned for a polygon on the
    ground without one, or behind the camera.
    """
    corners = np.asarray(points, np.float64).reshape(-1, 2)
    if space == "image":
        return corners * size
    if plane is None:
        return np.empty((0, 2))
    near = plane @ (size[0] / 2, size[1], 1.0)  # the ground at the middle of the lower edge
    seen = np.column_stack([corners, np.ones(len(corners))]) @ np.linalg.inv(plane).T  # (K, 3)
    seen *= np.sign(near[2])  # positive before the camera
    for edge in _EDGES:
        seen = _clipped(seen, edge)
    return seen[:, :2] / seen[:, 2:]


def _clipped(seen: Array, edge: Array) -> Array:
    """Clip a closed polygon in homogeneous coordinates (K, 3) to where `edge` (3,) is positive."""
    kept: list[Array] = []
    depth = seen @ edge
    for i in range(len(seen)):
        a, b = i, (i + 1) % len(seen)
        if depth[a] > 0:
            kept.append(seen[a])
        if (depth[a] > 0) != (depth[b] > 0):
            kept.append(seen[a] + (seen[b] - seen[a]) * depth[a] / (depth[a] - depth[b]))
    return np.array(kept).reshape(-1, 3)


def zone_shapes(zones: Sequence[Zone], size: Size, plane: Array | None) -> list[ZoneShape]:
    """Return the zones as they are drawn, each in a colour of its own."""
    return [
        ZoneShape(
            zone.name,
            on_picture(zone.polygon, zone.space, size, plane),
            zone.outside,
            PALETTE[index % len(PALETTE)],
        )
        for index, zone in enumerate(zones)
    ]


def line_shapes(lines: Sequence[Line], size: Size, plane: Array | None) -> list[LineShape]:
    """Return the lines that are in view as they are drawn."""
    found = (_line_shape(line, size, plane) for line in lines)
    return [shape for shape in found if shape is not None]


def _line_shape(line: Line, size: Size, plane: Array | None) -> LineShape | None:
    ends = on_picture([line.start, line.end], line.space, size, plane)
    if len(ends) < 2:
        return None
    (ax, ay), (bx, by) = line.start, line.end
    if line.space == "image":
        dx, dy = np.subtract(ends[1], ends[0]).tolist()
        into = np.array([-dy, dx])  # y points down
    else:
        middle = ((ax + bx) / 2, (ay + by) / 2)
        beside = (middle[0] + (by - ay) / 100, middle[1] - (bx - ax) / 100)
        both = on_picture([middle, beside], line.space, size, plane)
        if len(both) < 2:
            return None
        into = both[1] - both[0]
    length = float(np.hypot(*into))
    return LineShape(line.name, ends[0], ends[1], into / length) if length > 0 else None


class ZonesDrawing:
    """The zones and lines of a source on pictures of one size."""

    def __init__(self, layout: ZoneLayout, size: Size, plane: Array | None = None) -> None:
        self.style = Style.for_size(size[1], size[0])
        self.size = size
        self.zones = zone_shapes(layout.zones, size, plane)
        self.lines = line_shapes(layout.lines, size, plane)
        self._share, self._tint = self._fill()
        self._filled = _bounds(self._share)
        self._spots: dict[tuple[str, ...], list[Spot | None]] = {}

    def draw(
        self, image: Array, zones: Mapping[str, Label], lines: Mapping[str, Sides]
    ) -> list[PlacedLabel]:
        """Draw on the picture (H, W, 3) in place; return the labels, which are yet to be written.

        What is drawn between the two is below the labels.
        """
        rows, columns = self._filled
        part, share = image[rows, columns], self._share[rows, columns]
        if share.size:
            part[:] = cv2.blendLinear(part, self._tint[rows, columns], 1 - share, share)
        for zone in self.zones:
            if len(zone.polygon) > 2:
                thick = self.style.line * (2 if zones.get(zone.name, Label()).bold else 1)
                cv2.polylines(image, [_whole(zone.polygon)], True, zone.colour, thick, cv2.LINE_AA)
        for line in self.lines:
            self._draw_line(image, line)
        return self._labels(image, zones, lines)

    def _fill(self) -> tuple[Array, Array]:
        """Return the share (H, W) of the fill in each pixel, and its colour (H, W, 3)."""
        width, height = self.size
        share = np.zeros((height, width), np.float32)
        tint = np.zeros((height, width, 3), np.float32)
        for zone in self.zones:
            area = np.zeros((height, width), np.uint8)
            if len(zone.polygon) > 2:
                cv2.fillPoly(area, [_whole(zone.polygon)], 1)
            inside = area == (0 if zone.outside else 1)
            tint[inside] = (
                tint[inside] * 0.5
                + np.array(zone.colour, np.float32)
                * (np.where(share[inside] > 0, 0.5, 1.0)[:, None])
            )
            share[inside] = OPACITY
        return share, tint.clip(0, 255).astype(np.uint8)

    def _draw_line(self, image: Array, line: LineShape) -> None:
        thick = self.style.line
        start, end = at(line.start), at(line.end)
        tail, head = self._arrow(line)
        for colour, width in ((DARK, 3 * thick), (PALE, thick)):
            cv2.line(image, start, end, colour, width, cv2.LINE_AA)
            cv2.arrowedLine(image, at(tail), at(head), colour, width, cv2.LINE_AA, tipLength=0.3)
        for point in (start, end):
            cv2.circle(image, point, 2 * thick, PALE, cv2.FILLED, cv2.LINE_AA)

    def _arrow(self, line: LineShape) -> tuple[Array, Array]:
        half = line.into * ARROW * self.style.text
        middle = self._middle(line)
        return middle - half, middle + half

    def _middle(self, line: LineShape) -> Array:
        """Return the middle of the part of a line that is in the picture."""
        width, height = self.size
        found, a, b = cv2.clipLine((0, 0, width, height), at(line.start), at(line.end))
        return (np.add(a, b) / 2) if found else (line.start + line.end) / 2

    def _labels(
        self, image: Array, zones: Mapping[str, Label], lines: Mapping[str, Sides]
    ) -> list[PlacedLabel]:
        """Return the labels; draw the lines that lead from them."""
        texts, colours = [], []
        for line in self.lines:
            sides = lines.get(line.name, Sides())
            texts += [self._named(line.name, sides.right), sides.left]
            colours += [PALE, PALE]
        for zone in self.zones:
            texts.append(self._named(zone.name, zones.get(zone.name, Label()).text))
            colours.append(zone.colour)
        key = tuple(re.sub(r"\d", "8", text) for text in texts)
        if key not in self._spots:
            self._spots = {key: self._place(key)}
        spots = self._spots[key]
        for colour, spot in zip(colours, spots, strict=True):
            if spot is not None and spot.tip is not None:
                self._draw_leader(image, spot.plate, spot.tip, colour)
        return [
            PlacedLabel(text, spot.plate, colour)
            for text, colour, spot in zip(texts, colours, spots, strict=True)
            if spot is not None
        ]

    def _draw_leader(
        self, image: Array, plate: Plate, tip: tuple[int, int], colour: Colour
    ) -> None:
        """Draw the line from a label to what it belongs to."""
        middle = ((plate[0] + plate[2]) // 2, (plate[1] + plate[3]) // 2)
        for shade, width in ((DARK, 3 * self.style.line), (colour, self.style.line)):
            cv2.line(image, middle, tip, shade, width, cv2.LINE_AA)
        cv2.circle(image, tip, 2 * self.style.line, colour, cv2.FILLED, cv2.LINE_AA)

    def _named(self, name: str, text: str) -> str:
        short = self.style.beginning(name, round(WIDEST * self.size[0]))
        return f"{short}: {text}" if text else short

    def _place(self, texts: Sequence[str]) -> list[Spot | None]:
        """Return a place for each label; None for one that finds no room."""
        wanted: list[Wanted | None] = []
        left = iter(texts)
        taken: list[Plate] = []
        for line in self.lines:
            taken.append(_around(self._arrow(line), self.style.text))
            wanted += self._beside(line, next(left), next(left))
        wanted += [self._within(zone, next(left)) for zone in self.zones]
        spots: list[Spot | None] = []
        for one in wanted:
            spot = None if one is None else self._free_spot(one, taken)
            spots.append(spot)
            taken += [spot.plate] if spot is not None else []
        return spots

    def _beside(self, line: LineShape, right: str, left: str) -> list[Wanted | None]:
        """Return the labels of the two sides of a line: at the ends of its arrow."""
        tail, head = self._arrow(line)
        sides: list[Wanted | None] = []
        for text, end, way in ((right, head, line.into), (left, tail, -line.into)):
            _, _, w, h = self._plate_at(text, np.zeros(2))
            away = abs(way[0]) * w + abs(way[1]) * h + 2  # w and h are halves
            sides.append(Wanted(text, end + way * away, end, np.empty((0, 2))))
        return sides

    def _within(self, zone: ZoneShape, text: str) -> Wanted | None:
        """Return the label of a zone: at the upper edge of its part in the picture."""
        width, height = self.size
        area = np.zeros((height, width), np.uint8)
        if len(zone.polygon) > 2:
            cv2.fillPoly(area, [_whole(zone.polygon)], 1)
        if not area.any():
            return None
        x = round(float(np.flatnonzero(area.any(axis=0)).mean()))
        if not area[:, x].any():
            x = int(np.argmax(area.sum(axis=0)))
        rows = np.flatnonzero(area[:, x])
        _, _, _, h = self._plate_at(text, np.zeros(2))
        inward = -1 if zone.outside else 1
        centre = np.array([x, rows[0] + inward * (h + 2 * self.style.line)], np.float64)
        tip = np.array([x, rows[0] if zone.outside else rows.mean()], np.float64)
        return Wanted(text, centre, tip, zone.polygon)

    def _plate_at(self, text: str, centre: Array) -> Plate:
        """Return the place of a label around a point; of one around (0, 0) its halves."""
        pad = max(2, self.style.text // 3)
        w, h = self.style.width(text) + 2 * pad, self.style.text + 2 * pad
        x1, y1 = round(centre[0] - w / 2), round(centre[1] - h / 2)
        return x1, y1, x1 + w, y1 + h

    def _free_spot(self, wanted: Wanted, taken: Sequence[Plate]) -> Spot | None:
        """Return the free place that is nearest to where a label belongs."""
        width, height = self.size
        x1, y1, x2, y2 = self._plate_at(wanted.text, wanted.centre)
        w, h = x2 - x1, y2 - y1
        lowest = height - self.style.bar - h  # above the caption
        if w > width or lowest < 0:
            return None
        xs = _places(x1, 0, width - w, w // 4)
        ys = _places(y1, 0, lowest, h // 2)
        left, top = (grid.ravel() for grid in np.meshgrid(xs, ys))
        free = np.ones(len(left), bool)
        for a, b, c, d in taken:
            free &= (left >= c) | (left + w <= a) | (top >= d) | (top + h <= b)
        if not free.any():
            return None
        far = np.hypot(left - x1, 2.0 * (top - y1))
        best = int(np.flatnonzero(free)[np.argmin(far[free])])
        plate = (int(left[best]), int(top[best]), int(left[best]) + w, int(top[best]) + h)
        return Spot(plate, None if self._is_at(plate, wanted) else at(wanted.tip))

    def _is_at(self, plate: Plate, wanted: Wanted) -> bool:
        """Whether a label is where it belongs, so that no line has to lead there."""
        x1, y1, x2, y2 = plate
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)
        if np.hypot(*(middle - wanted.centre)) <= self.style.text:
            return True
        if not len(wanted.polygon):
            return False
        outline = wanted.polygon.astype(np.float32)
        return cv2.pointPolygonTest(outline, middle, measureDist=False) >= 0


def _bounds(share: Array) -> tuple[slice, slice]:
    """Return the rows and columns that have anything but zeros."""
    rows, columns = (np.flatnonzero(share.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _places(first: int, low: int, high: int, step: int) -> Array:
    """Return coordinates from `low` to `high`, among them the first or the one nearest to it."""
    step = max(1, step, (high - low) // STEPS)
    start = min(max(first, low), high)
    before = np.arange(start, low - 1, -step)[::-1]
    return np.unique([low, *before, *np.arange(start, high + 1, step), high])


def _around(arrow: Sequence[Array], head: int) -> Plate:
    """Return the place of an arrow whose head reaches so many pixels to each side."""
    (x1, y1), (x2, y2) = np.min(arrow, axis=0), np.max(arrow, axis=0)
    across = head if x2 - x1 < y2 - y1 else 2, head if x2 - x1 >= y2 - y1 else 2
    return (
        int(x1) - across[0],
        int(y1) - across[1],
        int(x2) + across[0] + 1,
        int(y2) + across[1] + 1,
    )


def _whole(polygon: Array) -> Array:
    return polygon.clip(-FARTHEST, FARTHEST).round().astype(np.int32)
