"""Fits ground planes to known points, rectangles and cameras.

A plane is a homography H (3, 3) from pixels, counted from the picture's upper left corner, to
metres on the ground, where y points left of x as seen from above. Its third coordinate is 1 at the
middle of the picture's lower edge, positive on the ground and zero on the horizon. Hartley and
Zisserman, "Multiple View Geometry in Computer Vision", 2nd edition, chapters 2, 4 and 8.
"""

import math
from itertools import combinations, islice
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.errors import UsageError
from streamvis.geometry import to_ground
from streamvis.messages import Array

Size = tuple[int, int]  # width, height in pixels
MIN_HEIGHT_PX = 2.0  # of the triangle of three points: below it they count as collinear
MIN_HEIGHT_SHARE = 0.01  # the same in metres, as a share of the longest side
FARTHEST_M = 1e5  # tracks keep positions as float32, which is exact to 1 cm within this
MOST_CHOICES = 5000  # sets of four points that are searched for a non-degenerate one
REACH_M = 0.5  # largest error on the ground for an error of one pixel
PERSON_M = 1.7


class Pinhole(NamedTuple):
    """A camera in the world: pixels ~ K (R X + t), with X in metres and Z = 0 on the ground."""

    K: Array  # (3, 3) pixels counted from the picture's corner
    R: Array  # (3, 3)
    t: Array  # (3,)

    @property
    def centre(self) -> Array:
        """Its position (3,): metres."""
        return -self.R.T @ self.t

    @property
    def tilt_deg(self) -> float:
        """Its tilt below level, degrees."""
        return math.degrees(math.asin(float(np.clip(-self.R[2, 2], -1, 1))))

    def project(self, points: Array) -> Array:
        """Project world points (N, 3) to pixels (N, 2); NaN behind the camera."""
        u = (points @ self.R.T + self.t) @ self.K.T
        front = np.where(u[:, 2:] > 1e-9, u[:, 2:], np.nan)
        return u[:, :2] / front


class PlaneProperties(NamedTuple):
    """Horizon, resolution and reach of a plane in its picture."""

    horizon_row: float | None  # px at the middle column; None for a camera that looks straight down
    middle: tuple[float, float] | None  # metres per pixel across and along; None above the horizon
    bottom: tuple[float, float]
    reach_row: float  # px: below this row an error of one pixel is less than REACH_M
    reach_m: float  # distance of that row from the lower edge on the ground
    camera: Pinhole | None  # with square pixels and a centred axis


def fit(pixels: Array, metres: Array, size: Size) -> Array:
    """Fit the plane that maps pixels (N, 2) to metres (N, 2), N ≥ 4; errors are in pixels.

    Four points are met exactly, more in the sense of least squares. Raises UsageError, naming the
    points, when no camera above the ground can see them like this.
    """
    if len(pixels) < 4:
        raise UsageError(f"{len(pixels)} points; expected at least 4 for a ground plane, better 6")
    if not (np.isfinite(pixels).all() and np.isfinite(metres).all()):
        raise UsageError("points are not finite; expected pixels and metres")
    if np.abs(metres).max() > FARTHEST_M:
        raise UsageError(
            f"a point is {np.abs(metres).max() / 1000:.0f} km from the origin; subtract one common "
            f"offset from all of them, so that they stay within {FARTHEST_M / 1000:.0f} km"
        )
    _check_spread(pixels, metres)
    centre = metres.mean(axis=0)
    spread = float(np.sqrt(((metres - centre) ** 2).sum(axis=1).mean()))
    # errors occur in the picture, so they are minimised there: metres -> pixels
    M, _ = cv2.findHomography((metres - centre) / spread, pixels)
    if M is None or not np.isfinite(M).all() or abs(np.linalg.det(M)) < 1e-12:
        raise UsageError(f"no plane fits these {len(pixels)} points; check their order")
    back = np.array([[spread, 0, centre[0]], [0, spread, centre[1]], [0, 0, 1]])
    return _oriented(back @ np.linalg.inv(M), pixels, size)


