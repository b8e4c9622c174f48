"""Camera motion: a similarity transform of the background from one frame to the next.

    before, after = grey_frame(earlier_pixels), grey_frame(pixels)
    motion = estimate_motion(before, after)  # motion.warp @ [x, y, 1]: the background's new place

Corners spread over a downscaled grey frame are tracked by the Lucas-Kanade method. A similarity
transform (translation, rotation, zoom) is fitted robustly to the largest group of corners that
move together, which is the background. The result depends on the two frames alone and is
bit-exact for equal input.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array, Motion

AREA = 320 * 180  # px of the downscaled frame, approximately
CELL = 12  # px of the downscaled frame: at most one corner in each cell
BLOCK = 5  # px, window of the corner measure
TEXTURE = 1e-4  # smallest eigenvalue of the structure tensor of a corner
WINDOW, LEVELS = (11, 11), 3  # px, and number of pyramid levels
STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.01)

PAIRS = 200  # pairs of corners that propose a motion
APART = 1 / 8  # share of the width: closer pairs determine rotation and zoom badly
TOLERANCE = 0.6  # px, largest residual of an inlier
STRIPS = 8  # vertical strips of the frame: a person fills one or two, the background all
STILL = 0.9  # zero motion is preferred when it has this share of the best votes
REFINEMENTS = 6
FEW = 80  # corners, about, that are tracked first: most cameras stand still
SAME = 3.0  # grey levels, root mean square over a cell: smaller changes are noise
CERTAIN = 0.8  # share of all possible votes for zero motion above which nothing else is proposed

LEAST = 15  # smallest number of inliers
LEAST_SHARE = 0.05  # smallest share of inliers
LEAST_SPREAD = 0.07  # least standard deviation of inliers, share of each side; uniform: 0.29
MOST_ZOOM, MOST_TURN, MOST_SHIFT = 1.3, math.radians(20), 0.4  # translation in diagonals


class GreyFrame(NamedTuple):
    """A downscaled grey frame, the input of the motion estimate."""

    gray: Array  # (h, w) uint8, means of k × k source pixels
    size: tuple[int, int]  # width and height of the source frame

    @property
    def scale(self) -> int:
        """Side in source pixels of one grey pixel."""
        return _scale(*self.size)


def grey_frame(pixels: Array) -> GreyFrame:
    """Downscale RGB pixels (H, W, 3) uint8 by an integer factor; a remainder is cut off."""
    height, width = pixels.shape[:2]
    k = _scale(width, height)
    h, w = small_shape(width, height)
    gray = cv2.cvtColor(pixels[: h * k, : w * k], cv2.COLOR_RGB2GRAY)
    if k > 1:
        gray = cv2.resize(gray, (w, h), interpolation=cv2.INTER_AREA)
    return GreyFrame(gray, (width, height))


def small_shape(width: int, height: int) -> tuple[int, int]:
    """Return rows and columns of the downscaled frame of a source."""
    k = _scale(width, height)
    return height // k, width // k


def estimate_motion(before: GreyFrame, after: GreyFrame) -> Motion:
    """Estimate the motion of the background in source pixels.

    Returns the identity with support 0 if the motion is unknown: frames of different sizes or a
    cut, too few corners, inliers in one place only, or an implausibly large motion.
    """
    if before.size != after.size:
        return unknown_motion()
    starts = _corners(before.gray)
    if len(starts) < LEAST:
        return unknown_motion()
    width = before.gray.shape[1]
    ends, found = np.empty_like(starts), np.zeros(len(starts), bool)
    first = np.arange(len(starts)) % max(1, len(starts) // FEW) == 0
    ends[first], found[first] = _follow(before.gray, after.gray, starts[first])
    if _stands_still(starts[first], ends[first], found[first], width):
        starts, ends, found = starts[first], ends[first], found[first]
        p, q = _complex(starts[found]), _complex(ends[found])
        a, b = _refined(p, q, 1, 0)
    else:
        ends[~first], found[~first] = _follow(before.gray, after.gray, starts[~first])
        p, q = _complex(starts[found]), _complex(ends[found])
        if len(p) < LEAST:
            return unknown_motion()
        a, b = _similarity(p, q, width)
    with_it = np.abs(a * p + b - q) < TOLERANCE
    if with_it.sum() < max(LEAST, LEAST_SHARE * len(starts)):
        return unknown_motion()
    if not (_spread(p[with_it], before.gray.shape) and _plausible(a, b, before.gray.shape)):
        return unknown_motion()
    return Motion(warp=_in_source(a, b, before.scale), support=float(with_it.mean()))


def unknown_motion() -> Motion:
    """Return the identity with support 0."""
    return Motion(warp=np.eye(2, 3), support=0.0)


def nothing_moved(before: GreyFrame, after: GreyFrame) -> bool:
    """Whether two frames of one size differ by noise only, in each cell of a picture.

    Where there are corners, a camera that moves by a third of a grey pixel changes more.
    """
    h, w = before.gray.shape
    cells = max(1, w // CELL), max(1, h // CELL)
    change = cv2.absdiff(before.gray, after.gray).astype(np.float32)
    of_cells = cv2.resize(change * change, cells, interpolation=cv2.INTER_AREA)
    return bool(of_cells.max() < SAME**2)


def _scale(width: int, height: int) -> int:
    return max(1, min(round(math.sqrt(width * height / AREA)), width, height))


def _corners(gray: Array) -> Array:
    """Return the strongest corner (x, y) of each cell that has one: (N, 2) float32."""
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
    """Return the new places (N, 2) of corners (N, 2), px, and which (N,) could be tracked."""
    if len(starts) == 0:
        return starts, np.zeros(0, bool)
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
    return np.asarray(ends), inside.all(axis=1) & (np.asarray(found)[:, 0] == 1)


def _stands_still(starts: Array, ends: Array, found: Array, width: int) -> bool:
    """Whether so many corners (N, 2) are where they were that no other motion is likely.

    Those that were not `found` (N,) again vote for another one.
    """
    closeness = _closeness(_complex(starts) - _complex(ends)) * found
    still, most = _votes(np.stack([closeness, np.ones(len(starts))]), starts[:, 0] / width)
    return bool(still >= CERTAIN * most)


def _complex(points: Array) -> Array:
    return points[:, 0].astype(np.float64) + 1j * points[:, 1]


def _similarity(p: Array, q: Array, width: int) -> tuple[complex, complex]:
    """Fit a·p + b ≈ q robustly, (N,) complex; |a| is the zoom, arg a the rotation.

    Pairs of points propose motions, all points vote, and the best one is refined.
    """
    random = np.random.default_rng(0)
    i, j = random.integers(len(p), size=(2, PAIRS))
    far = np.abs(p[i] - p[j]) > APART * width
    i, j = i[far], j[far]
    slopes = np.append(1, (q[i] - q[j]) / (p[i] - p[j]))  # the first proposal is zero motion
    shifts = np.append(0, q[i] - slopes[1:] * p[i])
    error = slopes[:, None] * p
    error += shifts[:, None]
    error -= q
    votes = _votes(_closeness(error), p.real / width)
    best = 0 if votes[0] >= STILL * votes.max() else int(votes.argmax())
    return _refined(p, q, complex(slopes[best]), complex(shifts[best]))


def _refined(p: Array, q: Array, a: complex, b: complex) -> tuple[complex, complex]:
    """Refine a·p + b ≈ q by least squares with Tukey's weights."""
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
    """Return the votes (K,) for each motion from the closeness (K, N) of its points.

    Each vertical strip contributes the square root of its sum, so that a large person with many
    corners does not outvote a plain background; `across` (N,) in [0, 1) is the horizontal place.
    """
    strip = (across * STRIPS).astype(np.int64)
    order = np.argsort(strip, kind="stable")
    _, starts = np.unique(strip[order], return_index=True)
    return np.sqrt(np.add.reduceat(closeness[:, order], starts, axis=1)).sum(axis=1)


