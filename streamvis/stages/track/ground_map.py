"""A map of the ground plane beside the picture: positions, velocities and paths of people.

    ground = GroundMap(H, width, height)
    view = ground.view
    view = follow(view, widen(view, ground.turned(ground.places(tracks))), seconds)
    picture = np.concatenate([picture, ground.draw(view, tracks, trails)], axis=1)

The map is turned so that the camera looks up: left in the picture is left on the map. Its grid is
in world coordinates. The ground that the camera sees is lighter than the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.calibration.ground_plane import pinhole, visible
from streamvis.geometry import foot, to_ground
from streamvis.messages import Array, Tracks
from streamvis.viz.style import (
    DARK,
    GREY,
    PALE,
    Colour,
    Style,
    at,
    colour_of,
    fading_line,
    nice_step,
    shade,
)

View = tuple[float, float, float, float]  # turned metres: x from, y from, x to, y to
WIDTHS = (0.3, 0.55)  # of the picture's width, between which the map's lies
NEAREST_PEOPLE = (
    1 / 9
)  # of the picture's height: the map begins with the ground where people are so tall
MARGIN_M = 1.0
STEP_M = 5.0  # the map grows by
SETTLE_S = 0.6  # in which it has grown by two thirds
NEAR_M = 0.02  # from where it is there
FARTHEST_M = 300.0  # from where people are seen best: beyond is a homography gone wild
SIGMAS = 2.0  # an ellipse holds 86 % of the probability
AHEAD_S = 1.5  # an arrow ends where its person will be then
SEEN: Colour = (44, 50, 56)
LINES: Colour = (66, 74, 82)


@dataclass(frozen=True)
class Trail:
    """The path of a track, oldest point first."""

    points: Array  # (P, 2) foot points, pixels
    ground: Array  # (P, 2) metres, NaN without a ground plane
    strength: Array  # (P,) in [0, 1], 1 is now


Trails = Mapping[int, Trail]


def widen(view: View, ground: Array) -> View:
    """Return the view, enlarged in whole steps until it contains these positions (N, 2) too."""
    middle = (np.array(view[:2]) + view[2:]) / 2
    near = (np.abs(ground - middle) < FARTHEST_M).all(axis=1)  # NaN is not
    if not near.any():
        return view
    short = np.maximum(view[:2] - (ground[near].min(axis=0) - MARGIN_M), 0)
    over = np.maximum(ground[near].max(axis=0) + MARGIN_M - view[2:], 0)
    low = view[:2] - np.ceil(short / STEP_M) * STEP_M
    high = view[2:] + np.ceil(over / STEP_M) * STEP_M
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def follow(view: View, goal: View, seconds: float) -> View:
    """Return the view after moving smoothly towards its goal for `seconds`."""
    if np.abs(np.subtract(goal, view)).max() < NEAR_M:
        return goal
    share = 1 - float(np.exp(-max(seconds, 0) / SETTLE_S))
    x1, y1, x2, y2 = (a + (b - a) * share for a, b in zip(view, goal, strict=True))
    return (x1, y1, x2, y2)


class MapTransform(NamedTuple):
    """The transform from world coordinates to pixels of the map."""

    turn: Array  # (2, 2)
    middle: Array  # (2,) turned metres
    scale: float  # px per metre
    half: Array  # (2,) px, centre of the map

    def place(self, ground: Array) -> Array:
        """Transform metres (N, 2) to pixels of the map."""
        return (ground @ self.turn.T - self.middle) * (self.scale, -self.scale) + self.half


class GroundMap:
    """The map beside pictures of one size: of their height, and of constant width."""

    def __init__(self, H: Array, width: int, height: int) -> None:
        self.H = -H if H[2] @ [width / 2, height, 1] < 0 else H
        self.height = height
        self.style = Style.for_size(height, width)
        self.turn = _turn(self.H, width, height)
        self.seen = _visible(self.H, width, height, height / 36)
        self.camera = pinhole(self.H, (width, height))
        self.paper: tuple[View, Array] | None = None  # the last background, and its view
        self.view = _around(self.turned(_visible(self.H, width, height, height * NEAREST_PEOPLE)))
        span = np.subtract(self.view[2:], self.view[:2])
        least, most = (round(share * width) for share in WIDTHS)
        wanted = round(height * span[0] / span[1])
        self.width = max(16, min(max(wanted, least), most) // 2 * 2)  # codecs like even sides

    def places(self, tracks: Tracks) -> Array:
        """Return the position (N, 2) of each track in metres, from its foot point if need be."""
        by_foot, _ = to_ground(self.H, foot(tracks.boxes.astype(np.float64)))
        beyond = foot(tracks.boxes) @ self.H[2, :2] + self.H[2, 2] <= 0
        by_foot[beyond] = np.nan
        return np.where(np.isfinite(tracks.ground), tracks.ground, by_foot)

    def turned(self, ground: Array) -> Array:
        """Rotate world metres (N, 2) into the orientation of the map."""
        return ground @ self.turn.T

    def draw(self, view: View, tracks: Tracks | None, trails: Trails) -> Array:
        """Return the map (height, width, 3) for this view."""
        if self.paper is None or self.paper[0] != view:
            self.paper = (view, self._paper(view))
        panel, transform = self.paper[1].copy(), self._transform(view)
        for track, trail in trails.items():
            points, strength = transform.place(trail.ground), 0.35 + 0.65 * trail.strength
            fading_line(panel, points, strength, colour_of(track), self.style.line)
        if tracks is not None:
            self._people(panel, tracks, transform)
        return panel

    def _transform(self, view: View) -> MapTransform:
        width, height = view[2] - view[0], view[3] - view[1]
        return MapTransform(
            turn=self.turn,
            middle=np.add(view[:2], view[2:]) / 2,
            scale=min(self.width / width, self.height / height),
            half=np.array([self.width, self.height]) / 2,
        )

    def _paper(self, view: View) -> Array:
        """Draw what depends on the view only."""
        panel, transform = (
            np.full((self.height, self.width, 3), DARK, np.uint8),
            self._transform(view),
        )
        cv2.fillPoly(
            panel, [np.array([at(p) for p in transform.place(self.seen)])], SEEN, cv2.LINE_AA
        )
        step = nice_step(max(self.width, self.height) / transform.scale, 10)
        self._grid(panel, transform, step)
        self._camera(panel, transform)
        self._scale_bar(panel, step, transform.scale)
        cv2.line(panel, (0, 0), (0, self.height), LINES, 2)
        return panel

    def _grid(self, panel: Array, transform: MapTransform, step: float) -> None:
        """Draw lines of constant world x and y, labelled where they enter the map."""
        middle = transform.middle @ self.turn  # in the world
        reach = np.hypot(self.width, self.height) / 2 / transform.scale  # metres
        for axis, name in enumerate("xy"):
            first = np.ceil((middle[axis] - reach) / step) * step
            for value in np.arange(first, middle[axis] + reach, step):
                ends = np.array([middle, middle])
                ends[:, axis] = value
                ends[:, 1 - axis] += (-reach, reach)
                frame = (0, 0, self.width, self.height)
                shown, start, end = cv2.clipLine(
                    frame, *(at(point) for point in transform.place(ends))
                )
                if shown:
                    cv2.line(panel, start, end, LINES, 1, cv2.LINE_AA)
                    self._name(panel, f"{name} {value:g}", start, end)

    def _name(self, panel: Array, text: str, start: Sequence[int], end: Sequence[int]) -> None:
        """Label level lines at the left edge and steep ones at the upper edge."""
        level = abs(end[0] - start[0]) > abs(end[1] - start[1])
        edge = min(start, end, key=lambda point: point[0] if level else point[1])
        if edge[0 if level else 1] > 0:  # it comes in by another edge
            return
        x, y = edge[0] + 4, edge[1] + (-3 if level else self.style.text + 4)
        inside = x + self.style.width(text) < self.width and 3 * self.style.text < y
        if (inside or not level) and y < self.height - 4 * self.style.text:
            self.style.write(panel, text, x, y, GREY)

    def _camera(self, panel: Array, transform: MapTransform) -> None:
        """Draw the camera and its field of view, if it is on the map."""
        if self.camera is None or abs(self.camera.R[2, 2]) > 0.99:
            return
        stand = self.camera.centre[:2]
        ((x, y),) = transform.place(stand[None])
        slope = self.camera.K[0, 2] / self.camera.K[0, 0]  # of the view's edges, seen from above
        arm = 2 * self.style.text / np.hypot(1, slope)
        for side in (-slope, slope):
            tip = np.array([x + arm * side, y - arm])  # the map is turned until it looks up
            cv2.line(panel, at(np.array([x, y])), at(tip), PALE, self.style.line, cv2.LINE_AA)
        cv2.circle(panel, at(np.array([x, y])), 2 * self.style.line, PALE, cv2.FILLED, cv2.LINE_AA)

    def _people(self, panel: Array, tracks: Tracks, transform: MapTransform) -> None:
        points = transform.place(self.places(tracks))
        radius = max(2, round(1.5 * self.style.line + 1))
        flip = np.diag([transform.scale, -transform.scale]) @ self.turn  # px per metre
        sound = np.flatnonzero(np.isfinite(points).all(axis=1))
        for i in sound:
            colour = colour_of(int(tracks.ids[i]))
            if tracks.ground_covariance is not None:
                spread = flip @ tracks.ground_covariance[i] @ flip.T
                _ellipse(panel, points[i], spread, colour)
            if tracks.ground_velocity is not None:
                tip = points[i] + AHEAD_S * flip @ tracks.ground_velocity[i]
                _arrow(panel, points[i], tip, colour, radius)
        for i in sound:  # over all else, so that every id can be read
            x, y = at(points[i])
            if 0 <= x < self.width and 0 <= y < self.height:
                cv2.circle(panel, (x, y), radius, colour_of(int(tracks.ids[i])), -1, cv2.LINE_AA)
                self.style.write(panel, str(tracks.ids[i]), x + radius + 2, y - radius, PALE)

    def _scale_bar(self, panel: Array, step: float, scale: float) -> None:
        text, pad = f"{step:g} m", self.style.text // 2
        w, x, y = round(step * scale), 2 * pad, self.height - 2 * pad
        shade(
            panel[y - self.style.text - 2 * pad :, : w + self.style.width(text) + 5 * pad],
            DARK,
            0.6,
        )
        cv2.line(panel, (x, y), (x + w, y), PALE, max(2, self.style.line))
        for end in (x, x + w):
            cv2.line(panel, (end, y - pad), (end, y + 1), PALE, max(1, self.style.line))
        self.style.write(panel, text, x + w + pad, y, PALE)


def _turn(H: Array, width: int, height: int) -> Array:
    """Return the rotation (2, 2) that maps the picture's upward direction to (0, 1)."""
    _, J = to_ground(H, np.array([[width / 2, height]]))
    length = np.linalg.norm(J[0, :, 1])
    if not 0 < length < np.inf:  # on the horizon
        return np.eye(2)
    up = -J[0, :, 1] / length
    return np.array([[up[1], -up[0]], up])


