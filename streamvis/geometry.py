"""Boxes, box masks and the ground plane in NumPy. Boxes are xyxy pixels everywhere."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamvis.errors import ConfigError
from streamvis.messages import Array
from streamvis.parsing import read_text

Homography = tuple[float, ...]  # nine numbers, row-major: foot point in pixels -> metres
EDGE = 1e-6  # distance at which a point is on a polygon's edge, in the units of both
FEW = 5000  # pairs of intervals up to which comparing all is faster than sorting


def area(boxes: Array) -> Array:
    """Return areas (N,) of boxes (N, 4)."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return size[:, 0] * size[:, 1]  # twice as fast as clip and prod, for a few boxes


class Overlaps(NamedTuple):
    """K pairs of boxes that overlap, ordered by the first, then by the second."""

    i: Array  # (K,) row of the first
    j: Array  # (K,) row of the second
    iou: Array  # (K,) intersection over union
    first: Array  # (K,) share of the first that lies in the second
    second: Array  # (K,) share of the second that lies in the first


def overlaps(a: Array, b: Array) -> Overlaps:
    """Return all overlapping pairs of boxes (N, 4) and (M, 4), a sparse alternative to `iou`."""
    if len(a) * len(b) <= FEW:
        sizes = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
        i, j = np.nonzero((sizes[..., 0] > 0) & (sizes[..., 1] > 0))  # sizes (N, M, 2)
        size = sizes[i, j]  # (K, 2)
    else:
        i, j = meeting(a[:, 0], a[:, 2], b[:, 0], b[:, 2])
        size = np.minimum(a[i, 2:], b[j, 2:]) - np.maximum(a[i, :2], b[j, :2])
        shared = np.flatnonzero((size > 0).all(axis=1))
        shared = shared[np.argsort(i[shared] * len(b) + j[shared])]
        i, j, size = i[shared], j[shared], size[shared]
    both = size[:, 0].astype(np.float64) * size[:, 1]
    of_a, of_b = area(a)[i], area(b)[j]  # neither is empty
    return Overlaps(i, j, both / (of_a + of_b - both), both / of_a, both / of_b)


def meeting(low: Array, high: Array, other_low: Array, other_high: Array) -> tuple[Array, Array]:
    """Return all pairs (K,), (K,) of N and M intervals that intersect, in no order.

    Of two intersecting intervals one starts inside the other, so a search in the sorted starts
    finds them in O((N + M) log(N + M) + K).
    """
    if len(low) * len(other_low) <= FEW:
        i, j = np.nonzero((low[:, None] <= other_high) & (other_low <= high[:, None]))
        return i, j
    order, other = np.argsort(low), np.argsort(other_low)
    ours, theirs = low[order], other_low[other]
    i, at = runs(np.searchsorted(theirs, low, "left"), np.searchsorted(theirs, high, "right"))
    j, own = runs(
        np.searchsorted(ours, other_low, "right"), np.searchsorted(ours, other_high, "right")
    )
    return np.concatenate([i, order[own]]), np.concatenate([other[at], j])


def runs(start: Array, stop: Array) -> tuple[Array, Array]:
    """Return the range (K,) of each number, and the numbers (K,) of N concatenated ranges."""
    count = np.maximum(stop - start, 0)
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) + (start - np.cumsum(count) + count)[row]


def iou(a: Array, b: Array) -> Array:
    """Return intersection over union (N, M) of boxes (N, 4) and (M, 4); 0 for empty boxes."""
    near = overlaps(a, b)
    return _matrix(near, near.iou, (len(a), len(b)))


def covered(a: Array, b: Array) -> Array:
    """Return the share (N, M) of each box of `a` (N, 4) that lies in each box of `b` (M, 4)."""
    near = overlaps(a, b)
    return _matrix(near, near.first, (len(a), len(b)))


def _matrix(near: Overlaps, share: Array, shape: tuple[int, int]) -> Array:
    matrix = np.zeros(shape)
    matrix[near.i, near.j] = share
    return matrix


def foot(boxes: Array) -> Array:
    """Return foot points (N, 2), the middles of the lower edges."""
    points = np.empty((len(boxes), 2), np.result_type(boxes.dtype, np.float16))
    points[:, 0] = (boxes[:, 0] + boxes[:, 2]) / 2
    points[:, 1] = boxes[:, 3]
    return points


