"""Weighted boxes fusion: the people of one picture from several views and detectors.

Solovyev, Wang and Gabruseva 2021, §3. A group has at most one box of each list. Its score is the
mean over all lists that could have had it: a list without it counts as a score of 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.geometry import iou
from streamvis.messages import Array

SAME = 0.55  # IoU from which two boxes show one person
CUT_PX = 3.0  # a box that near to the limit of a part of the picture may be cut off by it


class ScoredBoxes(NamedTuple):
    """K people, each once, found within a part of the picture."""

    boxes: Array  # (K, 4) float64, xyxy pixels of the picture
    scores: Array  # (K,) float64, above 0
    limits: Array  # (4,) float64, boxes that reach beyond cannot be found; infinite: no limit


def limits_of(part: Array, height: int, width: int) -> Array:
    """Return the limits (4,) for boxes in a part (4,): none where it ends with the picture."""
    whole = np.array([0, 0, width, height], float)
    inwards = np.array([CUT_PX, CUT_PX, -CUT_PX, -CUT_PX])
    outwards = np.array([-np.inf, -np.inf, np.inf, np.inf])
    return np.where(part == whole, outwards, part + inwards)


def within(boxes: Array, limits: Array) -> Array:
    """Return which boxes (N, 4) lie within the limits, (N,) bool."""
    inside = np.concatenate([boxes[:, :2] >= limits[:2], boxes[:, 2:] <= limits[2:]], axis=1)
    return np.asarray(inside.all(axis=1))


def fuse(lists: Sequence[ScoredBoxes]) -> tuple[Array, Array]:
    """Return the boxes (K, 4) and scores (K,) of all lists, each person once.

    List after list is assigned to the groups so far, so that the sum of IoU is the largest: taken
    by score alone, boxes of two people behind each other would change places. A group's box is the
    mean of its boxes, weighted by score.
    """
    sums, totals = np.zeros((0, 4)), np.zeros(0)  # of score·box, and of scores
    found = np.zeros(0, int)
    for one in lists:
        shared = iou(sums / totals[:, None], one.boxes)  # (K, N)
        shared[shared < SAME] = 0
        group, member = linear_sum_assignment(shared, maximize=True)
        paired = shared[group, member] > 0
        group, member = group[paired], member[paired]
        sums[group] += one.scores[member, None] * one.boxes[member]
        totals[group] += one.scores[member]
        found[group] += 1
        rest = np.setdiff1d(np.arange(len(one.scores)), member)
        sums = np.concatenate([sums, one.scores[rest, None] * one.boxes[rest]])
        totals = np.concatenate([totals, one.scores[rest]])
        found = np.concatenate([found, np.ones(len(rest), int)])
    boxes = sums / totals[:, None]
    able = np.sum([within(boxes, one.limits) for one in lists], axis=0)
    return boxes, totals / np.maximum(able, found)