def _visible(H: Array, width: int, height: int, person_px: float) -> Array:
    """Return the visible ground (K, 2), a point where all of it is on the horizon."""
    ground = visible(H, (width, height), person_px)
    ground = ground[np.isfinite(ground).all(axis=1)]
    return ground if len(ground) else np.zeros((1, 2))


def _around(ground: Array) -> View:
    """Return the view, in whole metres, that contains these positions (K, 2)."""
    low = np.floor(ground.min(axis=0) - MARGIN_M)
    high = np.ceil(ground.max(axis=0) + MARGIN_M)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _arrow(panel: Array, start: Array, tip: Array, colour: Colour, radius: int) -> None:
    length = float(np.linalg.norm(tip - start))  # px
    if radius < length < np.inf:
        head = min(0.4, 3 * radius / length)
        cv2.arrowedLine(panel, at(start), at(tip), colour, 1, cv2.LINE_AA, 0, head)


def _ellipse(panel: Array, centre: Array, spread: Array, colour: Colour) -> None:
    if not np.isfinite(spread).all():
        return
    variance, axes = np.linalg.eigh(spread)  # ascending
    half = SIGMAS * np.sqrt(np.maximum(variance, 0))
    if not 1 < half[1] < 4 * max(panel.shape):  # too small to see, or too wide to mean anything
        return
    angle = float(np.degrees(np.arctan2(axes[1, 1], axes[0, 1])))
    size = (round(float(half[1])), round(float(half[0])))
    cv2.ellipse(panel, at(centre), size, angle, 0, 360, colour, 1, cv2.LINE_AA)
