"""Does the camera move, or does it stand? Said from its motions so far, with hysteresis.

    state = CameraState(width=960, height=540)
    state = state.update(motion, dt_s)  # for each frame, in order
    state.moving

Motions add up to a drift that is forgotten within seconds: a camera that goes somewhere drifts far,
one that shakes about its place does not, and errors of the estimates hardly. Where frames are few,
a camera carried about leaps from one to the next, to and fro; leaps are counted too. Distances are
in shares of the picture's diagonal, so neither resolution nor frame rate matter.
"""

import math

import msgspec
import numpy as np

from streamvis.messages import Array, Motion

MEMORY_S = 2.0  # the drift is forgotten by 1/e in this time
START = 0.012  # diagonals of drift from which the camera moves: 0.6 % a second, steadily
STOP = 0.004  # and under which it stands,
STOP_S = 5.0  # once it has been so for this long
LEAPS = 2.0  # motions over more than START, within about MEMORY_S, that no shaking explains
STEP = 0.005  # diagonals that one motion counts for at most: a wrong one or two prove nothing


class CameraState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a camera: an immutable value that msgspec encodes exactly."""

    width: int  # px of the source that the motions are in
    height: int
    moving: bool = False
    drift: tuple[float, ...] = (0.0,) * 8  # diagonals: x, y for each corner of the picture
    leaps: float = 0.0  # how many motions were large, forgotten like the drift
    quiet_s: float = 0.0  # for how long the drift has been small

    def update(self, motion: Motion, dt_s: float) -> "CameraState":
        """The state after a frame that came `dt_s` after the one before it."""
        if motion.support == 0:  # nothing was seen, so nothing has changed
            return self
        dt_s = max(0.0, dt_s)
        fade = math.exp(-dt_s / MEMORY_S)
        step = self._step(motion.warp)
        size = _size(step)
        drift = fade * np.reshape(self.drift, (4, 2)) + step * (STEP / max(size, STEP))
        leaps = fade * self.leaps + (size > START)
        far = _size(drift)
        quiet_s = 0.0 if max(far, size) > STOP else self.quiet_s + dt_s
        moved = far > START or leaps > LEAPS
        return msgspec.structs.replace(
            self,
            moving=moved or (self.moving and quiet_s < STOP_S),
            drift=tuple(drift.ravel().tolist()),
            leaps=leaps,
            quiet_s=quiet_s,
        )

    def resize(self, width: int, height: int) -> "CameraState":
        """The same camera, now with pictures of another size."""
        return msgspec.structs.replace(self, width=width, height=height)

    def _step(self, warp: Array) -> Array:
        """How far (4, 2) the corners of the picture went, in diagonals."""
        w, h = self.width, self.height
        corners = np.array([[0, 0], [w, 0], [0, h], [w, h]], dtype=np.float64)
        return (corners @ warp[:, :2].T + warp[:, 2] - corners) / math.hypot(w, h)


def _size(corners: Array) -> float:
    """The root mean square length of (4, 2) displacements."""
    return math.sqrt(float((corners**2).sum(axis=1).mean()))
