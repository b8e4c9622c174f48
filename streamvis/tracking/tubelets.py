"""Tubelets: smoothed crop windows along a track, the input of action recognition.

Jitter of the boxes in position or size would appear as motion to a network that reads motion.
"""

import numpy as np

from streamvis.messages import Array

SETTLE_S = np.array([0.15, 0.15, 0.6, 0.6])  # time constants of centre x, y and of width, height
FORGET_S = 1.0  # gap after which the smoothing restarts
STAY = 1.25  # ratio of heights at which another track replaces a selected one


class Tubelet:
    """The box of a track, smoothed over media time independently of the frame rate."""

    def __init__(self, box: Array, media_us: int) -> None:
        self.at_us = media_us
        self.seen = _centred(box)  # (4,) centre x, y, width, height in px
        self.smooth = self.seen.copy()

    def follow(self, box: Array, media_us: int) -> None:
        """Update with the box (4,) xyxy px: a first-order lag of the line from the last box.

        y' = (x − y) / τ with x = x₁ − r·(t₁ − t) has y₁ = x₁ − r·τ + (y₀ − x₀ + r·τ)·e^(−Δt/τ).
        """
        now = _centred(box)
        seconds = (media_us - self.at_us) / 1e6
        if not 0 < seconds < FORGET_S:
            self.smooth = now.copy()
        else:
            lag = (now - self.seen) / seconds * SETTLE_S
            fade = np.exp(-seconds / SETTLE_S)
            self.smooth = now - lag + (self.smooth - self.seen + lag) * fade
        self.seen, self.at_us = now, media_us

    @property
    def height(self) -> float:
        """Height of the smoothed box in px."""
        return float(self.smooth[3])

    def window(self, context: float, size: tuple[int, int], frame: tuple[int, int]) -> Array:
        """Return the crop window (4,) xyxy px around the person, with the aspect of `size` (h, w).

        Its smaller side is `context` times the larger of the person's. It stays within the frame,
        of `frame` (width, height) px: it is moved inside, and no larger than fits.
        """
        side = context * max(self.smooth[2], self.smooth[3])
        whole = side / min(size) * np.array(size[::-1])
        half = whole * min(1.0, *(frame / whole)) / 2
        centre = np.clip(self.smooth[:2], half, frame - half)
        return np.concatenate([centre - half, centre + half])

    def state(self) -> list[float]:
        """Return the numbers that `resume` restores."""
        return [*self.seen.tolist(), *self.smooth.tolist()]

    @classmethod
    def resume(cls, state: list[float], media_us: int) -> "Tubelet":
        """Restore a tubelet from `state`; raises ValueError if it is invalid."""
        values = np.array(state, np.float64)
        if values.shape != (8,) or not np.isfinite(values).all():
            raise ValueError(f"a tubelet is 8 finite numbers, not {len(values)}")
        made = cls(np.zeros(4), media_us)
        made.seen, made.smooth = values[:4], values[4:]
        return made


def watched(heights: dict[int, float], already: set[int], most: int, least: float) -> set[int]:
    """Select the `most` tallest tracks of at least `least` px.

    A selected track stays until another is taller by the factor STAY; ties go to the lower id.
    """
    tall = {id_: height for id_, height in heights.items() if height >= least}
    worth = {id_: height * (STAY if id_ in already else 1) for id_, height in tall.items()}
    return set(sorted(worth, key=lambda id_: (-worth[id_], id_))[:most])


def _centred(box: Array) -> Array:
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
