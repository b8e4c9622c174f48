"""Jitter of keypoints on a video: the acceleration that a body does not have.

The acceleration error of Kanazawa et al. (CVPR 2019) without a true motion: the length of the
second difference of a keypoint's path over the square of the time step, in statures/s². A body
that moves evenly has none, and one that walks has little in the trunk; what the network adds from
frame to frame is white, and its second difference large.
"""

from typing import NamedTuple

import numpy as np

from streamvis.messages import KEYPOINTS, Array

UNEVEN = 0.1  # of a step


class Jitter(NamedTuple):
    """The acceleration of keypoints, summed over samples that have one before and one after."""

    sums: Array  # (17,) statures/s², over the samples of each keypoint
    samples: Array  # (17,) number of samples

    @property
    def mean(self) -> float:
        """Mean acceleration of all keypoints, statures/s²; NaN without samples."""
        count = int(self.samples.sum())
        return float(self.sums.sum() / count) if count else float("nan")

    @property
    def by_keypoint(self) -> Array:
        """Mean acceleration (17,) of each keypoint, statures/s²; NaN without samples."""
        return np.asarray(self.sums / np.where(self.samples, self.samples, np.nan))

    def plus(self, other: "Jitter") -> "Jitter":
        """Return the jitter of both."""
        return Jitter(self.sums + other.sums, self.samples + other.samples)


NO_JITTER = Jitter(np.zeros(KEYPOINTS), np.zeros(KEYPOINTS, np.int64))


def jitter(times_us: Array, points: Array, known: Array, sizes: Array) -> Jitter:
    """Measure one person's keypoints (T, 17, 2), px, at times (T,), µs.

    known: (T, 17) bool, keypoints that count. sizes: (T,) px, the larger side of the person's box.
    Samples count whose step to the next differs by less than `UNEVEN` from the one before.
    """
    steps = np.diff(np.asarray(times_us, np.float64)) / 1e6
    if len(steps) < 2:
        return NO_JITTER
    before, after = steps[:-1], steps[1:]  # (T - 2,) s
    even = np.abs(after - before) < UNEVEN * before
    second = points[2:] - 2 * points[1:-1] + points[:-2]  # (T - 2, 17, 2) px
    scale = before * after * np.asarray(sizes, np.float64)[1:-1]  # px s² for a stature/s²
    acceleration = np.linalg.norm(second, axis=2) / scale[:, None]
    use = known[2:] & known[1:-1] & known[:-2] & even[:, None]
    return Jitter(np.where(use, acceleration, 0).sum(axis=0), use.sum(axis=0))
