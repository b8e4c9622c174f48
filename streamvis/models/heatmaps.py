"""Points, scores and covariances from heatmaps (DARK: Zhang et al., CVPR 2020, §3.2).

    points, scores, covariances = decode(heatmaps, sigma=2.0)  # in cells, (N, K, …)

About its highest cell each map is smoothed by the Gaussian that it was trained on ("modulation").
Near a maximum the logarithm of a Gaussian is a paraboloid: one Newton step leads to its top, and
its curvature is the inverse of its covariance.

The score is the volume about the highest cell over that of the trained Gaussian: the height of a
map that has its shape, and of a density the probability that the point is near.
"""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array

REACH = 2  # cells from the highest one that derivatives read
FARTHEST = 1.5  # cells of a step; a longer one means that this is no peak
LEAST = 1e-10  # of a heatmap, where its logarithm is taken
# of sigma: standard deviation of the surest point. With it half of the errors of a network on 41
# people of COCO that it had not learnt were within the ellipse of half of the probability
LEAST_SPREAD = 0.37
WIDEST = 4.0  # of sigma: standard deviation where there is no peak
NEAR = 2.5  # of sigma: half of the side of the square whose volume is the score
LEAST_SCORE = 0.05  # in the divisor of the covariance


class Decoded(NamedTuple):
    """Points of N people in cells of their heatmaps; the centre of cell 0 is at 0."""

    points: Array  # (N, K, 2) float64, x and y
    scores: Array  # (N, K) float64 in [0, 1]
    covariances: Array  # (N, K, 2, 2) float64, cells²


def decode(heatmaps: Array, sigma: float) -> Decoded:
    """Decode heatmaps (N, K, h, w) whose peaks were trained to be Gaussians of `sigma` cells."""
    people, keypoints, height, width = heatmaps.shape
    maps = np.asarray(heatmaps, np.float64).reshape(people * keypoints, height, width)
    cells = maps.reshape(people * keypoints, height * width)
    best = cells.argmax(1)
    rows, columns = np.divmod(best, width)
    around = _surroundings(maps, rows, columns, sigma)
    scores = _volumes(around, sigma)
    steps, spreads = _refine(_smoothed(around, sigma), sigma)
    points = np.stack([columns, rows], 1) + steps
    # what was trained and smoothed is not doubt about the place
    covariances = _at_least(spreads - 2 * sigma**2 * np.eye(2), (LEAST_SPREAD * sigma) ** 2)
    covariances /= np.maximum(scores, LEAST_SCORE)[:, None, None]
    return Decoded(
        points.reshape(people, keypoints, 2),
        scores.reshape(people, keypoints),
        covariances.reshape(people, keypoints, 2, 2),
    )


def _surroundings(maps: Array, rows: Array, columns: Array, sigma: float) -> Array:
    """Return a square (M, n, n) about one cell of each map, of the size that is smoothed."""
    wide = REACH + int(np.ceil(3 * sigma))
    padded = np.pad(np.maximum(maps, 0), ((0, 0), (wide, wide), (wide, wide)))
    window = np.arange(2 * wide + 1)
    across, down = (columns[:, None] + window)[:, None], (rows[:, None] + window)[:, :, None]
    return padded[np.arange(len(maps))[:, None, None], down, across]


def _volumes(around: Array, sigma: float) -> Array:
    """Return the volume (M,) about the middle cells, at most 1: that of the trained Gaussian."""
    middle, near = around.shape[1] // 2, int(np.ceil(NEAR * sigma))
    inside = slice(middle - near, middle + near + 1)
    whole = np.exp(-0.5 * (np.arange(-near, near + 1) / sigma) ** 2).sum() ** 2
    return np.clip(around[:, inside, inside].sum((1, 2)) / whole, 0, 1)


def _smoothed(around: Array, sigma: float) -> Array:
    """Return the surroundings (M, n, n) smoothed in their middle, (M, 5, 5)."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    blur = np.zeros((2 * REACH + 1, around.shape[1]))
    for i in range(len(blur)):
        blur[i, i : i + len(kernel)] = kernel
    return blur @ around @ blur.T


def _refine(around: Array, sigma: float) -> tuple[Array, Array]:
    """Return steps (M, 2) from the middle cell to the peak, and its covariance (M, 2, 2), cells².

    Where the surroundings (M, 5, 5) are no peak the step is 0.
    """
    log = np.log(np.maximum(around, LEAST))
    c = REACH
    middle = log[:, c, c]
    slope = (
        np.stack([log[:, c, c + 1] - log[:, c, c - 1], log[:, c + 1, c] - log[:, c - 1, c]], 1) / 2
    )
    xx = (log[:, c, c + 2] - 2 * middle + log[:, c, c - 2]) / 4
    yy = (log[:, c + 2, c] - 2 * middle + log[:, c - 2, c]) / 4
    xy = (
        log[:, c + 1, c + 1] - log[:, c - 1, c + 1] - log[:, c + 1, c - 1] + log[:, c - 1, c - 1]
    ) / 4
    determinant = xx * yy - xy * xy
    peak = (xx < 0) & (yy < 0) & (determinant > LEAST)
    safe = np.where(peak, determinant, 1.0)
    spread = np.stack([-yy, xy, xy, -xx], 1).reshape(-1, 2, 2) / safe[:, None, None]
    steps = np.einsum("mij,mj->mi", spread, slope)
    peak &= np.abs(steps).max(1, initial=0) <= FARTHEST
    wide = np.eye(2) * (WIDEST * sigma) ** 2
    return np.where(peak[:, None], steps, 0), np.where(peak[:, None, None], spread, wide)


def _at_least(covariances: Array, least: float) -> Array:
    """Raise eigenvalues to a least value."""
    values, vectors = np.linalg.eigh(covariances)
    return (vectors * np.maximum(values, least)[:, None]) @ vectors.transpose(0, 2, 1)
