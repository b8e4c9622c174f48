"""Kalman filters of the keypoints of one source's people, in media time.

Each keypoint has a filter of its own with the state x, y, vx, vy in pixels: constant velocity with
white acceleration, whose spectral density is that of the joint in squared statures (`ACCELERATION`)
times the square of the person's size. So neither the frame rate nor the scale matters. A measured
keypoint has the covariance of its heatmap. One outside of the gate is an outlier and is left out,
unless it is the second in succession, or many keypoints of the person are: then the body itself has
moved or stopped at once, as in a fall, and these keypoints begin anew where they are.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.messages import KEYPOINTS, Array
from streamvis.stages.pose.keypoints import ANKLES, ELBOWS, KNEES, POSTURES, WRISTS
from streamvis.tracking.kalman import constant_velocity, innovations, predict, update

# statures²/s³. A body that walks has .03 in head and hips, .07 in the shoulders, .45 in elbows and
# knees, 1.2 in the wrists, 2.7 in the ankles; people also turn, stop and bend
ACCELERATION = np.full(KEYPOINTS, 0.3)
ACCELERATION[[*ELBOWS, *KNEES]] = 0.6
ACCELERATION[list(WRISTS)] = 2.0
ACCELERATION[list(ANKLES)] = 3.0
SPEED = 0.5  # statures/s, standard deviation of the velocity of a new keypoint
LEAST_NOISE = 0.01  # statures, added to what the heatmap says: the network's own bias
GATE = 16.0  # squared Mahalanobis distance that 1 measurement of 3000 exceeds
MANY = 0.4  # share of a person's keypoints outside of their gates from which it has moved
FADE_S = 0.3  # time constant at which the score of a keypoint fades until it is measured again
FORGET_US = 1_000_000  # people and keypoints without an estimate for longer are forgotten
H = np.eye(2, 4)


class Measured(NamedTuple):
    """The estimated keypoints of N people in one frame, by ascending id."""

    ids: Array  # (N,) int64
    sizes: Array  # (N,) px, the larger side of the box
    points: Array  # (N, 17, 2) px
    scores: Array  # (N, 17)
    covariances: Array  # (N, 17, 2, 2) px²

    def take(self, rows: Array) -> "Measured":
        return Measured(*(column[rows] for column in self))


class _Stored(msgspec.Struct, array_like=True):
    at_us: int
    ids: list[int]
    seen_us: list[int]
    last_us: bytes  # int64
    outside: bytes  # bool
    numbers: bytes  # float64: sizes, peaks, clear, x, P


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)
_COLUMNS = ("ids", "seen_us", "last_us", "outside", "sizes", "peaks", "clear", "x", "P")
RECENT = 2  # estimates before the present one, of which postures are kept
NEVER = -(2**62)  # media time of the last measurement of a keypoint that has none


class KeypointFilter:
    """Smoothed keypoints of the people of one source, by ascending id."""

    def __init__(self, min_score: float) -> None:
        self.min_score = min_score  # keypoints with a lower score are not measured
        self.at_us = 0
        self._empty(0)

    def _empty(self, people: int) -> None:
        n = people
        self.ids = np.zeros(n, np.int64)
        self.seen_us = np.zeros(n, np.int64)  # media time of the last estimate
        self.last_us = np.full((n, KEYPOINTS), NEVER)  # media time of the last measurement
        self.outside = np.zeros(
            (n, KEYPOINTS), bool
        )  # whether the last one was outside of the gate
        self.sizes = np.zeros(n)
        self.peaks = np.zeros((n, KEYPOINTS))  # scores then
        self.clear = np.full((n, RECENT, len(POSTURES)), np.nan)  # postures in the last estimates
        self.x = np.zeros((n, KEYPOINTS, 4))
        self.P = np.zeros((n, KEYPOINTS, 4, 4))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def points(self) -> Array:
        """Keypoints (N, 17, 2), px, at the time of the last call; as estimated where unknown."""
        return self.x[..., :2]

    @property
    def scores(self) -> Array:
        """Their scores (N, 17), which fade until the next measurement."""
        return self.peaks * np.exp(
            -np.where(self.known, self.at_us - self.last_us, 0) / 1e6 / FADE_S
        )

    @property
    def known(self) -> Array:
        """Whether each keypoint (N, 17) was measured within `FORGET_S`."""
        return self.last_us >= self.at_us - FORGET_US

    @property
    def covariances(self) -> Array:
        """Their covariances (N, 17, 2, 2), px²."""
        return self.P[..., :2, :2]

    def keep(self, rows: Array) -> None:
        """Keep these rows of people, (N,) bool or (K,) int."""
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[rows])

    def rename(self, gone: int, kept: int) -> None:
        """Let the person `gone` go on as `kept`, unless that one is there as well."""
        if kept in self.ids:
            self.keep(self.ids != gone)
            return
        self.ids = np.where(self.ids == gone, kept, self.ids)
        self.keep(np.argsort(self.ids, kind="stable"))

    def predict(self, media_us: int, still: Array) -> None:
        """Go on to a time, and forget people who had no estimate for `FORGET_US`.

        still: ids (K,) of people who have not moved since the last call, as nothing has in the
        picture: for them no time passes.
        """
        passed = max(media_us - self.at_us, 0)
        self.at_us = media_us
        stands = np.isin(self.ids, still)
        self.seen_us[stands] += passed
        self.last_us[stands] += passed
        self.x[stands, :, 2:] = 0.0
        if passed and not stands.all():
            moves = ~stands
            F, Q = constant_velocity(passed / 1e6)
            density = (ACCELERATION * self.sizes[moves, None] ** 2).reshape(-1, 1, 1)  # px²/s³
            x, P = predict(
                self.x[moves].reshape(-1, 4), self.P[moves].reshape(-1, 4, 4), F, Q * density
            )
            self.x[moves] = x.reshape(-1, KEYPOINTS, 4)
            self.P[moves] = P.reshape(-1, KEYPOINTS, 4, 4)
        self.keep(self.seen_us >= media_us - FORGET_US)

    def warp(self, warp: Array) -> None:
        """Move all keypoints with the background, by a warp (2, 3) of homogeneous pixels."""
        A, shift = warp[:, :2], warp[:, 2]
        both = np.kron(np.eye(2), A)  # of positions and velocities
        self.x = self.x @ both.T
        self.x[..., :2] += shift
        self.P = both @ self.P @ both.T

    def measure(self, found: Measured) -> None:
        """Update with the keypoints of people at the time of the last `predict`."""
        self._admit(found.ids)
        rows = np.searchsorted(self.ids, found.ids)
        noise = (LEAST_NOISE * found.sizes) ** 2
        R = found.covariances.astype(np.float64) + noise[:, None, None, None] * np.eye(2)
        measured = found.scores >= self.min_score
        known = self.known[rows]  # (n, 17)
        self.seen_us[rows], self.sizes[rows] = self.at_us, found.sizes
        outside = self._update(found, R, rows, measured & known)
        many = outside.sum(axis=1) > MANY * (measured & known).sum(axis=1)
        anew = outside & (self.outside[rows] | many[:, None])
        self._begin(found, R, rows, anew | ~known, measured)
        self.outside[rows] = outside & ~anew

    def _admit(self, ids: Array) -> None:
        """Add the people who are new, of whom no keypoint is known."""
        new, old = ids[~np.isin(ids, self.ids)], {one: getattr(self, one) for one in _COLUMNS}
        self._empty(len(new))
        self.ids = new
        for name, column in old.items():
            setattr(self, name, np.concatenate([column, getattr(self, name)]))
        self.keep(np.argsort(self.ids, kind="stable"))

    def _update(self, found: Measured, R: Array, rows: Array, which: Array) -> Array:
        """Update the keypoints `which` (n, 17) but those outside of their gates; return these."""
        i, k = np.nonzero(which)
        x, P, each = self.x[rows[i], k], self.P[rows[i], k], np.arange(len(i))
        of = innovations(x, P, found.points[i, k].astype(np.float64), R[i, k], H, each, each)
        near = of.distance2 <= GATE
        outside = np.zeros(which.shape, bool)
        outside[i, k] = ~near
        i, k = i[near], k[near]
        posterior = update(x[near], P[near], H, of.take(near))
        self.x[rows[i], k], self.P[rows[i], k] = posterior.x, posterior.P
        self.peaks[rows[i], k], self.last_us[rows[i], k] = found.scores[i, k], self.at_us
        return outside

    def _begin(self, found: Measured, R: Array, rows: Array, which: Array, measured: Array) -> None:
        """Begin the keypoints `which` (n, 17) anew where they were estimated."""
        i, k = np.nonzero(which)
        at = rows[i], k
        self.x[at] = np.column_stack([found.points[i, k], np.zeros((len(i), 2))])
        P = np.zeros((len(i), 4, 4))
        P[:, :2, :2] = R[i, k]
        P[:, 2:, 2:] = ((SPEED * found.sizes[i]) ** 2)[:, None, None] * np.eye(2)
        self.P[at] = P
        self.peaks[at] = found.scores[i, k]
        self.last_us[at] = np.where(measured[i, k], self.at_us, NEVER)

    def settle(self, rows: Array, clear: Array) -> Array:
        """Note how clear postures (K, 4) are in an estimate of the people in these rows (K,).

        Returns the median of each over the last three estimates, without those in which it was
        unknown: one estimate with a wrong keypoint decides nothing.
        """
        recent = np.concatenate([self.clear[rows], clear[:, None]], axis=1)  # (K, 3, 4)
        self.clear[rows] = recent[:, 1:]
        ordered = np.sort(recent, axis=1)  # NaN last
        last = np.maximum((~np.isnan(ordered)).sum(axis=1, keepdims=True) - 1, 0)
        middle = (np.take_along_axis(ordered, at, axis=1) for at in (last // 2, (last + 1) // 2))
        return (next(middle) + next(middle))[:, 0] / 2

    def state(self) -> bytes:
        """Return the state from which `restore` continues exactly."""
        columns = (self.sizes, self.peaks, self.clear, self.x, self.P)
        numbers = b"".join(one.tobytes() for one in columns)
        ids, seen_us = self.ids.tolist(), self.seen_us.tolist()
        return _encoder.encode(
            _Stored(
                self.at_us, ids, seen_us, self.last_us.tobytes(), self.outside.tobytes(), numbers
            )
        )

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = _decoder.decode(state)
        n = len(was.ids)
        sizes = np.array([1, KEYPOINTS, RECENT * len(POSTURES), KEYPOINTS * 4, KEYPOINTS * 16]) * n
        numbers, last_us = np.frombuffer(was.numbers).copy(), np.frombuffer(was.last_us, np.int64)
        if len(numbers) != sizes.sum() or len(last_us) != sizes[1] or len(was.seen_us) != n:
            raise ValueError(f"{len(numbers)} numbers of {n} people; expected {sizes.sum()}")
        self.at_us = was.at_us
        self.ids, self.seen_us = np.array(was.ids, np.int64), np.array(was.seen_us, np.int64)
        self.last_us = last_us.reshape(n, KEYPOINTS).copy()
        self.outside = np.frombuffer(was.outside, bool).reshape(n, KEYPOINTS).copy()
        self.sizes, peaks, clear, x, P = np.split(numbers, np.cumsum(sizes)[:-1])
        self.peaks, self.clear = (
            peaks.reshape(n, KEYPOINTS),
            clear.reshape(n, RECENT, len(POSTURES)),
        )
        self.x, self.P = x.reshape(n, KEYPOINTS, 4), P.reshape(n, KEYPOINTS, 4, 4)
