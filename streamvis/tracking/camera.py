"""How the camera moves: the background's motion from one picture to the next, and its sum.

    before, after = small_view(pixels_then), small_view(pixels_now)
    motion = between(before, after)  # motion.warp @ [x, y, 1]: where the background is now

Corners spread over a small gray picture are followed by Lucas and Kanade's method. A similarity
(shift, turn, zoom) is fitted to as many of them as will move together: people move each in their
own way, the background as one. Everything is decided by the two pictures alone, so the same two
give the same motion bit for bit, whatever was seen before.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array, Motion

AREA = 320 * 180  # px of the small picture, about; people and noise shrink with it, so does time
CELL = 12  # px of it: one corner is looked for in each cell, so that they are everywhere
BLOCK = 5  # px over which a corner is measured
TEXTURE = 1e-4  # least eigenvalue of the gradients' moments that makes a corner
WINDOW, LEVELS = (11, 11), 3  # px, and how often the picture is halved
STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.01)

PAIRS = 200  # of corners that propose a motion
APART = 1 / 8  # of the picture's width: nearer pairs say little about turn and zoom
TOLERANCE = 0.6  # px, within which a corner moves with the others
STRIPS = 8  # upright ones, of the picture: a person fills one or two, the background all
STILL = 0.9  # standing still is believed if it gets this much of the votes of the best motion
REFINEMENTS = 6

LEAST = 15  # corners that must move together
LEAST_SHARE = 0.05  # of the corners there were
LEAST_SPREAD = 0.07  # of width and height: their standard deviation; a uniform one is 0.29
MOST_ZOOM, MOST_TURN, MOST_SHIFT = 1.3, math.radians(20), 0.4  # shift in diagonals


class GreyFrame(NamedTuple):
    """A picture as the estimator sees it."""

    gray: Array  # (h, w) uint8, its pixels are means of k×k of the source's
    size: tuple[int, int]  # width and height in the source

    @property
    def scale(self) -> int:
        """Source pixels to a small one."""
        return _scale(*self.size)


def grey_frame(pixels: Array) -> GreyFrame:
    """Shrink RGB pixels (H, W, 3) uint8 by a whole factor; a few at the far edges are left out."""
    height, width = pixels.shape[:2]
    k = _scale(width, height)
    h, w = small_shape(width, height)
    gray = cv2.cvtColor(pixels[: h * k, : w * k], cv2.COLOR_RGB2GRAY)
    if k > 1:
        gray = cv2.resize(gray, (w, h), interpolation=cv2.INTER_AREA)
    return GreyFrame(gray, (width, height))


def small_shape(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the small picture of a source."""
    k = _scale(width, height)
    return height // k, width // k


def estimate_motion(before: GreyFrame, after: GreyFrame) -> Motion:
    """The background's motion in source pixels; identity with support 0 where it is not known.

    It is unknown between pictures of different sizes or of different scenes, where there is too
    little to see, and where what moves together is in one place only or moves too far.
    """
    if before.size != after.size:
        return unknown_motion()
    starts = _corners(before.gray)
    if len(starts) < LEAST:
        return unknown_motion()
    p, q = _follow(before.gray, after.gray, starts)
    if len(p) < LEAST:
        return unknown_motion()
    a, b = _similarity(p, q, before.gray.shape[1])
    with_it = np.abs(a * p + b - q) < TOLERANCE
    if with_it.sum() < max(LEAST, LEAST_SHARE * len(starts)):
        return unknown_motion()
    if not (_spread(p[with_it], before.gray.shape) and _plausible(a, b, before.gray.shape)):
        return unknown_motion()
    return Motion(warp=_in_source(a, b, before.scale), support=float(with_it.mean()))


def unknown_motion() -> Motion:
    return Motion(warp=np.eye(2, 3), support=0.0)


def _scale(width: int, height: int) -> int:
    return max(1, min(round(math.sqrt(width * height / AREA)), width, height))


def _corners(gray: Array) -> Array:
    """The best corner (x, y) of each cell that has one: (N, 2) float32."""
    rows, columns = gray.shape[0] // CELL, gray.shape[1] // CELL
    if rows * columns < LEAST:
        return np.empty((0, 2), np.float32)
    strength = cv2.cornerMinEigenVal(gray, BLOCK)
    blocks = strength[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL)
    cells = blocks.transpose(0, 2, 1, 3).reshape(rows * columns, CELL * CELL)
    best = cells.argmax(axis=1)
    row, column = np.divmod(np.flatnonzero(cells.max(axis=1) > TEXTURE), columns)
    y, x = np.divmod(best[row * columns + column], CELL)
    return np.stack([column * CELL + x, row * CELL + y], axis=1).astype(np.float32)


