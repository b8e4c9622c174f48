"""Zones and lines at random places where people walk, for `streamvis eval zones`.

    layout = generated_layout(truth, (768, 576), fps=7, count=20, seed=0)

Places are foot points of the ground truth, and sizes are in heights of the people there, so that
zones and lines suit a scene with small people as well as one with large ones. They keep away from
the edges of the picture where ground truth leaves out people who are cut off, as it does when none
of its boxes reach beyond: what is counted rightly there would be taken for false.
"""

from typing import NamedTuple

import numpy as np

from streamvis.datasets.motchallenge import PEDESTRIAN, Rows
from streamvis.errors import DataError
from streamvis.geometry import foot
from streamvis.messages import Array
from streamvis.zone_layout import Line, Zone, ZoneLayout

LENGTH = (1.0, 4.0)  # of a line, in heights of a person
TURN = np.radians(45)  # largest angle between a line and the perpendicular of the path
RADIUS = (0.5, 1.5)  # of a zone, in heights of a person
FLAT = 0.6  # height of a zone over its width, as the ground is seen from above
CORNERS = (4, 7)
CUT_OFF = 0.005  # share of boxes that reach beyond the picture, where they are not left out
MARGIN = 0.5  # least distance from the edge of the picture otherwise, in heights of a person ...
WIDEST = 0.25  # but at most this share of the picture
STEP_S = 0.5  # the direction of a path is that between so long before and after
MOVING = 0.05  # a person who moves less in this time stands, in heights
TRIES = 1000
DIGITS = 4  # of shares, so that a printed layout is the same


def generated_layout(
    truth: Rows, size: tuple[int, int], fps: float, count: int, seed: int
) -> ZoneLayout:
    """Return `count` zones and as many lines, the same ones for the same truth and seed."""
    rng = np.random.default_rng([seed, count])
    truth = truth.where((truth.classes == PEDESTRIAN) & (truth.scores > 0))
    truth = truth.where(np.lexsort((truth.ids, truth.frames)))
    margin = MARGIN if _beyond(truth.boxes, size) < CUT_OFF else 0.0
    lines: list[Line] = []
    zones: list[Zone] = []
    for _ in range(TRIES * count):
        place = int(rng.integers(len(truth)))
        height = float(truth.boxes[place, 3] - truth.boxes[place, 1])
        edge = np.minimum(margin * height, WIDEST * np.array(size))
        spot = _Spot(foot(truth.boxes[[place]])[0], height, edge, size - edge)
        if len(zones) < count and (ring := _ring(spot, rng)) is not None:
            zones += _zone(f"zone-{len(zones)}", ring / size)
        if len(lines) < count:
            step = _step(truth, place, fps)
            ends = _ends(spot, step, rng)
            if ends is not None:
                start, end = (_share(point / size) for point in ends)
                lines.append(Line(name=f"line-{len(lines)}", start=start, end=end))
        if len(zones) == len(lines) == count:
            return ZoneLayout(zones=tuple(zones), lines=tuple(lines))
    raise DataError(
        f"only {len(lines)} of {count} lines and {len(zones)} of {count} zones could be placed "
        "on the paths of the ground truth, most of whose people stand or are outside of the picture"
    )


class _Spot(NamedTuple):
    """A foot point, and where zones and lines may be for people of that height, in pixels."""

    foot: Array  # (2,)
    height: float
    low: Array  # (2,)
    high: Array  # (2,)

    def is_within(self, point: Array) -> bool:
        return bool(((point > self.low) & (point < self.high)).all())


def _step(truth: Rows, place: int, fps: float) -> Array:
    """Return how far (2,) the person moves about this time."""
    same = truth.where(truth.ids == truth.ids[place])
    near = np.abs(same.frames - truth.frames[place]) <= max(STEP_S * fps, 1)
    feet = foot(same.boxes[near])
    return np.asarray(feet[-1] - feet[0])


def _ends(spot: _Spot, step: Array, rng: np.random.Generator) -> tuple[Array, Array] | None:
    """Return the ends of a line across the path of a person, or None where the person stands."""
    turn = rng.uniform(-TURN, TURN) + np.pi / 2 * rng.choice((-1, 1))
    half = rng.uniform(*LENGTH) * spot.height / 2
    centre = spot.foot + step * rng.uniform(-0.5, 0.5)
    if np.linalg.norm(step) < MOVING * spot.height or not spot.is_within(centre):
        return None
    angle = np.arctan2(step[1], step[0]) + turn
    way = half * np.array([np.cos(angle), np.sin(angle)])
    with np.errstate(divide="ignore"):
        ahead = np.where(way > 0, spot.high - centre, centre - spot.low) / np.abs(way)
        behind = np.where(way < 0, spot.high - centre, centre - spot.low) / np.abs(way)
    low, high = min(1.0, behind.min()), min(1.0, ahead.min())
    return (centre - low * way, centre + high * way) if low + high >= 0.5 else None


def _ring(spot: _Spot, rng: np.random.Generator) -> Array | None:
    """Return the corners (K, 2) of a polygon around the spot, or None where there is no room."""
    corners = int(rng.integers(CORNERS[0], CORNERS[1] + 1))
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    radii = rng.uniform(*RADIUS) * spot.height * rng.uniform(0.6, 1.0, corners)
    ring = np.stack([np.cos(angles), FLAT * np.sin(angles)], axis=1) * radii[:, None]
    centre = spot.foot + rng.normal(0, 0.25, 2) * spot.height
    return np.clip(centre + ring, spot.low, spot.high) if spot.is_within(centre) else None


def _zone(name: str, corners: Array) -> list[Zone]:
    """Return a zone; none where what is left of it in the picture has no area."""
    try:
        return [Zone(name=name, polygon=tuple(map(_share, corners)))]
    except ValueError:
        return []


def _beyond(boxes: Array, size: tuple[int, int]) -> float:
    """Return the share of boxes that reach beyond the picture by more than a pixel."""
    return float(((boxes[:, :2] < -1) | (boxes[:, 2:] > np.array(size) + 1)).any(axis=1).mean())


def _share(point: Array) -> tuple[float, float]:
    x, y = np.clip(point, 0, 1).round(DIGITS).tolist()
    return (x, y)
