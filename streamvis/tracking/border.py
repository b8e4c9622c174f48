"""The border of the frame, over which people enter and leave."""

import numpy as np

from streamvis.geometry import area
from streamvis.messages import Array
from streamvis.tracking.parameters import TrackerParameters

EDGE = 0.1  # share of a box's height: margin at the border where people enter
PACE = (0.2, 2.0)  # limits of the pace by which tracks leave: velocities are uncertain


def share_inside(boxes: Array, size: tuple[int, int]) -> Array:
    """Return the share (N,) of each box (N, 4) within a frame of `size` (width, height)."""
    whole = area(boxes)
    seen = area(np.clip(boxes, 0, (*size, *size)))
    return np.divide(seen, whole, out=np.zeros(len(boxes)), where=whole > 0)


def at_edge(boxes: Array, size: tuple[int, int]) -> Array:
    """Whether (N,) boxes (N, 4) reach the left, right or lower edge of the frame."""
    margin = EDGE * (boxes[:, 3] - boxes[:, 1])
    width, height = size
    x1, _, x2, y2 = boxes.T
    return (x1 < margin) | (x2 > width - margin) | (y2 > height - margin)


def outward(boxes: Array, velocity: Array, size: tuple[int, int]) -> Array:
    """Return the speeds (N,), in heights of the boxes (N, 4) per s, across the border they reach.

    `velocity` (N, 2) in px/s; 0 where the box is inside a frame of `size` (width, height), and
    for who comes in.
    """
    vx, vy = velocity.T
    width, height = size
    x1, y1, x2, y2 = boxes.T
    speeds = [-vx * (x1 < 0), -vy * (y1 < 0), vx * (x2 > width), vy * (y2 > height)]
    return np.asarray(np.max(speeds, axis=0) / np.maximum(y2 - y1, 1))


def leaving_rate(inside: Array, speed: Array, seen: Array, parameters: TrackerParameters) -> Array:
    """Return the rates (N,) per s at which people leave, from the share of their boxes inside.

    Who was `seen` (N,) in the last frame is still there, until little of the box is in the frame.
    Of the others who walks along the border stays, who walks over it at `speed` (N,) leaves.
    """
    outside = np.maximum(1 - inside / np.where(seen, parameters.partly, 1.0), 0)
    pace = np.where(seen, 1.0, np.clip(speed / parameters.pace, *PACE))
    return 1 / parameters.lifetime_s + outside * pace / parameters.leave_s
