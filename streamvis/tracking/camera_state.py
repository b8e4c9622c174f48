"""A moving or a fixed camera: decided from its motions so far, with hysteresis.

    state = CameraState(width=960, height=540)
    state = state.update(motion, dt_s)  # for each frame, in order
    state.moving

Motions are summed to a drift that decays within seconds: it is large for a travelling camera, small
for one that shakes in place and for estimation errors. At low frame rates a hand-held camera jumps
between frames, so large motions are counted as well. Distances are in shares of the frame's
diagonal, so that neither resolution nor frame rate matter.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from streamvis.messages import Array, Motion

MEMORY_S = 2.0  # time constant of the decay of the drift
START = 0.012  # diagonals of drift that start "moving": 0.6 % a second, steadily
STOP = 0.004  # diagonals of drift below which the camera is fixed,
STOP_S = 5.0  # after this time
LEAPS = 2.0  # motions above START within about MEMORY_S that start "moving"
STEP = 0.005  # diagonals, the most that one motion adds: single outliers have no effect
MOST_SCALE = 10.0  # a picture scaled by more from one frame to the next shows another scene


class CameraState(msgspec.Struct, frozen=True, kw_only=True):
    """The motion state of one camera, an immutable value that msgspec encodes exactly."""

    width: int  # px of the source frames
    height: int
    moving: bool = False
    drift: tuple[float, ...] = (0.0,) * 8  # diagonals: x, y for each corner of the picture
    leaps: float = 0.0  # number of large motions, decaying like the drift
    quiet_s: float = 0.0  # time since the drift became small

    def update(self, motion: Motion, dt_s: float) -> "CameraState":
        """Return the state after a frame that is `dt_s` later than the one before it."""
        if motion.support == 0:  # unknown motion
            return self
        dt_s = max(0.0, dt_s)
        fade = math.exp(-dt_s / MEMORY_S)
        step = self._step(motion.warp)
        size = _size(step)
        share = STEP / max(size, STEP)
        drift = tuple(fade * was + share * one for was, one in zip(self.drift, step, strict=True))
        leaps = fade * self.leaps + (size > START)
        far = _size(drift)
        quiet_s = 0.0 if max(far, size) > STOP else self.quiet_s + dt_s
        moved = far > START or leaps > LEAPS
        return msgspec.structs.replace(
            self,
            moving=moved or (self.moving and quiet_s < STOP_S),
            drift=drift,
            leaps=leaps,
            quiet_s=quiet_s,
        )

    def resize(self, width: int, height: int) -> "CameraState":
        """Return the state for frames of another size of the same camera."""
        return msgspec.structs.replace(self, width=width, height=height)

    def _step(self, warp: Array) -> list[float]:
        """Return the displacements x, y of the frame's four corners in diagonals."""
        (a, b, right), (c, d, down) = warp.tolist()
        w, h = self.width, self.height
        scale = 1 / math.hypot(w, h)
        corners = ((0, 0), (w, 0), (0, h), (w, h))
        moved = [(a * x + b * y + right - x, c * x + d * y + down - y) for x, y in corners]
        return [scale * one for point in moved for one in point]


def credible(warp: Array) -> bool:
    """Whether a warp (2, 3) can be a camera's motion: finite, invertible and not mirrored."""
    if warp.shape != (2, 3) or not np.isfinite(warp).all():
        return False
    (a, b, _), (c, d, _) = warp.tolist()
    turned, mirrored = math.hypot(a + d, c - b), math.hypot(a - d, c + b)
    largest, smallest = (turned + mirrored) / 2, (turned - mirrored) / 2  # singular values
    return smallest >= 1 / MOST_SCALE and largest <= MOST_SCALE  # smallest < 0: mirrored


def _size(corners: Sequence[float]) -> float:
    """Return the root mean square length of the displacements x, y of four corners."""
    return math.sqrt(sum(one * one for one in corners) / 4)
