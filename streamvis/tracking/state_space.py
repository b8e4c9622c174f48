"""Where tracks live: the image plane, or the ground plane seen through a homography.

A state is (a, b, va, vb, log w, log h): an anchor point that moves with constant velocity, and the
size of the box in pixels, which drifts. A measurement is (a, b, log w, log h). All noise is in
proportion to the height of the box, so near and far people are treated alike.
"""

from typing import Literal, NamedTuple, Protocol

import numpy as np

from streamvis.geometry import foot, to_ground
from streamvis.messages import Array

MEASURED = [0, 1, 4, 5]  # what of the state is measured
H_STATE = np.eye(6)[MEASURED]  # (4, 6)

SIGMA_ANCHOR = 0.035  # of the box height: where the detector puts an edge
SIGMA_SIZE = 0.12  # of log w and log h
SIGMA_COVERED = 0.5  # what is added to either when the person is wholly covered
FLOOR_M = 0.1  # m: unevenness of the ground, error of the homography
HORIZON_M = 5.0  # m: a foot less sure than this (one sigma) is too near the horizon
BODY_M = 1.7  # m


class Measurements(NamedTuple):
    """M boxes as the space sees them."""

    z: Array  # (M, 4)
    R: Array  # (M, 4, 4)
    log_area: Array  # (M,) log of the area that one px² covers there, in the space's units
    usable: Array  # (M,) bool: False where the space has no place for the box


class StateSpace(Protocol):
    @property
    def name(self) -> Literal["image", "ground"]: ...

    @property
    def vague(self) -> float:
        """Bodies, one sigma: who is not seen and whose place is less sure is not reported."""

    def measure(self, boxes: Array, hidden: Array) -> Measurements:
        """Boxes (M, 4) of which nearer ones hide a share (M,)."""

    def boxes(self, x: Array) -> Array:
        """Boxes (N, 4) in pixels of states (N, 6); not finite where there is no picture of it."""

    def body(self, x: Array) -> Array:
        """How tall people (N,) are in the space's units: what their motion scales with."""

    def foot_velocity(self, x: Array) -> Array:
        """Pixels per second (N, 2) of the foot points."""

    def ground(self, x: Array) -> Array:
        """Metres (N, 2), NaN without a ground plane."""

    def scaled(self, x: Array, P: Array, sx: float, sy: float) -> tuple[Array, Array]:
        """States and covariances in a picture that has become sx, sy times as large."""

    def shifted(self, x: Array, P: Array, warp: Array) -> tuple[Array, Array]:
        """States and covariances in a picture whose background has moved by a warp (2, 3)."""


class ImageSpace:
    """The anchor is the middle of the upper edge: heads are covered less often than feet."""

    name: Literal["image"] = "image"
    vague = 0.13  # a box that is off by a third of its width is no better than none

    def measure(self, boxes: Array, hidden: Array) -> Measurements:
        size = boxes[:, 2:] - boxes[:, :2]
        z = np.column_stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 1], np.log(size)])
        R = np.zeros((len(z), 4, 4))
        R[:, [0, 1], [0, 1]] = ((SIGMA_ANCHOR * size[:, 1]) ** 2)[:, None]
        R[:, [2, 3], [2, 3]] = _size_variance(hidden)
        return Measurements(z, R, np.zeros(len(z)), np.ones(len(z), dtype=bool))

    def boxes(self, x: Array) -> Array:
        half, height = np.exp(x[:, 4]) / 2, np.exp(x[:, 5])
        return np.stack([x[:, 0] - half, x[:, 1], x[:, 0] + half, x[:, 1] + height], axis=1)

    def body(self, x: Array) -> Array:
        return np.exp(x[:, 5])

    def foot_velocity(self, x: Array) -> Array:
        return x[:, 2:4]

    def ground(self, x: Array) -> Array:
        return np.full((len(x), 2), np.nan)

    def scaled(self, x: Array, P: Array, sx: float, sy: float) -> tuple[Array, Array]:
        by = np.array([sx, sy, sx, sy, 1, 1])
        return x * by + np.array([0, 0, 0, 0, np.log(sx), np.log(sy)]), P * by[:, None] * by

    def shifted(self, x: Array, P: Array, warp: Array) -> tuple[Array, Array]:
        A = warp[:, :2]
        W = np.eye(6)
        W[:2, :2] = W[2:4, 2:4] = A
        zoom = np.log(abs(np.linalg.det(A))) / 2
        return x @ W.T + np.array([*warp[:, 2], 0, 0, zoom, zoom]), W @ P @ W.T


class GroundSpace:
    """The anchor is the foot point on the ground, in metres."""

    name: Literal["ground"] = "ground"
    vague = 0.3  # half a metre: so near to each other people stand

    def __init__(self, homography: Array, width: int, height: int) -> None:
        H = np.asarray(homography, dtype=np.float64).reshape(3, 3)
        # the third coordinate is zero on the horizon; let it be positive where people stand
        self.H = H * np.sign(H[2] @ [width / 2, height, 1])
        self.inverse = np.linalg.inv(self.H)

    def measure(self, boxes: Array, hidden: Array) -> Measurements:
        size = boxes[:, 2:] - boxes[:, :2]
        feet = foot(boxes)
        metres, J = to_ground(self.H, feet)
        sigma = SIGMA_ANCHOR * size[:, 1]  # px
        near = feet @ self.H[2, :2] + self.H[2, 2] > 0
        usable = near & (np.linalg.norm(J, axis=(1, 2)) * sigma < HORIZON_M)
        J = np.where(usable[:, None, None], J, np.eye(2))
        lower = sigma + SIGMA_COVERED * hidden * size[:, 1]
        R = np.zeros((len(size), 4, 4))
        R[:, :2, :2] = (J * np.stack([sigma, lower], axis=1)[:, None] ** 2) @ J.mT  # J R_u Jᵀ
        R[:, [0, 1], [0, 1]] += FLOOR_M**2
        R[:, [2, 3], [2, 3]] = _size_variance(hidden)
        z = np.column_stack([np.where(usable[:, None], metres, 0), np.log(size)])
        return Measurements(z, R, np.log(np.abs(np.linalg.det(J))), usable)

    def boxes(self, x: Array) -> Array:
        feet, _ = to_ground(self.inverse, x[:, :2])
        feet[x[:, :2] @ self.inverse[2, :2] + self.inverse[2, 2] <= 0] = np.nan  # past the horizon
        half, height = np.exp(x[:, 4]) / 2, np.exp(x[:, 5])
        u, v = feet[:, 0], feet[:, 1]
        return np.stack([u - half, v - height, u + half, v], axis=1)

    def body(self, x: Array) -> Array:
        return np.full(len(x), BODY_M)

    def foot_velocity(self, x: Array) -> Array:
        _, J = to_ground(self.inverse, x[:, :2])
        return np.einsum("nij,nj->ni", J, x[:, 2:4])

    def ground(self, x: Array) -> Array:
        return x[:, :2]

    def scaled(self, x: Array, P: Array, sx: float, sy: float) -> tuple[Array, Array]:
        return x + np.array([0, 0, 0, 0, np.log(sx), np.log(sy)]), P

    def shifted(self, x: Array, P: Array, warp: Array) -> tuple[Array, Array]:
        return x, P  # a ground plane is that of a fixed camera


def _size_variance(hidden: Array) -> Array:
    """Variances (M, 1) of log w and log h: a covered person's box holds what is left to see."""
    return ((SIGMA_SIZE + SIGMA_COVERED * hidden) ** 2)[:, None]
