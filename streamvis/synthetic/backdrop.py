"""The empty street: paving, a lane, grass and a house front, seen by the calibrated camera."""

import cv2
import numpy as np

from streamvis.messages import Array
from streamvis.synthetic.scene import WALL_Y, Camera

SCALE = 2  # drawn this much larger, then averaged
SKY = np.array([196, 212, 226], np.float32)


def backdrop(camera: Camera, seed: int) -> Array:
    """Draw the place with nobody in it: (H, W, 3) uint8 RGB."""
    rng = np.random.default_rng([seed, 2])
    u = (np.arange(camera.width * SCALE, dtype=np.float32) + 0.5) / SCALE
    v = (np.arange(camera.height_px * SCALE, dtype=np.float32) + 0.5) / SCALE
    foot_of_wall, _ = camera.project(np.array([[0.0, WALL_Y, 0.0]]))
    wall, ground = v[v < foot_of_wall[0, 1]], v[v >= foot_of_wall[0, 1]]  # the camera stands level
    rows = []
    if len(wall):
        P = camera.matrix
        front = np.linalg.inv(np.column_stack([P[:, 0], P[:, 2], P[:, 3] + P[:, 1] * WALL_Y]))
        rows.append(_front(*_plane(front, u, wall), rng))
    if len(ground):
        floor = np.array(camera.homography).reshape(3, 3)
        rows.append(_ground(*_plane(floor, u, ground), rng))
    size = (camera.width, camera.height_px)
    small = cv2.resize(np.concatenate(rows), size, interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _plane(H: Array, u: Array, v: Array) -> tuple[Array, Array]:
    """Return the plane's coordinates, (h, w) each, that the pixels u (w,), v (h,) see."""
    x, y, w = (row[0] * u + row[1] * v[:, None] + row[2] for row in H.astype(np.float32))
    return x / w, y / w


def _ground(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Return colours (h, w, 3) float32 of the ground at x, y metres."""
    row = np.floor(y / 0.6)
    slab = x / 0.9 + 0.5 * (row % 2)
    tones = rng.normal(0, 5, (64, 64)).astype(np.float32)
    tone = tones[row.astype(int) % 64, np.floor(slab).astype(int) % 64]
    joint = np.minimum(_edge(slab, 0.9), _edge(y / 0.6, 0.6)) < 0.016
    fade = np.clip(1.3 - y / 16, 0, 1)  # far joints are finer than a pixel
    colours = np.array([158, 152, 143], np.float32) + tone[..., None]
    colours = colours - (38 * joint * fade)[..., None]  # paving

    verge = y > 17.8
    colours[verge] *= 0.95
    colours[(y > 13.2) & ~verge] = (92, 93, 98)  # asphalt
    colours[(np.abs(y - 15.4) < 0.07) & ((x % 3.0) < 1.6)] = (214, 214, 205)  # dashes
    kerb = (np.abs(y - 13.2) < 0.14) | (np.abs(y - 17.6) < 0.2)
    colours[kerb & ~verge] = (186, 184, 178)
    grass = _noise(x, y, 0.35, rng)
    lawn = y > 20.2 + 0.15 * _noise(x, y, 0.5, rng)
    colours[lawn] = np.array([92, 122, 66], np.float32) + 26 * grass[lawn, None]
    colours += (9 * _noise(x, y, 2.3, rng) + 5 * _noise(x, y, 0.6, rng))[..., None]  # stains
    colours += (6 * rng.standard_normal(x.shape, dtype=np.float32))[..., None]  # grain
    colours *= np.clip(1.06 - 0.006 * y, 0, 1.1)[..., None]
    return colours


def _front(x: Array, z: Array, rng: np.random.Generator) -> Array:
    """Return colours (h, w, 3) float32 of the house front at x, z metres, and of the sky above."""
    colours = np.array([188, 166, 144], np.float32) + 7 * _noise(x, z, 1.1, rng)[..., None]
    colours[z % 0.35 < 0.03] -= 10
    colours[z < 0.55] = (122, 116, 112)

    across, storey = np.abs((x + 64.0) % 3.2 - 1.6), z % 3.1
    frame = (across < 0.78) & (storey > 0.95) & (storey < 2.55)
    colours[frame] = (226, 220, 210)
    glass = (across < 0.68) & (storey > 1.03) & (storey < 2.47)
    colours[glass] = (66, 80, 98)
    colours = colours + (glass * 30 * (storey - 1.6) / 0.8)[..., None]
    colours[glass & ((across < 0.035) | (np.abs(storey - 1.9) < 0.03))] = (214, 208, 198)  # bars
    colours[(np.abs(x) < 0.7) & (z < 2.35)] = (86, 58, 44)  # door
    colours[z > 9.3] = SKY
    return colours


def _edge(cells: Array, size: float) -> Array:
    """Return the distance in metres to the nearest border of cells of this size."""
    part = cells - np.floor(cells)
    return np.minimum(part, 1 - part) * size


def _noise(x: Array, y: Array, size: float, rng: np.random.Generator) -> Array:
    """Return smooth noise (h, w) around 0 with spots of `size` metres."""
    table = rng.normal(0, 1, (64, 64)).astype(np.float32)
    at_x, at_y = (x / size % 64).astype(np.float32), (y / size % 64).astype(np.float32)
    return cv2.remap(table, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