def _closeness(error: Array) -> Array:
    """Return 1 − (error / tolerance)², from 1 for an exact fit to 0 for an outlier."""
    square = error.real**2
    square += error.imag**2
    square /= -(TOLERANCE**2)
    square += 1
    return np.maximum(square, 0, out=square)


def _spread(points: Array, shape: tuple[int, ...]) -> bool:
    """Whether the points are spread over the frame; those of one person are not."""
    height, width = shape
    return bool(points.real.std() > LEAST_SPREAD * width) and bool(
        points.imag.std() > LEAST_SPREAD * height
    )


def _plausible(a: complex, b: complex, shape: tuple[int, ...]) -> bool:
    """Whether zoom, rotation and translation are possible between two frames of one scene."""
    height, width = shape
    centre = complex(width, height) / 2
    shift = abs(a * centre + b - centre)
    turn = abs(math.atan2(a.imag, a.real))
    zoomed = 1 / MOST_ZOOM < abs(a) < MOST_ZOOM
    return zoomed and turn < MOST_TURN and shift < MOST_SHIFT * abs(centre) * 2


def _in_source(a: complex, b: complex, k: int) -> Array:
    """Convert a·p + b of grey pixel centres to a warp (2, 3) of source pixels from the corner."""
    half = complex(0.5, 0.5)  # grey pixel p has its centre at k·(p + half) in the source
    b = k * (b + half - a * half)
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
