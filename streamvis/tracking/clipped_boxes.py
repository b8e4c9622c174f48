"""Boxes that the frame's border clips: what is left of a measurement.

An edge on the border is a censored measurement: the person reaches so far at least. The box is
completed by the shape of people, where one of its sides is whole, and the completed edge has a
noise of its own, so that position and size become correlated.
"""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array

ASPECT = 0.41  # width of people as a share of their height
SIGMA_CLIPPED = 0.25  # noise of a completed edge, as a share of the side: people's shapes differ
MARGIN = 0.02  # of the box's height: an edge so near to the border lies on it


class CompletedBoxes(NamedTuple):
    """M boxes that reach over the border where it clips them."""

    boxes: Array  # (M, 4)
    clipped: Array  # (M, 4) bool: left and right edges that the border clips


def complete(boxes: Array, size: tuple[int, int]) -> CompletedBoxes:
    """Complete boxes (M, 4) in a frame of `size` (width, height) by the shape of people.

    The left and the right edge alone: the height of people says more of their width than the
    width of their height, for arms and legs swing. Boxes never shrink. A width is left as it is
    where both edges are clipped, or the height, for then nothing tells it; clipped edges have
    their noise all the same.
    """
    side = boxes[:, 2:] - boxes[:, :2]
    near = MARGIN * side[:, 1:]
    clipped = np.abs(boxes - [0, 0, *size]) <= near
    one = (clipped[:, [0, 2]].sum(axis=1) == 1) & ~clipped[:, [1, 3]].any(axis=1)
    clipped[:, [1, 3]] = False
    missing = np.where(one, np.maximum(ASPECT * side[:, 1] - side[:, 0], 0), 0)
    outward = missing[:, None] * [-1, 0, 1, 0]
    return CompletedBoxes(boxes + outward * clipped, clipped)
