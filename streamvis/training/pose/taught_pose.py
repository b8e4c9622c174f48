"""Keypoints of people as BlazePose sees them in four views, with the probability of each point.

The network looks at a person in the crop of the box and in a crop around its own hips, turned
upright; and in the mirror images of both. Points on which the four agree are right: how far they
are apart says more than the network's own visibility. `probability` was fitted on a third of the
true keypoints of 109 pictures of COCO (970 points; docs/data.md has what it is worth on the rest).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamvis.datasets.keypoints import SIGMAS
from streamvis.messages import Array
from streamvis.training.detector.pose_teacher import (
    LANDMARKS,
    MARGIN,
    PoseTeacher,
    View,
    around,
)

COCO = np.array([0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])  # of 33 points
HIPS, UP = 33, 34  # landmarks: the middle of the hips; a circle about it through it holds the body
LEFT_RIGHT = ((1, 4), (2, 5), (3, 6), (7, 8), (9, 10), *((i, i + 1) for i in range(11, 33, 2)))
CLOSER, WIDER = 0.4, 2.5  # side of the second crop over the first; others are no person's
# log odds that a point is right, which is OKS > 0.5: 1, log of the spread, log odds of the
# presence of a person, the network's visibility
ODDS = np.array([-1.556, -1.028, 0.365, 0.344])
LIMITS = 1e-3  # probabilities and spreads are this far from 0 and 1, at least


class TaughtPose(NamedTuple):
    """The keypoints of one person, in COCO's order."""

    points: Array  # (17, 2) pixels of the picture
    scores: Array  # (17,) probability that the point is right
    world: Array  # (17, 3) metres about the middle of the hips: right, down, away from the camera
    presence: float  # probability that a person is there, mean of the views


class _Seen(NamedTuple):
    """What one view shows, in the picture."""

    landmarks: Array  # (39, 2) pixels of the picture
    world: Array  # (39, 3)
    confidence: Array  # (39,)
    presence: float


def teach(teacher: PoseTeacher, pixels: Array, box: Array) -> TaughtPose:
    """Return the keypoints of the person in a box (4,) xyxy of a picture (H, W, 3) uint8 RGB."""
    first = around(box)
    seen = [_see(teacher, pixels, view) for view in (first, first._replace(mirrored=True))]
    second = _about_hips(first, seen)
    if second is not None:
        views = (second, second._replace(mirrored=True))
        seen += [_see(teacher, pixels, view) for view in views]
    points = np.array([one.landmarks[COCO] for one in seen])  # (views, 17, 2)
    world = np.median([one.world[COCO] for one in seen], axis=0)
    presence = float(np.mean([one.presence for one in seen]))
    visible = np.mean([one.confidence[COCO] for one in seen], axis=0)
    scores = probability(points, visible, presence)
    hips = world[[11, 12]].mean(axis=0)
    return TaughtPose(np.median(points, axis=0), scores, world - hips, presence)


def see_once(teacher: PoseTeacher, pixels: Array, box: Array) -> TaughtPose:
    """Return the keypoints as `teach`, in the crop of the box alone, with the network's scores."""
    seen = _see(teacher, pixels, around(box))
    world = seen.world[COCO]
    scores = seen.presence * seen.confidence[COCO]
    return TaughtPose(seen.landmarks[COCO], scores, world - world[[11, 12]].mean(0), seen.presence)


def probability(points: Array, visible: Array, presence: float) -> Array:
    """Return the probabilities (17,) that points seen in several views (V, 17, 2) are right."""
    spread = np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))  # px
    size = max(np.ptp(np.median(points, axis=0), axis=0).max(), 1.0)
    apart = np.log(np.clip(spread / size / (2 * SIGMAS), 0.01, 10))
    known = np.clip(presence, LIMITS, 1 - LIMITS)
    odds = ODDS[0] + ODDS[1] * apart + ODDS[2] * np.log(known / (1 - known)) + ODDS[3] * visible
    return np.asarray(1 / (1 + np.exp(-odds)))


def _see(teacher: PoseTeacher, pixels: Array, view: View) -> _Seen:
    found = teacher.landmarks(pixels, view)
    affine = view.affine()
    places = np.linalg.solve(affine[:, :2], (found.points - affine[:, 2]).T).T
    world, confidence = found.world.copy(), found.confidence
    if view.mirrored:
        other = _swapped(LANDMARKS, LEFT_RIGHT)
        places, world, confidence = places[other], world[other] * [-1, 1, 1], confidence[other]
    cos, sin = np.cos(view.turn), np.sin(view.turn)
    world[:, :2] = world[:, :2] @ np.array([[cos, sin], [-sin, cos]])
    return _Seen(places, world, confidence, found.presence)


def _about_hips(first: View, seen: Sequence[_Seen]) -> View | None:
    """Return an upright crop about the hips; None when these are not in a person's place."""
    hips, up = (np.mean([one.landmarks[i] for one in seen], axis=0) for i in (HIPS, UP))
    x, y = up - hips
    side = 2 * MARGIN * float(np.hypot(x, y))
    if not CLOSER < side / first.side < WIDER:
        return None
    return View(hips, side, float(np.arctan2(x, -y)))


def _swapped(count: int, pairs: Sequence[tuple[int, int]]) -> Array:
    order = np.arange(count)
    for left, right in pairs:
        order[[left, right]] = right, left
    return order