def _follow(before: Array, after: Array, starts: Array) -> tuple[Array, Array]:
    """Where corners were and where they are, (N,) complex px, of those that can be followed."""

    ends, found, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        starts,
        np.empty_like(starts),
        winSize=WINDOW,
        maxLevel=LEVELS,
        criteria=STEPS,
    )
    height, width = before.shape
    inside = (np.asarray(ends) >= 0) & (ends <= np.array([width - 1, height - 1]))
    good = inside.all(axis=1) & (np.asarray(found)[:, 0] == 1)
    return _complex(starts[good]), _complex(np.asarray(ends)[good])


def _complex(points: Array) -> Array:
    return points[:, 0].astype(np.float64) + 1j * points[:, 1]


def _similarity(p: Array, q: Array, width: int) -> tuple[complex, complex]:
    """The a, b with which a·p + b ≈ q holds for most of the picture: |a| is zoom, arg a is turn.

    Pairs of points propose, all points vote, least squares under Tukey's weights refines.
    """
    random = np.random.default_rng(0)
    i, j = random.integers(len(p), size=(2, PAIRS))
    far = np.abs(p[i] - p[j]) > APART * width
    i, j = i[far], j[far]
    slopes = np.append(1, (q[i] - q[j]) / (p[i] - p[j]))  # the first stands still
    shifts = np.append(0, q[i] - slopes[1:] * p[i])
    votes = _votes(_closeness(slopes[:, None] * p + shifts[:, None] - q), p.real / width)
    best = 0 if votes[0] >= STILL * votes.max() else int(votes.argmax())
    a, b = complex(slopes[best]), complex(shifts[best])
    for _ in range(REFINEMENTS):
        weight = _closeness(a * p + b - q) ** 2
        total = weight.sum()
        if total == 0:
            break
        centre, target = (weight * p).sum() / total, (weight * q).sum() / total
        arm = p - centre
        a = complex((weight * arm.conj() * (q - target)).sum() / (weight * np.abs(arm) ** 2).sum())
        b = complex(target - a * centre)
    return a, b


def _votes(closeness: Array, across: Array) -> Array:
    """What speaks for each motion (K,), by how well it explains the points (K, N).

    Each upright strip has the root of its points' votes to give; `across` (N,) in [0, 1) says which
    strip a point is in. So a large person with many corners does not outvote a bare wall.
    """
    strip = (across * STRIPS).astype(np.int64)
    order = np.argsort(strip, kind="stable")
    _, starts = np.unique(strip[order], return_index=True)
    return np.sqrt(np.add.reduceat(closeness[:, order], starts, axis=1)).sum(axis=1)


def _closeness(error: Array) -> Array:
    """1 − (error / tolerance)², from 1 where a motion is right to 0 where it is out."""
    return np.maximum(0, 1 - (error.real**2 + error.imag**2) / TOLERANCE**2)


def _spread(points: Array, shape: tuple[int, ...]) -> bool:
    """Whether the points lie about the picture: those on one person do not."""
    height, width = shape
    return bool(points.real.std() > LEAST_SPREAD * width) and bool(
        points.imag.std() > LEAST_SPREAD * height
    )


def _plausible(a: complex, b: complex, shape: tuple[int, ...]) -> bool:
    """Whether a camera may move so between two pictures that still show the same."""
    height, width = shape
    centre = complex(width, height) / 2
    shift = abs(a * centre + b - centre)
    turn = abs(math.atan2(a.imag, a.real))
    zoomed = 1 / MOST_ZOOM < abs(a) < MOST_ZOOM
    return zoomed and turn < MOST_TURN and shift < MOST_SHIFT * abs(centre) * 2


def _in_source(a: complex, b: complex, k: int) -> Array:
    """a·p + b on centres of small pixels as a warp (2, 3) of the source, whose corner is (0, 0)."""
    half = complex(0.5, 0.5)  # small pixel p has its centre at k·(p + half) in the source
    b = k * (b + half - a * half)
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
