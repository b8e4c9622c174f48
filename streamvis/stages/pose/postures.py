"""How clearly keypoints show each posture: geometry of the upright plane. Pure, without a memory.

Keypoints are first placed in the upright plane that faces the camera and stands on the person's
foot point: `a` runs to the right, `b` upwards. With a ground plane it is that plane in metres;
without one it is the picture, in pixels, whose vertical is taken as upright. Lengths are then
divided by the stature, of which the parts of a body have known shares (Drillis and Contini, 1966),
so that the scale of the picture does not matter:

    rise   (shoulders − hips) / trunk       1 upright, 0 level, −1 head down
    seat   hips − ankles                    .5 standing, .27 on a chair, .15 crouching, 0 lying
    thigh  (hips − knees) / thigh           1 standing, 0 on a chair, −.3 crouching
    shin   (knees − ankles) / shin          1 standing and on a chair, 0 with legs stretched out
    hands  wrists − shoulders               −.3 hanging, .12 at the nose, .3 above the head

All are of the upward coordinate b, and of each side of the body on its own. A condition on one of
them is worth 0 at its first bound, 1 at its second and from there on, linear in between; a posture
is worth the least of its conditions:

    fallen      rise .80 → .40,  seat .38 → .22
    sitting     rise .30 → .70,  thigh .85 → .50,  seat .47 → .38,
                and either seat .14 → .24 or shin .50 → .20
    crouching   rise .10 → .40,  thigh .60 → .30,  seat .30 → .18,  shin .20 → .50,  not fallen
    hands_up    rise .30 → .60,  hands .03 → .15

The side on which a posture is less clear counts, so that one wrong keypoint makes none. A side with
a keypoint missing is unknown, unless its other conditions exclude the posture; then the other side
counts, except for `hands_up`. So is a keypoint that most of its parts of the body would have to be
half as long again to reach. A posture that is unknown on both is NaN. Where the ankles are
unknown, the seat of `fallen` is twice the height of the hips over the knees.
"""

from typing import NamedTuple

import numpy as np

from streamvis.calibration.ground_plane import Pinhole
from streamvis.geometry import to_ground
from streamvis.messages import KEYPOINTS, Array
from streamvis.stages.pose.keypoints import ANKLES, ELBOWS, HIPS, KNEES, SHOULDERS, WRISTS

TRUNK, THIGH, SHIN = 0.288, 0.245, 0.246  # of the stature: hip to shoulder, to knee, knee to ankle
UPPER_ARM, ACROSS = 0.186, 0.26  # shoulder to elbow, and the most from shoulder to shoulder
PARTS = (  # of the body: both ends, and the share of the stature
    (*SHOULDERS, ACROSS),
    *((i, j, TRUNK) for i, j in zip(SHOULDERS, HIPS, strict=True)),
    *((i, j, UPPER_ARM) for i, j in zip(SHOULDERS, ELBOWS, strict=True)),
    *((i, j, THIGH) for i, j in zip(HIPS, KNEES, strict=True)),
    *((i, j, SHIN) for i, j in zip(KNEES, ANKLES, strict=True)),
)
TOO_LONG = 1.4  # of a part: a keypoint at its end is wrong
SHORTEST_M, TALLEST_M = 1.4, 2.0  # of statures on a ground plane; a shorter one is a body seen
# lengthwise, a taller one a foot point that is hidden
EXCLUDED = 0.3  # a posture with a condition worth less is excluded, whatever the others are


class UprightPlane(NamedTuple):
    """Keypoints in the upright planes of N people, and whether these are in metres."""

    points: Array  # (N, 17, 2) a to the right, b upwards
    metric: bool


def image_plane(points: Array) -> UprightPlane:
    """Take the picture as the upright plane: points (N, 17, 2) px."""
    return UprightPlane(points * (1.0, -1.0), metric=False)


def ground_plane(points: Array, feet: Array, camera: Pinhole) -> UprightPlane:
    """Place points (N, 17, 2) px in the upright planes over the foot points (N, 2) px, in metres.

    Exact for points of a plane; what lies nearer to the camera appears lower. NaN where the foot
    point is at or above the horizon.
    """
    P = camera.K @ np.column_stack([camera.R, camera.t])  # (3, 4)
    on_ground, _ = to_ground(np.linalg.inv(P[:, [0, 1, 3]]), feet)  # (N, 2)
    rays = np.column_stack([feet, np.ones(len(feet))]) @ np.linalg.inv(camera.K).T @ camera.R
    away = on_ground - camera.centre[:2]
    with np.errstate(invalid="ignore", divide="ignore"):
        away = away / np.linalg.norm(away, axis=1, keepdims=True)
    across = np.stack([away[:, 1], -away[:, 0]], axis=1)  # to the right of the view
    # a, b -> pixels: P (across·a + (0, 0, b) + foot)
    planes = np.empty((len(feet), 3, 3))
    planes[:, :, 0] = across @ P[:, :2].T
    planes[:, :, 1] = P[:, 2]
    planes[:, :, 2] = on_ground @ P[:, :2].T + P[:, 3]
    sound = np.isfinite(planes).all(axis=(1, 2)) & (rays[:, 2] < 0)  # those that go down
    inverse = np.full_like(planes, np.nan)
    inverse[sound] = np.linalg.inv(planes[sound])
    homogeneous = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=2)
    u = np.einsum("nij,nkj->nki", inverse, homogeneous)
    with np.errstate(invalid="ignore", divide="ignore"):
        return UprightPlane(u[..., :2] / u[..., 2:], metric=True)


