"""The geometry of zones and lines, vectorised: K points against Z polygons or L segments.

The shapes of one group share what makes a person's position in it: the anchor, the space, and who
counts. Units are pixels of the frame, or metres on the ground plane.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.stages.zones.history import (
    BAND_LEFT,
    BAND_RIGHT,
    LEFT,
    NEAR_LEFT,
    NEAR_RIGHT,
    RIGHT,
)
from streamvis.stages.zones.observed import Observed
from streamvis.zone_layout import Line, Zone

STANDING_M = 1.7  # height of a person, for bands on the ground plane
EDGE_SHARE = 0.5  # of the room between a line and the edge of the picture, that its band may take
ERROR_SHARE = 0.05  # sd of the anchor by how boxes are drawn, share of the person's height


class GroupKey(NamedTuple):
    """What the zones and lines of a group share."""

    anchor: str
    space: str
    min_p_exist: float
    min_height: float


class Near(NamedTuple):
    """The P pairs of points and polygons that are not far from each other."""

    points: Array  # (P,) rows
    polygons: Array  # (P,) rows
    within: Array  # (P,) bool, inside of the polygon
    distance: Array  # (P,) to its nearest edge


class Group:
    """The zones and lines with equal `GroupKey`, as arrays."""

    def __init__(
        self,
        key: GroupKey,
        zones: Sequence[tuple[int, Zone]],
        lines: Sequence[tuple[int, Line]],
        size: tuple[int, int],
    ) -> None:
        self.key = key
        self.zones = np.array([index for index, _ in zones], np.int64)  # (Z,) places in the layout
        self.lines = np.array([index for index, _ in lines], np.int64)  # (L,)
        scale = np.array(size if key.space == "image" else (1, 1), np.float64)
        self.polygons = [np.array(zone.polygon, np.float64) * scale for _, zone in zones]
        self.outside = np.array([zone.outside for _, zone in zones], bool)
        self.columns = _columns(self.zones)
        self.line_columns = _columns(self.lines)
        corners = [polygon.tolist() for polygon in self.polygons]
        self._sides = [list(zip(one, [*one[1:], one[0]], strict=True)) for one in corners]
        self._edges = _Edges(self.polygons)
        ends = np.array([(line.start, line.end) for _, line in lines], np.float64).reshape(-1, 2, 2)
        self.start, self.end = ends[:, 0] * scale, ends[:, 1] * scale  # (L, 2)
        along = self.end - self.start
        self.length = np.hypot(along[:, 0], along[:, 1])  # (L,)
        # y goes down in a picture: left of the walker is where the cross product is negative there
        turn = -1.0 if key.space == "image" else 1.0
        self._left = turn * np.stack([-along[:, 1], along[:, 0]], axis=1) / self.length[:, None]
        self._offset = (self.start * self._left).sum(axis=1)  # (L,)
        self._along = along / self.length[:, None] ** 2
        self.band = np.array([line.band for _, line in lines], np.float64)
        self.room = self._room(scale)  # (L, 2), left and right

    def _room(self, scale: Array) -> Array:
        """Return how far the picture reaches on either side of each line; no end on the ground."""
        if self.key.space == "ground":
            return np.full((len(self.lines), 2), np.inf)
        corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * scale
        distance = self.left_of(corners)  # (4, L)
        return np.stack([distance.max(axis=0), -distance.min(axis=0)], axis=1).clip(0, None)

    def rows(self, observed: Observed) -> Array:
        """Return which tracks (N,) bool may count: confirmed, high enough, and placed."""
        heights = observed.boxes[:, 3] - observed.boxes[:, 1]
        enough = (heights >= self.key.min_height * observed.size[1]) & (observed.ids > 0)
        if self.key.space == "ground":
            enough &= np.isfinite(observed.ground).all(axis=1)
        return enough

    def counts(self, observed: Observed, rows: Array) -> Array:
        """Return which of `rows` (N,) bool are evidence: also detected and sure enough."""
        return np.asarray(rows & observed.seen & (observed.p_exist >= self.key.min_p_exist))

    def points(self, observed: Observed) -> Array:
        """Return the anchors (N, 2) of the tracks, px or m."""
        if self.key.space == "ground":
            return observed.ground
        boxes = observed.boxes
        middle = (boxes[:, 0] + boxes[:, 2]) / 2
        lower = boxes[:, 3] if self.key.anchor == "foot" else (boxes[:, 1] + boxes[:, 3]) / 2
        points = np.empty((len(boxes), 2))
        points[:, 0], points[:, 1] = middle, lower
        return points

    def near(self, points: Array, reach: Array) -> Near:
        """Return the points (K, 2) that are within `reach` (K,) of the bounds of polygons."""
        return self._edges.near(points, reach)

    def within(self, near: Near, count: int) -> Array:
        """Return whether each of `count` points is inside of each polygon (K, Z)."""
        within = np.zeros((count, len(self.zones)), bool)
        within[near.points, near.polygons] = near.within
        return within

    def left_of(self, points: Array) -> Array:
        """Return how far each point (K, 2) is left of each line (K, L); right is negative."""
        return points @ self._left.T - self._offset

    def bands(self, heights: Array, wider: float = 0.0) -> Array:
        """Return the bands (K, L, 2) left and right of each line, for people of heights (K,).

        wider: share of the height by which they are wider than is set.
        """
        if self.key.space == "ground":
            heights = np.full(len(heights), STANDING_M)
        widths = heights[:, None] * (self.band + wider)
        return np.minimum(widths[..., None], EDGE_SHARE * self.room)

    def side(self, left_of: Array, bands: Array, heights: Array) -> Array:
        """Return the side (K, L) int8, LEFT to NEAR_RIGHT, of points so far left of each line."""
        wide = self.bands(heights, ERROR_SHARE)
        left, far_left = left_of > bands[..., 0], left_of > wide[..., 0]
        right, far_right = left_of < -bands[..., 1], left_of < -wide[..., 1]
        within = np.where(left_of >= 0, BAND_LEFT, BAND_RIGHT)
        near = np.where(left, NEAR_LEFT, np.where(right, NEAR_RIGHT, within))
        return np.where(far_left, LEFT, np.where(far_right, RIGHT, near)).astype(np.int8)

    def cuts(self, before: Array, now: Array) -> tuple[Array, Array]:
        """Return how the paths from `before` to `now` (K, 2) cut each line.

        (K, L) int8: 1 from left to right, -1 from right to left, 0 not; and (K, L) the share of the
        path before the cut. A point on the line is on its left.
        """
        was, is_ = self.left_of(before), self.left_of(now)
        turned = (was >= 0) != (is_ >= 0)  # (K, L)
        if not turned.any():
            return turned.astype(np.int8), was
        share = np.divide(was, was - is_, out=np.zeros_like(was), where=turned)
        at = before[:, None] + share[..., None] * (now - before)[:, None]  # (K, L, 2)
        along = np.einsum("kld,ld->kl", at - self.start, self._along)
        cut = turned & (along >= 0) & (along <= 1)
        return np.where(cut, np.where(was >= 0, 1, -1), 0).astype(np.int8), share

    def is_beside(self, line: int, way: Array) -> bool:
        """Whether a straight way (2, 2) cuts a line between its ends, given that it changes side.

        Where its ends are on one side after all, by how well they are known, its middle counts.
        """
        m = self.lines.tolist().index(line)
        off = way - self.start[m]
        left = off @ self._left[m]
        share = left[0] / (left[0] - left[1]) if (left[0] >= 0) != (left[1] >= 0) else 0.5
        along = float((off[0] + share * (off[1] - off[0])) @ self._along[m])
        return 0 <= along <= 1

    def passes(self, before: Array, now: Array, among: Array) -> tuple[Array, Array]:
        """Return the pairs (P,), (P,) of ways and zones whose edges they meet, `among` (K, Z)."""
        overlap = self._edges.overlap(np.minimum(before, now), np.maximum(before, now))
        k, z = np.nonzero(overlap & among)
        if not len(k):
            return k, z
        meets = self._edges.cut_by(z, before[k], now[k])
        return k[meets], z[meets]

    def edge_shares(self, zone: int, before: Sequence[float], now: Sequence[float]) -> list[float]:
        """Return the shares of a way (2,) to (2,) at which it cuts the edge of a zone, in order."""
        (x, y), (to_x, to_y) = before, now
        way_x, way_y = to_x - x, to_y - y
        shares = []
        for (ax, ay), (bx, by) in self._sides[zone]:
            edge_x, edge_y, off_x, off_y = bx - ax, by - ay, ax - x, ay - y
            turn = way_x * edge_y - way_y * edge_x
            if turn == 0:
                continue
            share = (off_x * edge_y - off_y * edge_x) / turn
            along = (off_x * way_y - off_y * way_x) / turn
            if 0 <= share <= 1 and 0 <= along <= 1:
                shares.append(share)
        return sorted(shares)


class _Edges:
    """The edges of Z polygons, padded to E each.

    An edge runs upwards, so that one that two polygons share is computed in the same way for both.
    """

    def __init__(self, polygons: Sequence[Array]) -> None:
        self.count = len(polygons)
        most = max((len(polygon) for polygon in polygons), default=1)
        # padding repeats the first corner: no length, so that nothing crosses it
        a = np.zeros((self.count, most, 2))
        for corners, polygon in zip(a, polygons, strict=True):
            corners[:] = polygon[0]
            corners[: len(polygon)] = polygon
        b = np.roll(a, -1, axis=1)
        swap = (a[..., 1] > b[..., 1]) | ((a[..., 1] == b[..., 1]) & (a[..., 0] > b[..., 0]))
        low, high = np.where(swap[..., None], b, a), np.where(swap[..., None], a, b)
        self.x, self.y = low[..., 0], low[..., 1]  # (Z, E)
        self.dx, self.dy = (high - low)[..., 0], (high - low)[..., 1]
        slope = np.divide(self.dx, self.dy, out=np.zeros_like(self.dx), where=self.dy > 0)
        square = self.dx**2 + self.dy**2
        per_length = np.divide(1.0, square, out=np.zeros_like(square), where=square > 0)
        columns = (self.x, self.y, high[..., 1], self.dx, self.dy, slope, per_length)
        self.table = np.stack([one.T for one in columns])  # (7, E, Z)
        if self.count:
            self.left, self.lower = a.min(axis=1).T.copy()  # (Z,)
            self.right, self.upper = a.max(axis=1).T.copy()

    def cut_by(self, polygon: Array, before: Array, now: Array) -> Array:
        """Return whether ways between two points each (P, 2) meet an edge of P polygons (P,)."""
        dx, dy = self.dx[polygon], self.dy[polygon]  # (P, E)
        off_x = self.x[polygon] - before[:, :1]  # from the way's first point to lower ends
        off_y = self.y[polygon] - before[:, 1:]
        way = (now - before)[..., None]  # (P, 2, 1)
        lower = way[:, 0] * off_y - way[:, 1] * off_x
        upper = lower + way[:, 0] * dy - way[:, 1] * dx
        first = dy * off_x - dx * off_y
        last = first - (dy * way[:, 0] - dx * way[:, 1])
        return np.asarray(((lower * upper <= 0) & (first * last <= 0)).any(axis=1))

    def overlap(self, low: Array, high: Array) -> Array:
        """Return (K, Z): whether bounds (K, 2) to (K, 2) and those of a polygon overlap."""
        overlap = (high[:, :1] >= self.left) & (low[:, :1] <= self.right)
        overlap &= (high[:, 1:] >= self.lower) & (low[:, 1:] <= self.upper)
        return np.asarray(overlap)

    def near(self, points: Array, reach: Array) -> Near:
        """Return the pairs of points (K, 2) and polygons whose bounds they are near, see `Near`."""
        none = np.zeros(0, np.int64)
        if not (len(points) and self.count):
            return Near(none, none, none.astype(bool), none.astype(np.float64))
        low, high = points - reach[:, None], points + reach[:, None]
        k, z = np.nonzero(self.overlap(low, high))
        x, y = points[k].T
        low_x, low_y, top, dx, dy, slope, per_length = self.table.take(z, axis=2)  # (E, P) each
        off_x, off_y = x - low_x, y - low_y
        crossed = (off_y >= 0) & (y < top)  # the edges right of a point (even-odd rule)
        crossed &= x < low_x + off_y * slope
        within = np.logical_xor.reduce(crossed, axis=0)
        along = (off_x * dx + off_y * dy) * per_length
        np.minimum(np.maximum(along, 0, out=along), 1, out=along)
        off_x -= along * dx
        off_y -= along * dy
        distance = np.sqrt((off_x * off_x + off_y * off_y).min(axis=0))
        return Near(k, z, within, distance)


def _columns(numbers: Array) -> Array | slice:
    """Return what selects columns with these numbers: a slice, which is faster, if they follow."""
    if len(numbers) and (np.diff(numbers) == 1).all():
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers


def key_of(shape: Zone | Line) -> GroupKey:
    """Return the key of the group of a zone or line."""
    anchor = "foot" if shape.space == "ground" else shape.anchor  # only feet are on the ground
    return GroupKey(anchor, shape.space, shape.min_p_exist, shape.min_height)
