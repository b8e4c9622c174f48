"""State spaces of tracks: the image plane, or the ground plane by a homography.

A state is (a, b, va, vb, log w, log h): an anchor point with constant velocity, and the size of the
box in pixels as a random walk. A measurement is (a, b, log w, log h). All noise is proportional to
the height of the box, so that near and far people are treated alike.
"""

from typing import Literal, NamedTuple, Protocol

import numpy as np

from streamvis.geometry import foot, homogeneous, to_ground
from streamvis.messages import Array
from streamvis.tracking.clipped_boxes import SIGMA_CLIPPED

MEASURED = [0, 1, 4, 5]  # measured components of the state
H_STATE = np.eye(6)[MEASURED]  # (4, 6)

SIGMA_ANCHOR = 0.035  # of the box height: noise of a detected edge
SIGMA_HEAD = 0.05  # of the upper edge, in the image of a fixed camera
SIGMA_SIZE = 0.12  # noise of log w and log h
SIGMA_COVERED = 0.5  # added to that of sizes, and of the lower edge, for a fully occluded person
UNEVEN_M = 0.05  # m: unevenness of the ground and of steps
PLANE_M = 0.1  # m: error of the homography, which stays where people stay
HORIZON_M = 5.0  # m, largest standard deviation of a foot point; beyond it is too near the horizon
BODY_M = 1.7  # m, height of a person

# derivatives of a point of the box by its edges, left, upper, right and lower
ANCHOR_BY_EDGE = np.array([[0.5, 0, 0.5, 0], [0, 1, 0, 0]])
FOOT_BY_EDGE = np.array([[0.5, 0, 0.5, 0], [0, 0, 0, 1]])
SIZE_BY_EDGE = np.array([[-1, 0, 1, 0], [0, -1, 0, 1]])


class Measurements(NamedTuple):
    """The measurements of M boxes in a state space."""

    z: Array  # (M, 4)
    R: Array  # (M, 4, 4)
    log_area: Array  # (M,) log area of one px² in units of the space
    usable: Array  # (M,) bool: False if the box has no place in the space


class GroundStates(NamedTuple):
    """Where the foot points of N tracks are on the ground; NaN too near the horizon."""

    place: Array  # (N, 2) m
    velocity: Array  # (N, 2) m/s
    covariance: Array  # (N, 2, 2) m², of the place


class StateSpace(Protocol):
    """Converts between boxes in the frame and track states."""

    @property
    def name(self) -> Literal["image", "ground"]: ...

    @property
    def fixed(self) -> bool:
        """Whether the camera adds no motion of its own."""

    @property
    def foreshortened(self) -> bool:
        """Whether people who walk in depth move less than people who walk across."""

    @property
    def vague(self) -> float:
        """Largest standard deviation, in bodies, at which an undetected track is reported."""

    def measure(self, boxes: Array, hidden: Array, clipped: Array | None = None) -> Measurements:
        """Measure boxes (M, 4) of which nearer boxes occlude a share `hidden` (M,).

        `clipped` (M, 4) bool: edges that were completed, for the frame's border clips them.
        """

    def boxes(self, x: Array) -> Array:
        """Return boxes (N, 4) in pixels of states (N, 6); not finite beyond the horizon."""

    def body(self, x: Array) -> Array:
        """Return the heights (N,) of people in units of the space, the scale of their motion."""

    def log_scale(self, x: Array) -> Array | None:
        """Return the log (N,) of sizes in the picture at these places, up to a constant.

        None where it is not known; NaN beyond the horizon.
        """

    def foot_velocity(self, x: Array) -> Array:
        """Return velocities (N, 2) of the foot points in px/s."""

    def on_ground(self, x: Array, P: Array) -> "GroundStates | None":
        """Return the foot points on the ground of states (N, 6), None without a ground plane."""

    def scaled(self, x: Array, P: Array, sx: float, sy: float) -> tuple[Array, Array]:
        """Return states and covariances after the frame was resized by sx, sy."""

    def shifted(self, x: Array, P: Array, warp: Array) -> tuple[Array, Array]:
        """Return states and covariances after a camera motion by a warp (2, 3)."""


