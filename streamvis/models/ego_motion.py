"""The motion of a camera from the optical flow of the static scene, and the motion that follows.

    ego = estimate_ego(moved, at, weight, focal)   # flow (h, w, 2) px at places (h, w, 2) px
    shift, r = parallax(moved, at, ego)            # (h, w, 2) px: what depth makes of the flow
    path = continued(ego, 3.0)                     # three steps on, at the same turn rate and speed

A point P of the static scene was at R·P + V one step before, V being one unit long along the
optical axis, so that inverse depths are shares of the way to the camera plane that a step covers.
The optical flow is that of the rotation, which no depth changes, and a parallax along lines through
one focus of expansion (Longuet-Higgins and Prazdny 1980, "The interpretation of a moving retinal
image"). Whether rotation and focus fit can be told without any depth: the parallax across those
lines has to be zero (Heeger and Jepson 1992, "Subspace methods for recovering rigid motion").
"""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array

NOISE = 0.7  # px, of a cell's flow
INDEPENDENT = 100.0  # cells: the errors of neighbours are alike
FOCUS = 60.0  # px, the deviation of the focus from the middle of a picture, before it was seen
TURN = (0.06, 0.06, 0.01)  # rad a step, that of pitch, yaw and roll
ROUNDS = 4  # of Gauss and Newton, each weighed by how well the last one explained a cell
CLOSE = 10.0  # px from the focus: within, lines have hardly a direction
LASTING = np.array([0.0, 1.0, 0.2])  # of a rate of pitch, yaw and roll that goes on: a car turns
# for seconds, and nods and sways to and fro
BESIDE = 0.2  # of the focal length: what is nearer to the camera plane is not projected
GONE = 1e-9


class EgoMotion(NamedTuple):
    """The motion of a camera in one step."""

    rotation: Array  # (3,) rad about the axes to the right, down and ahead, from now to before
    focus: Array  # (2,) px from the middle of the picture: where it drives to
    focal: float  # px


class CameraPath(NamedTuple):
    """The motion of a camera over several steps: a translation, then a rotation."""

    rotation: Array  # (3, 3) from the present directions to the later ones
    focus: Array  # (2,) px, of the translation
    approach: float  # by how many units the camera comes nearer to what is ahead


def estimate_ego(moved: Array, at: Array, weight: Array, focal: float) -> EgoMotion:
    """Estimate rotation and focus from flow (h, w, 2) px at places (h, w, 2) px, robustly.

    at: from the middle of the picture. weight (h, w): of what may belong to the static scene.
    Least squares of the parallax across the lines through the focus, iteratively reweighted, from
    no rotation or from the one that explains the median flow.
    """
    at, weight = at.reshape(-1, 2).astype(np.float64), weight.ravel().astype(np.float64)
    moved = moved.reshape(-1, 2).clip(-focal, focal).astype(np.float64)  # beyond is no flow
    middle = np.median(moved[weight > 0] if weight.any() else moved, axis=0)
    starts = [np.zeros(3), np.array([-middle[1], middle[0], 0.0]) / focal]
    found = [EgoMotion(rotation, np.zeros(2), focal) for rotation in starts]
    ego = min(found, key=lambda one: _cost(moved, at, weight, one))
    prior = np.diag([*np.power(TURN, -2.0), FOCUS**-2, FOCUS**-2])
    turning = _turning(at, focal)  # (N, 2, 3)
    trust = weight
    for _ in range(ROUNDS):
        shift, r = parallax(moved, at, ego)
        far = _length(r) + CLOSE
        off = across(shift, r)
        trust = weight / (1 + (off / NOISE) ** 2)
        by_turn = [_cross(shift + r, x) for x in np.moveaxis(turning, -1, 0)]
        slope = np.stack([*by_turn, shift[:, 1], -shift[:, 0]], -1) / far[:, None]
        rows = slope * (trust / (trust.sum() + 1e-6) * INDEPENDENT / NOISE**2)[:, None]
        state = np.concatenate([ego.rotation, ego.focus])
        state = state - np.linalg.solve(rows.T @ slope + prior, rows.T @ off + prior @ state)
        ego = EgoMotion(state[:3], state[3:], focal)
    return ego


def parallax(moved: Array, at: Array, ego: EgoMotion) -> tuple[Array, Array]:
    """Return flow (…, 2) without the rotation's, and where it begins, relative to the focus."""
    still = rotated(at, _exponential(ego.rotation)[0], ego.focal)
    return at + moved - still, still - ego.focus


def across(shift: Array, r: Array) -> Array:
    """Return the part in px of a parallax at r (…, 2) across the lines through the focus."""
    part: Array = _cross(shift, r) / (_length(r) + CLOSE)
    return part


def rotated(at: Array, rotation: Array, focal: float) -> Array:
    """Return where what is seen at places (…, 2) px is seen after a rotation (3, 3)."""
    x, y = at[..., 0], at[..., 1]
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    ahead = np.maximum(g * x + h * y + i * focal, BESIDE * focal)
    new = np.stack([a * x + b * y + c * focal, d * x + e * y + f * focal], -1)
    turned: Array = new * (focal / ahead)[..., None]
    return turned


def continued(ego: EgoMotion, ahead: float) -> CameraPath:
    """Return the motion over so many steps at a constant speed along a constant screw.

    Of the rotation, only what lasts goes on: the rate of yaw.
    """
    _, spread = _exponential(ego.rotation)
    speed = np.linalg.solve(spread, np.append(ego.focus / ego.focal, 1.0))
    rotation, spread = _exponential(-ahead * LASTING * ego.rotation)
    way = rotation.T @ spread @ (-ahead * speed)  # (3,) of points, in the present directions
    depth = way[2] if abs(way[2]) > GONE else -GONE
    return CameraPath(rotation, ego.focal * way[:2] / depth, -float(way[2]))


def _cost(moved: Array, at: Array, weight: Array, ego: EgoMotion) -> float:
    """Return how badly a motion explains the flow, as the logarithm of a heavy-tailed error."""
    off = across(*parallax(moved, at, ego))
    return float((weight * np.log1p((off / NOISE) ** 2)).sum())


def _turning(at: Array, focal: float) -> Array:
    """Return the flow (N, 2, 3) px of a rotation by one rad about each axis."""
    x, y = at[..., 0], at[..., 1]
    right = np.stack([-x * y / focal, -(focal + y * y / focal)], -1)
    down = np.stack([focal + x * x / focal, x * y / focal], -1)
    return np.stack([right, down, np.stack([-y, x], -1)], -1)


def _exponential(rotation: Array) -> tuple[Array, Array]:
    """Return the rotation matrix of a vector (Rodrigues), and its mean on the way from none."""
    x, y, z = rotation.tolist()
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = float(np.linalg.norm(rotation))
    if angle < 1e-6:
        return np.eye(3) + cross, np.eye(3) + cross / 2
    square = cross @ cross
    once, twice = np.sin(angle) / angle, (1 - np.cos(angle)) / angle**2
    thrice = (angle - np.sin(angle)) / angle**3
    return np.eye(3) + once * cross + twice * square, np.eye(3) + twice * cross + thrice * square


def _cross(a: Array, b: Array) -> Array:
    product: Array = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return product


def _length(x: Array) -> Array:
    """Return lengths of vectors (…, 2)."""
    return np.hypot(x[..., 0], x[..., 1])