def rectangle(corners: Array, sides: tuple[float, float]) -> Array:
    """Return the metres (4, 2) of a rectangle's corners (4, 2), given in order around it.

    The first is the origin and x runs to the second, `sides[0]` away; y is left of x.
    """
    if not (min(sides) > 0 and math.isfinite(max(sides))):
        raise UsageError(f"a rectangle of {sides[0]:g} by {sides[1]:g} m; expected two lengths")
    turns = [_turn(*corners[[i, (i + 1) % 4, (i + 2) % 4]]) for i in range(4)]
    if not (min(turns) > 0 or max(turns) < 0):
        raise UsageError("the rectangle's corners are not in order around it; two are swapped")
    a, b = sides
    far = b if max(turns) < 0 else -b  # rows count downwards: a turn to the left is negative
    return np.array([(0, 0), (a, 0), (a, far), (0, far)], dtype=np.float64)


def from_view(height_m: float, tilt_deg: float, focal_px: float, size: Size) -> Array:
    """Return the plane under a camera without roll: origin below it, y in its direction of view."""
    if not (0 < height_m < math.inf and 0 < focal_px < math.inf and 0 < tilt_deg <= 90):
        raise UsageError(
            f"a camera {height_m:g} m high, tilted {tilt_deg:g} degrees downwards, focal length "
            f"{focal_px:g} px; expected a height and a focal length above 0, a tilt of 0 to 90"
        )
    c, s = math.cos(math.radians(tilt_deg)), math.sin(math.radians(tilt_deg))
    K = np.array([[focal_px, 0, size[0] / 2], [0, focal_px, size[1] / 2], [0, 0, 1]])
    R = np.array([[1, 0, 0], [0, -s, -c], [0, c, -s]])  # world to right, down, forward
    return from_pinhole(Pinhole(K, R, R @ [0, 0, -height_m]), size)


def focal_px(fov_deg: float, size: Size) -> float:
    """Return the focal length for a horizontal field of view."""
    if not 0 < fov_deg < 180:
        raise UsageError(f"a field of view of {fov_deg:g} degrees; expected 1 to 179, horizontally")
    return size[0] / 2 / math.tan(math.radians(fov_deg) / 2)


def from_pinhole(camera: Pinhole, size: Size) -> Array:
    """Return the plane that a calibrated camera sees."""
    M = camera.K @ np.column_stack([camera.R[:, :2], camera.t])
    if not camera.centre[2] > 0 or abs(np.linalg.det(M)) < 1e-9:
        raise UsageError(
            f"the camera is {camera.centre[2]:g} m above the ground; expected R and t that take "
            "world metres, Z upwards and 0 on the ground, to the camera: X_camera = R X + t"
        )
    return _scaled(np.linalg.inv(M), size, "the horizon lies below the picture")


def from_lens(camera: Pinhole, distortion: Array, size: Size) -> tuple[Array, float]:
    """Fit a plane to the view of a distorting lens; return its largest deviation in pixels too.

    `distortion` is OpenCV's: k1, k2, p1, p2[, k3[, k4, k5, k6]].
    """
    straight = from_pinhole(camera, size)
    columns, rows = np.linspace(0, size[0], 17), np.linspace(0, size[1], 13)
    pixels = np.stack(np.meshgrid(columns, rows), axis=2).reshape(-1, 2)  # (221, 2)
    undone = cv2.undistortPoints(pixels[:, None], camera.K, distortion, P=camera.K)[:, 0]
    metres, J = to_ground(straight, undone)
    near = (undone @ straight[2, :2] + straight[2, 2] > 0) & (_norm(J) < REACH_M)
    if near.sum() < 4:
        raise UsageError(
            f"the camera shows no ground where a pixel is less than {REACH_M:g} m; check R and t"
        )
    H = fit(pixels[near], metres[near], size)
    return H, float(residuals(H, pixels[near], metres[near])[0].max())