class ImageSpace:
    """The anchor is the middle of the upper edge: heads are occluded less often than feet.

    With a ground plane the foot points of tracks are projected to it. A fixed camera sees people
    walk at about constant speeds, slower in depth than across; a moving one adds its own motion.
    """

    name: Literal["image"] = "image"
    vague = 0.13  # about a third of a box's width

    def __init__(self, plane: "GroundSpace | None" = None, *, fixed: bool = True) -> None:
        self.plane, self.fixed, self.foreshortened = plane, fixed, fixed

    def measure(self, boxes: Array, hidden: Array, clipped: Array | None = None) -> Measurements:
        size = boxes[:, 2:] - boxes[:, :2]
        z = np.empty((len(boxes), 4))
        z[:, 0] = (boxes[:, 0] + boxes[:, 2]) / 2
        z[:, 1] = boxes[:, 1]
        z[:, 2:] = np.log(size)
        R = np.zeros((len(z), 4, 4))
        head = SIGMA_HEAD if self.foreshortened else SIGMA_ANCHOR
        R[:, [0, 1], [0, 1]] = (size[:, 1:] * [SIGMA_ANCHOR, head]) ** 2
        R[:, 2, 2] = R[:, 3, 3] = _size_variance(hidden)
        if clipped is not None and clipped.any():
            R += _clipped_noise(clipped, size, ANCHOR_BY_EDGE)
        return Measurements(z, R, np.zeros(len(z)), np.ones(len(z), dtype=bool))

    def boxes(self, x: Array) -> Array:
        boxes = np.empty((len(x), 4))
        half = np.exp(x[:, 4]) / 2
        boxes[:, 0] = x[:, 0] - half
        boxes[:, 1] = x[:, 1]
        boxes[:, 2] = x[:, 0] + half
        boxes[:, 3] = x[:, 1] + np.exp(x[:, 5])
        return boxes

    def log_scale(self, x: Array) -> Array | None:
        return None

    def body(self, x: Array) -> Array:
        return np.exp(x[:, 5])

    def foot_velocity(self, x: Array) -> Array:
        return x[:, 2:4]

    def on_ground(self, x: Array, P: Array) -> GroundStates | None:
        if self.plane is None:
            return None
        height = np.exp(x[:, 5])
        feet = np.column_stack([x[:, 0], x[:, 1] + height])
        to_foot = np.zeros((len(x), 2, 6))  # of the state
        to_foot[:, [0, 1], [0, 1]] = 1
        to_foot[:, 1, 5] = height
        return self.plane.projected(feet, x[:, 2:4], to_foot @ P @ to_foot.mT)

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
    """The anchor is the foot point on the ground, in metres.

    Foot point and height have the lower edge in common: where that is hidden, or wrong, the upper
    edge and the height of the person so far tell where the feet are.
    """

    name: Literal["ground"] = "ground"
    fixed = True
    foreshortened = False
    vague = 0.3  # about half a metre, the distance of people side by side

    def __init__(self, homography: Array, width: int, height: int) -> None:
        H = np.asarray(homography, dtype=np.float64).reshape(3, 3)
        # the third coordinate is zero on the horizon, positive below it
        self.H = -H if H[2] @ [width / 2, height, 1] < 0 else H
        self.inverse = np.linalg.inv(self.H)

    def measure(self, boxes: Array, hidden: Array, clipped: Array | None = None) -> Measurements:
        size = boxes[:, 2:] - boxes[:, :2]
        feet = foot(boxes)
        metres, J = to_ground(self.H, feet)
        sigma = SIGMA_ANCHOR * size[:, 1]  # px
        near = feet @ self.H[2, :2] + self.H[2, 2] > 0
        usable = near & (np.linalg.norm(J, axis=(1, 2)) * sigma < HORIZON_M)
        J = np.where(usable[:, None, None], J, np.eye(2))
        by_edge = np.zeros((len(size), 4, 2))  # of z by the centre and the lower edge
        by_edge[:, :2] = J
        by_edge[:, 3, 1] = 1 / size[:, 1]
        lower = np.hypot(SIGMA_ANCHOR, SIGMA_COVERED * hidden) * size[:, 1]
        by_edge *= np.stack([sigma, lower], axis=1)[:, None]
        R = by_edge @ by_edge.mT
        R[:, [0, 1], [0, 1]] += UNEVEN_M**2
        R[:, 2, 2] += _size_variance(hidden)
        R[:, 3, 3] += SIGMA_SIZE**2 - SIGMA_ANCHOR**2  # of the upper edge, and of shapes
        if clipped is not None and clipped.any():
            R += _clipped_noise(clipped, size, J @ FOOT_BY_EDGE)
        z = np.empty((len(size), 4))
        z[:, :2] = np.where(usable[:, None], metres, 0)
        z[:, 2:] = np.log(size)
        return Measurements(z, R, np.log(np.abs(np.linalg.det(J))), usable)

    def boxes(self, x: Array) -> Array:
        feet = homogeneous(self.inverse, x[:, :2])
        feet[feet[:, 2] <= 0] = np.nan  # beyond the horizon
        u, v = feet[:, 0] / feet[:, 2], feet[:, 1] / feet[:, 2]
        boxes = np.empty((len(x), 4))
        half = np.exp(x[:, 4]) / 2
        boxes[:, 0] = u - half
        boxes[:, 1] = v - np.exp(x[:, 5])
        boxes[:, 2] = u + half
        boxes[:, 3] = v
        return boxes

    def log_scale(self, x: Array) -> Array | None:
        depth = homogeneous(self.inverse, x[:, :2])[:, 2]
        depth[depth <= 0] = np.nan
        return np.asarray(-np.log(depth))

    def body(self, x: Array) -> Array:
        return np.full(len(x), BODY_M)

    def foot_velocity(self, x: Array) -> Array:
        _, J = to_ground(self.inverse, x[:, :2])
        return np.einsum("nij,nj->ni", J, x[:, 2:4])

    def on_ground(self, x: Array, P: Array) -> GroundStates | None:
        return GroundStates(x[:, :2], x[:, 2:4], P[:, :2, :2] + PLANE_M**2 * np.eye(2))

    def projected(self, feet: Array, velocity: Array, covariance: Array) -> GroundStates:
        """Project feet (N, 2), velocities (N, 2) and covariances (N, 2, 2) from the image."""
        place, J = to_ground(self.H, feet)
        below = feet @ self.H[2, :2] + self.H[2, 2] > 0
        J = np.where(below[:, None, None], J, 0.0)
        spread = J @ covariance @ J.mT
        near = below & (np.trace(spread, axis1=1, axis2=2) < HORIZON_M**2)
        found = GroundStates(
            place, np.einsum("nij,nj->ni", J, velocity), spread + PLANE_M**2 * np.eye(2)
        )
        for values in found:
            values[~near] = np.nan
        return found

    def scaled(self, x: Array, P: Array, sx: float, sy: float) -> tuple[Array, Array]:
        return x + np.array([0, 0, 0, 0, np.log(sx), np.log(sy)]), P

    def shifted(self, x: Array, P: Array, warp: Array) -> tuple[Array, Array]:
        return x, P  # ground planes belong to fixed cameras


def _clipped_noise(clipped: Array, size: Array, point_by_edge: Array) -> Array:
    """Return the covariances (M, 4, 4) that edges (M, 4) on the border add.

    `size` (M, 2) of the boxes, `point_by_edge` (2, 4) or (M, 2, 4) of their anchors.
    """
    by_edge = np.empty((len(size), 4, 4))  # of z
    by_edge[:, :2] = point_by_edge
    by_edge[:, 2:] = SIZE_BY_EDGE / size[:, :, None]
    sigma = SIGMA_CLIPPED * np.tile(size, 2) * clipped
    by_edge *= sigma[:, None]
    return np.asarray(by_edge @ by_edge.mT)


def _size_variance(hidden: Array) -> Array:
    """Return variances (M,) of log w and log h: boxes of occluded people are truncated."""
    return (SIGMA_SIZE + SIGMA_COVERED * hidden) ** 2