def inside(points: Array, polygon: Array) -> Array:
    """Whether points (N, 2) lie in a polygon (K, 2) or on its edge, by the even-odd rule: (N,)."""
    edge = np.roll(polygon, -1, axis=0) - polygon  # (K, 2)
    to = points[:, None] - polygon  # (N, K, 2) from each edge's start
    side = edge[:, 0] * to[:, :, 1] - edge[:, 1] * to[:, :, 0]  # (N, K) > 0: left of the edge
    spans = (to[:, :, 1] < 0) != (to[:, :, 1] < edge[:, 1])  # the point's height
    crossings = spans & ((side > 0) == (edge[:, 1] > 0))  # of the ray towards +x
    length = np.maximum((edge**2).sum(1), EDGE**2)  # (K,) squared; a corner may be repeated
    along = np.clip(
        (to * edge).sum(2) / length, 0, 1
    )  # (N, K) share of the edge at the nearest point
    on_edge = ((to - along[:, :, None] * edge) ** 2).sum(2) <= EDGE**2
    return (crossings.sum(1) % 2 == 1) | on_edge.any(1)


def to_ground(H: Array, points: Array) -> tuple[Array, Array]:
    """Project image points (N, 2) by homography H (3, 3): metres (N, 2), Jacobians (N, 2, 2).

    A point on the horizon is projected to infinity, without an exception.
    """
    u = homogeneous(H, points)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = u[:, :2] / u[:, 2:]  # (N, 2)
        J = (H[None, :2, :2] - z[:, :, None] * H[None, 2:, :2]) / u[:, 2, None, None]
    return z, J


def homogeneous(H: Array, points: Array) -> Array:
    """Return the homogeneous coordinates (N, 3) of points (N, 2) projected by H (3, 3)."""
    u = np.ones((len(points), 3))
    u[:, :2] = points
    return np.asarray(u @ H.T)


def paste_mask(mask: Array, box: Array, height: int, width: int) -> tuple[slice, slice, Array]:
    """Resample a mask of 255·probability (28, 28) to its box: rows, columns and (h, w) bool.

    As in Mask R-CNN: pad by one cell, grow the box to match, round to pixels, bilinear.
    """
    if not np.abs(box).max() < 2**30:  # NaN and infinity too
        return slice(0, 0), slice(0, 0), np.empty((0, 0), bool)
    cells = mask.shape[0] + 2  # with its border of zeros
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * (cells / mask.shape[0])
    x1, y1, x2, y2 = np.concatenate([centre - half, centre + half]).astype(np.int64)  # towards 0
    rows, down = _interpolation(y1, y2, height, cells)
    columns, along = _interpolation(x1, x2, width, cells)
    probability = down @ np.pad(mask, 1) @ along.T / 255  # (h, w)
    return rows, columns, probability > 0.5


def _interpolation(low: int, high: int, limit: int, cells: int) -> tuple[slice, Array]:
    """Return the pixels of low..high in 0..limit and their bilinear weights (pixels, cells)."""
    size = max(high - low + 1, 1)
    pixels = np.arange(max(low, 0), max(min(low + size, limit), 0))  # (n,)
    at = np.maximum((pixels - low + 0.5) * cells / size - 0.5, 0)  # (n,) in cells
    first = np.minimum(at.astype(np.int64), cells - 1)
    second = np.minimum(first + 1, cells - 1)
    weights = np.zeros((len(pixels), cells))
    weights[np.arange(len(pixels)), first] = 1 - (at - first)
    weights[np.arange(len(pixels)), second] += at - first
    start = int(pixels[0]) if len(pixels) else 0
    return slice(start, start + len(pixels)), weights


def read_ground_plane(path: Path) -> Homography:
    """Read `{"image_foot_to_world_m": 3×3, …}`; raises ConfigError for an invalid file.

    Other members record the origin of the plane; `streamvis calibrate` writes and reads them.
    """
    try:
        rows = json.loads(read_text(path, ConfigError))["image_foot_to_world_m"]
        return ground_plane_of(rows, f"{path}: image_foot_to_world_m")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f'{path} is not a ground plane: {error!r}. Expected JSON with "image_foot_to_world_m", '
            "a 3×3 homography from foot points in pixels to metres."
        ) from None


def ground_plane_of(rows: object, where: str) -> Homography:
    """Return the rows of a homography as nine numbers; ConfigError when it cannot be inverted."""
    H = np.array(rows, dtype=np.float64)
    if H.shape != (3, 3) or not np.isfinite(H).all() or abs(np.linalg.det(H)) < 1e-12:
        raise ConfigError(
            f"{where} has shape {H.shape} or cannot be inverted; "
            "expected an invertible 3×3 matrix of finite numbers."
        )
    return tuple(H.ravel().tolist())