def residuals(H: Array, pixels: Array, metres: Array) -> tuple[Array, Array]:
    """Return the error of each point in pixels (N,) and in metres (N,)."""
    there, _ = to_ground(H, pixels)
    back, _ = to_ground(np.linalg.inv(H), metres)
    return np.linalg.norm(back - pixels, axis=1), np.linalg.norm(there - metres, axis=1)


def plane_properties(H: Array, size: Size) -> PlaneProperties:
    """Measure resolution and reach of the plane in a picture of this size."""
    width, height = size
    rows = np.arange(height, -1, -1.0)  # from the lower edge upwards
    column = np.column_stack([np.full(len(rows), width / 2), rows])
    depth = column @ H[2, :2] + H[2, 2]
    metres, J = to_ground(H, column)
    fine = (depth > 0) & (_norm(J) < REACH_M)
    last = max(int(np.argmin(fine)) - 1, 0) if not fine.all() else height  # rows up from the edge
    middle = height - height // 2
    slope = H[2, 1] * height  # of the depth over the picture's height
    return PlaneProperties(
        horizon_row=float(-(H[2, :2] @ [width / 2, 0] + H[2, 2]) / H[2, 1])
        if abs(slope) > 1e-9
        else None,
        middle=_scale(J[middle]) if depth[middle] > 0 else None,
        bottom=_scale(J[0]),
        reach_row=float(rows[last]),
        reach_m=float(np.linalg.norm(metres[last] - metres[0])),
        camera=pinhole(H, size),
    )


def pinhole(H: Array, size: Size) -> Pinhole | None:
    """Return the camera with square pixels and a centred axis that sees the plane.

    None where there is none, or where any focal length fits, as for a view straight down. With
    ω = diag(1, 1, f²) / f², the columns of [r1 r2] are orthogonal and of one length.
    """
    corner = np.array([[1, 0, size[0] / 2], [0, 1, size[1] / 2], [0, 0, 1]])
    M = np.linalg.inv(corner) @ np.linalg.inv(H)  # metres -> pixels from the middle
    a, b, c, d = M[:2, 0], M[:2, 1], M[2, 0], M[2, 1]
    # a·b s + c d = 0 and (a·a − b·b) s + c² − d² = 0, where s = 1 / f²
    left, right = np.array([a @ b, (a @ a - b @ b) / 2]), -np.array([c * d, (c * c - d * d) / 2])
    s = float(left @ right / max(left @ left, 1e-300))
    widest, longest = 1 / (0.1 * size[0]) ** 2, 1 / (100 * size[0]) ** 2
    if not longest < s < widest:
        return None
    f = 1 / math.sqrt(s)
    K = corner @ np.diag([f, f, 1])
    P = np.diag([1 / f, 1 / f, 1]) @ M
    P /= np.sqrt(np.linalg.norm(P[:, 0]) * np.linalg.norm(P[:, 1]))
    u, _, v = np.linalg.svd(np.column_stack([P[:, :2], np.cross(P[:, 0], P[:, 1])]))
    R = u @ v
    camera = Pinhole(K, R, P[:, 2])
    return camera if camera.centre[2] > 0 else None


def visible(H: Array, size: Size, person_px: float) -> Array:
    """Return the visible ground as a polygon (K, 2), up to where people are `person_px` tall.

    Where people at the lower edge are less than twice as tall, half of their height counts.
    """
    width, height = size
    rows = np.arange(height, -1, -1.0)
    sides = [np.column_stack([np.full(len(rows), u), rows]) for u in (0, width)]
    seen = [to_ground(H, side) for side in sides]
    across = np.array([np.linalg.norm(J[:, :, 0], axis=1) for _, J in seen])  # (2, rows) m per px
    least = min(person_px, 0.5 * PERSON_M / float(across[:, 0].max()))
    depth = np.array([side @ H[2, :2] + H[2, 2] for side in sides])
    far = ((depth <= 0) | ~(across * least <= PERSON_M)).any(axis=0)
    last = max(int(np.argmax(far)), 2) if far.any() else len(rows)
    return np.concatenate([seen[0][0][:last], seen[1][0][:last][::-1]])


