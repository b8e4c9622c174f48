"""Zones and lines at random places where people walk, for `streamvis eval zones`.

    layout = generated_layout(truth, (768, 576), fps=7, count=20, seed=0)

Places are foot points of the ground truth, and sizes are in heights of the people there, so that
zones and lines suit a scene with small people as well as one with large ones.
"""

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
    lines: list[Line] = []
    zones: list[Zone] = []
    for _ in range(TRIES * count):
        place = int(rng.integers(len(truth)))
        if len(zones) < count and (zone := _zone(truth, place, size, f"zone-{len(zones)}", rng)):
            zones.append(zone)
        if len(lines) < count:
            line = _line(truth, place, size, fps, f"line-{len(lines)}", rng)
            lines += [line] if line else []
        if len(zones) == len(lines) == count:
            return ZoneLayout(zones=tuple(zones), lines=tuple(lines))
    raise DataError(
        f"only {len(lines)} of {count} lines and {len(zones)} of {count} zones could be placed "
        "on the paths of the ground truth, most of whose people stand or are outside of the picture"
    )


def _line(
    truth: Rows, place: int, size: tuple[int, int], fps: float, name: str, rng: np.random.Generator
) -> Line | None:
    """Return a line across the path of a person, or None where the person stands."""
    same = truth.where(truth.ids == truth.ids[place])
    near = np.abs(same.frames - truth.frames[place]) <= max(STEP_S * fps, 1)
    feet = foot(same.boxes[near])
    height = float(truth.boxes[place, 3] - truth.boxes[place, 1])
    step = feet[-1] - feet[0]
    turn = rng.uniform(-TURN, TURN) + np.pi / 2 * rng.choice((-1, 1))
    half = rng.uniform(*LENGTH) * height / 2
    centre = foot(truth.boxes[[place]])[0] + step * rng.uniform(-0.5, 0.5)
    if np.linalg.norm(step) < MOVING * height:
        return None
    angle = np.arctan2(step[1], step[0]) + turn
    ends = _within(centre, half * np.array([np.cos(angle), np.sin(angle)]), size)
    if ends is None:
        return None
    start, end = ends
    return Line(name=name, start=_share(start, size), end=_share(end, size))


def _zone(
    truth: Rows, place: int, size: tuple[int, int], name: str, rng: np.random.Generator
) -> Zone | None:
    """Return a polygon around a foot point, or None where it does not fit in the picture."""
    height = float(truth.boxes[place, 3] - truth.boxes[place, 1])
    corners = int(rng.integers(CORNERS[0], CORNERS[1] + 1))
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    radii = rng.uniform(*RADIUS) * height * rng.uniform(0.6, 1.0, corners)
    ring = np.stack([np.cos(angles), FLAT * np.sin(angles)], axis=1) * radii[:, None]
    centre = foot(truth.boxes[[place]])[0] + rng.normal(0, 0.25, 2) * height
    points = np.clip(centre + ring, 0, size)
    try:
        return Zone(name=name, polygon=tuple(_share(point, size) for point in points))
    except ValueError:  # what is left of it in the picture has no area
        return None


def _within(centre: Array, half: Array, size: tuple[int, int]) -> tuple[Array, Array] | None:
    """Return the ends of centre ± half, cut off at the picture's edges; None when too short."""
    if not ((centre > 0) & (centre < size)).all():
        return None
    with np.errstate(divide="ignore"):
        ahead = np.where(half > 0, np.array(size) - centre, centre) / np.abs(half)
        behind = np.where(half < 0, np.array(size) - centre, centre) / np.abs(half)
    low, high = min(1.0, behind.min()), min(1.0, ahead.min())
    if low + high < 0.5:
        return None
    return centre - low * half, centre + high * half


def _share(point: Array, size: tuple[int, int]) -> tuple[float, float]:
    x, y = (np.clip(point / size, 0, 1)).round(DIGITS).tolist()
    return (x, y)
