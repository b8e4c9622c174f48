"""A map of the ground plane in a corner of the picture: who stands where, and walks whither."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from streamvis.geometry import foot, to_ground
from streamvis.messages import Array, Tracks
from streamvis.viz.ink import DARK, GREY, Colour, Ink, at, colour_of, fading_line, nice_step, shade

View = tuple[float, float, float, float]  # metres: x from, y from, x to, y to
CORNERS = ((1, 0), (0, 0), (0, 1), (1, 1))  # right, lower: in the order they are preferred
SHARE = (0.28, 0.34)  # of the picture's width and height that the map may take
SIGMAS = 2.0  # an ellipse holds 86 % of the probability
AHEAD_S = 2.0  # an arrow ends where its person will be then


@dataclass(frozen=True)
class Trail:
    """Where a track has been, oldest first."""

    points: Array  # (P, 2) foot points, pixels
    ground: Array  # (P, 2) metres, NaN without a ground plane
    strength: Array  # (P,) in [0, 1], 1 is now


Trails = Mapping[int, Trail]


def widen(view: View | None, ground: Array) -> View | None:
    """The view, grown in whole steps of 5 m until it holds these positions (N, 2) as well.

    Positions beyond 1 km are a homography gone wild near the horizon; they do not count.
    """
    sound = ground[np.isfinite(ground).all(axis=1) & (np.abs(ground) < 1000).all(axis=1)]
    if not len(sound):
        return view
    low = np.floor((sound.min(axis=0) - 1) / 5) * 5
    high = np.ceil((sound.max(axis=0) + 1) / 5) * 5
    if view is not None:
        low, high = np.minimum(low, view[:2]), np.maximum(high, view[2:])
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def in_corners(boxes: Array, width: int, height: int) -> Array:
    """How many boxes (N, 4) reach into each of the corners a map could cover: (4,)."""
    w, h = width * SHARE[0], height * SHARE[1]
    x1, y1, x2, y2 = boxes.T
    reach = ((x1 < w, x2 > width - w), (y1 < h, y2 > height - h))  # (left, right), (upper, lower)
    return np.array([np.sum(reach[0][right] & reach[1][lower]) for right, lower in CORNERS])


def draw_map(
    image: Array,
    tracks: Tracks,
    trails: Trails,
    view: View,
    ground_plane: Array | None,
    corner: int = 0,
) -> None:
    """Draw the map into one of the CORNERS of the image; x to the right, y up."""
    height, width = image.shape[:2]
    ink = Ink.for_size(height, width)
    span = np.array([view[2] - view[0], view[3] - view[1]])
    scale = float(min(SHARE[0] * width / span[0], SHARE[1] * height / span[1]))  # px per metre
    w, h = (span * scale).astype(int).tolist()
    margin = max(4, ink.text)
    if w < 8 or h < 8 or h + margin > height or w + margin > width:
        return
    right, lower = CORNERS[corner]
    left = width - margin - w if right else margin
    top = height - margin - ink.bar - h if lower else margin
    panel = image[max(top, 0) : top + h, left : left + w]
    shade(panel, DARK, 0.75)

    def place(ground: Array) -> Array:
        """Metres (N, 2) -> pixels of the panel."""
        return (ground - (view[0], view[3])) * (scale, -scale)

    step = nice_step(float(span.max()), 6)
    _grid(panel, view, step, scale)
    for track, trail in trails.items():
        points = place(trail.ground)
        fading_line(panel, points, 0.8 * trail.strength, colour_of(track), ink.line)
    _people(panel, tracks, place(tracks.ground), scale, ground_plane, ink)
    cv2.rectangle(panel, (0, 0), (w - 1, h - 1), GREY, 1)
    ink.write(panel, f"{step:g} m grid", ink.text // 2, h - ink.text // 2, GREY)


def _grid(panel: Array, view: View, step: float, scale: float) -> None:
    h, w = panel.shape[:2]
    faint: Colour = (78, 84, 92)
    for x in np.arange(np.ceil(view[0] / step) * step, view[2], step):
        column = round((x - view[0]) * scale)
        cv2.line(panel, (column, 0), (column, h), faint, 1)
    for y in np.arange(np.ceil(view[1] / step) * step, view[3], step):
        row = round((view[3] - y) * scale)
        cv2.line(panel, (0, row), (w, row), faint, 1)


def _people(
    panel: Array,
    tracks: Tracks,
    points: Array,  # (N, 2) pixels of the panel
    scale: float,
    ground_plane: Array | None,
    ink: Ink,
) -> None:
    spread, velocity = _on_ground(tracks, ground_plane)
    radius = max(2, round(1.3 * ink.line + 1))
    flip = np.array([scale, -scale])
    for i in np.flatnonzero(np.isfinite(points).all(axis=1)):
        colour = colour_of(int(tracks.ids[i]))
        _ellipse(panel, points[i], spread[i] * np.outer(flip, flip), colour)
        tip = points[i] + velocity[i] * AHEAD_S * flip
        length = float(np.linalg.norm(tip - points[i]))  # px
        if radius < length < np.inf:
            line, head = max(1, ink.line - 1), min(0.4, 3 * radius / length)
            cv2.arrowedLine(panel, at(points[i]), at(tip), colour, line, cv2.LINE_AA, 0, head)
        cv2.circle(panel, at(points[i]), radius, colour, cv2.FILLED, cv2.LINE_AA)


def _on_ground(tracks: Tracks, ground_plane: Array | None) -> tuple[Array, Array]:
    """Covariances (N, 2, 2) in m² and velocities (N, 2) in m/s, NaN where they cannot be known."""
    n = len(tracks.ids)
    variances = tracks.covariance[:, :2].astype(np.float64)
    spread = np.einsum("ni,ij->nij", variances, np.eye(2))
    if ground_plane is None:
        unknown = np.full((n, 2, 2), np.nan)
        return spread if tracks.space == "ground" else unknown, np.full((n, 2), np.nan)
    J = np.full((n, 2, 2), np.nan)  # m per px
    sound = np.isfinite(tracks.boxes).all(axis=1)
    J[sound] = to_ground(ground_plane, foot(tracks.boxes[sound].astype(np.float64)))[1]
    with np.errstate(invalid="ignore", over="ignore"):  # on the horizon J is infinite
        if tracks.space == "image":
            spread = J @ spread @ J.transpose(0, 2, 1)
        return spread, np.einsum("nij,nj->ni", J, tracks.velocity.astype(np.float64))


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
