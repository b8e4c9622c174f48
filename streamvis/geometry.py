"""Boxes, box masks and the ground plane, as plain NumPy. Boxes are xyxy pixels everywhere."""

import json
from pathlib import Path

import numpy as np

from streamvis.errors import ConfigError
from streamvis.messages import Array

Homography = tuple[float, ...]  # nine numbers, row-major: foot point in pixels -> metres


def area(boxes: Array) -> Array:
    """Areas (N,) of boxes (N, 4)."""
    return np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4); 0 where both are empty."""
    both = _intersection(a, b)
    either = area(a)[:, None] + area(b)[None] - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def covered(a: Array, b: Array) -> Array:
    """Share (N, M) of each box of `a` (N, 4) that lies inside each box of `b` (M, 4)."""
    both = _intersection(a, b)
    own = np.broadcast_to(area(a)[:, None], both.shape)
    return np.divide(both, own, out=np.zeros_like(both), where=own > 0)


def _intersection(a: Array, b: Array) -> Array:
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # (N, M, 2)
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2).astype(np.float64)


def foot(boxes: Array) -> Array:
    """Foot points (N, 2): the middle of the lower edge."""
    return np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)


def to_ground(H: Array, points: Array) -> tuple[Array, Array]:
    """Project image points (N, 2) by homography H (3, 3): metres (N, 2), Jacobians (N, 2, 2).

    A point on the horizon has no finite image; it comes out as infinity, never as an exception.
    """
    u = np.column_stack([points, np.ones(len(points))]) @ H.T  # (N, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = u[:, :2] / u[:, 2:]  # (N, 2)
        J = (H[None, :2, :2] - z[:, :, None] * H[None, 2:, :2]) / u[:, 2, None, None]
    return z, J


def read_ground_plane(path: Path) -> Homography:
    """Read `{"image_foot_to_world_m": 3×3}`; ConfigError says what is wrong with the file."""
    try:
        rows = json.loads(path.read_text())["image_foot_to_world_m"]
        H = np.array(rows, dtype=np.float64)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f'{path} is not a ground plane: {error!r}. Expected JSON with "image_foot_to_world_m", '
            "a 3×3 homography from foot points in pixels to metres."
        ) from None
    if H.shape != (3, 3) or not np.isfinite(H).all() or abs(np.linalg.det(H)) < 1e-12:
        raise ConfigError(
            f"{path}: image_foot_to_world_m has shape {H.shape} or cannot be inverted; "
            "expected an invertible 3×3 matrix of finite numbers."
        )
    return tuple(H.ravel().tolist())