def postures(plane: UprightPlane, known: Array) -> Array:
    """Return how clearly each person has each of `POSTURES`: (N, 4) float32, 0 to 1, NaN unknown.

    known: (N, 17) bool, keypoints that may be used.
    """
    points = np.where(known[..., None], plane.points, np.nan)
    lengths = _lengths(points)
    size = _stature(lengths, metric=plane.metric)[:, None]
    points[_misplaced(lengths, size)] = np.nan
    joints = (SHOULDERS, HIPS, KNEES, ANKLES, WRISTS)
    shoulders, hips, knees, ankles, wrists = (points[:, list(two), 1] for two in joints)  # (N, 2)
    rise = (shoulders - hips) / (TRUNK * size)
    seat = (hips - ankles) / size
    legs = np.where(np.isnan(ankles), 2 * (hips - knees) / size, seat)
    thigh, shin = (hips - knees) / (THIGH * size), (knees - ankles) / (SHIN * size)
    hands = (wrists - shoulders) / size

    fallen = _all(_ramp(rise, 0.80, 0.40), _ramp(legs, 0.38, 0.22))
    chair, floor = _ramp(seat, 0.14, 0.24), _ramp(shin, 0.50, 0.20)
    sitting = _all(
        *(_ramp(rise, 0.30, 0.70), _ramp(thigh, 0.85, 0.50), _ramp(seat, 0.47, 0.38)),
        np.maximum(chair, floor),
    )
    crouching = _all(
        *(_ramp(rise, 0.10, 0.40), _ramp(thigh, 0.60, 0.30), _ramp(seat, 0.30, 0.18)),
        *(_ramp(shin, 0.20, 0.50), 1 - fallen),
    )
    raised = _all(_ramp(rise, 0.30, 0.60), _ramp(hands, 0.03, 0.15))
    sides = (np.fmin(one[:, 0], one[:, 1]) for one in (fallen, sitting, crouching))
    return np.stack([*sides, _all(*raised.T)], axis=1).astype(np.float32)


def _lengths(points: Array) -> Array:
    """Return the stature (P, N) that each of `PARTS` has by its length; NaN where it is unknown."""
    return np.stack(
        [np.linalg.norm(points[:, i] - points[:, j], axis=1) / share for i, j, share in PARTS]
    )


def _misplaced(lengths: Array, size: Array) -> Array:
    """Return which keypoints (N, 17) most of their parts of the body cannot reach."""
    long, all_ = np.zeros((len(size), KEYPOINTS)), np.zeros((len(size), KEYPOINTS))
    for (i, j, _), stature in zip(PARTS, lengths, strict=True):
        for end in (i, j):
            long[:, end] += stature > TOO_LONG * size[:, 0]
            all_[:, end] += ~np.isnan(stature)
    return np.asarray(long > all_ / 2)


def _stature(lengths: Array, *, metric: bool) -> Array:
    """Return the stature (N,): the third largest that a part of the body says; NaN without any.

    A part that points towards the camera is too short, so that the longest are right; the longest
    two may be wrong by one keypoint that is.
    """
    longest = _third(lengths)
    longest = np.where(longest > 0, longest, np.nan)
    return np.clip(longest, SHORTEST_M, TALLEST_M) if metric else longest


def _third(lengths: Array) -> Array:
    """Return the third largest (N,) of columns (P, N), or the smallest; NaN are left out."""
    ordered = -np.sort(-lengths, axis=0)  # descending, NaN last
    last = np.minimum(3, (~np.isnan(lengths)).sum(axis=0)) - 1
    return np.asarray(np.take_along_axis(ordered, np.maximum(last, 0)[None], axis=0)[0])


def _ramp(value: Array, none: float, whole: float) -> Array:
    return np.clip((value - none) / (whole - none), 0, 1)


def _all(*conditions: Array) -> Array:
    """Return the least of the conditions; NaN where one is unknown and none excludes it."""
    known = np.fmin.reduce(conditions, axis=0)
    unknown = np.isnan(conditions).any(axis=0) & ~(known < EXCLUDED)
    return np.where(unknown, np.nan, known)