def _norm(J: Array) -> Array:
    """Return the largest extent of one pixel in metres (N,); infinite on the horizon."""
    sound = np.isfinite(J).all(axis=(1, 2))
    most = np.full(len(J), np.inf)
    most[sound] = np.linalg.norm(J[sound], ord=2, axis=(1, 2))
    return most


def _scale(J: Array) -> tuple[float, float]:
    across, along = np.linalg.norm(J, axis=0)
    return float(across), float(along)


def _check_spread(pixels: Array, metres: Array) -> None:
    """Raise UsageError unless there are four points of which no three are collinear."""
    worst: tuple[float, tuple[int, ...], str] | None = None
    for four in islice(combinations(range(len(pixels)), 4), MOST_CHOICES):
        flattest = min(
            (_spread_share(pixels, metres, three) for three in combinations(four, 3)),
            key=lambda found: found[0],
        )
        if flattest[0] >= 1:
            return
        if worst is None or flattest[0] > worst[0]:
            worst = flattest
    if worst is not None:
        names = "points {}, {} and {}".format(*(i + 1 for i in worst[1]))
        raise UsageError(
            f"{names} lie on a line {worst[2]}; a ground plane needs four points of which no three "
            "do: choose the corners of an area, not points along an edge"
        )


def _spread_share(
    pixels: Array, metres: Array, three: tuple[int, ...]
) -> tuple[float, tuple[int, ...], str]:
    """Height of the triangle over the least one allowed: the points are sound from 1."""
    i = list(three)
    high_px, _ = _triangle_height(pixels[i])
    high_m, long_m = _triangle_height(metres[i])
    shares = (
        (high_px / MIN_HEIGHT_PX, three, "in the picture"),
        (high_m / max(MIN_HEIGHT_SHARE * long_m, 1e-9), three, "on the ground"),
    )
    return min(shares, key=lambda share: share[0])


def _triangle_height(three: Array) -> tuple[float, float]:
    """Return the smallest height of a triangle (3, 2), and its longest side."""
    longest = float(np.linalg.norm(three - np.roll(three, 1, axis=0), axis=1).max())
    return abs(_turn(*three)) / longest if longest else 0.0, longest


def _turn(a: Array, b: Array, c: Array) -> float:
    """Twice the signed area of a triangle."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def _oriented(H: Array, pixels: Array, size: Size) -> Array:
    """Return ±H with positive depth at all points; UsageError when no camera above ground does."""
    depth = pixels @ H[2, :2] + H[2, 2]
    H, depth = H * np.sign(depth.sum()), depth * np.sign(depth.sum())
    if not (depth > 0).all():
        wrong = ", ".join(str(i + 1) for i in np.flatnonzero(depth <= 0))
        raise UsageError(
            f"the horizon would run between the points, with {wrong} above it; check whether two "
            "points were swapped, or one is not on the ground"
        )
    if np.linalg.det(H) > 0:
        raise UsageError(
            "the metres are mirrored: seen from above, y must point left of x, as on paper; "
            "swap x and y, or change the sign of one"
        )
    beyond = "the points lie above the horizon: rows count downwards from the picture's upper edge"
    return _scaled(H, size, beyond)


def _scaled(H: Array, size: Size, beyond: str) -> Array:
    depth = float(H[2] @ [size[0] / 2, size[1], 1])
    if depth <= 1e-12 * float(np.abs(H[2]).max()):
        raise UsageError(f"{beyond}; the middle of the lower edge must show ground")
    return H / depth
