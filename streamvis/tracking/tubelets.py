"""Where to look for what a person does: a window that glides along with the track.

A box that trembles or breathes would look like motion to a network that looks for motion.
"""

import numpy as np

from streamvis.messages import Array

SETTLE_S = np.array([0.15, 0.15, 0.6, 0.6])  # time constants of centre x, y and of width, height
FORGET_S = 1.0  # a track unseen for so long is looked at where it is, not where it was
STAY = 1.25  # how much taller another has to be to take the place of one who is looked at


class Tubelet:
    """A track's box, smoothed over media time: what it does depends on no frame rate."""

    def __init__(self, box: Array, media_us: int) -> None:
        self.at_us = media_us
        self.seen = _centred(box)  # (4,) centre x, y, width, height in px
        self.smooth = self.seen.copy()

    def follow(self, box: Array, media_us: int) -> None:
        """The box (4,) xyxy px now: a first-order lag of the straight line from the last one.

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
        """Pixels."""
        return float(self.smooth[3])

    def window(self, context: float, size: tuple[int, int]) -> Array:
        """(4,) xyxy px around the person, of the shape of `size` (h, w).

        Its smaller side is `context` times the larger of the person's.
        """
        side = context * max(self.smooth[2], self.smooth[3])
        half = side / min(size) * np.array(size[::-1]) / 2
        return np.concatenate([self.smooth[:2] - half, self.smooth[:2] + half])

    def state(self) -> list[float]:
        return [*self.seen.tolist(), *self.smooth.tolist()]

    @classmethod
    def resume(cls, state: list[float], media_us: int) -> "Tubelet":
        """What `state` gave; ValueError when it is something else."""
        values = np.array(state, np.float64)
        if values.shape != (8,) or not np.isfinite(values).all():
            raise ValueError(f"a tubelet is 8 finite numbers, not {len(values)}")
        made = cls(np.zeros(4), media_us)
        made.seen, made.smooth = values[:4], values[4:]
        return made


def watched(heights: dict[int, float], already: set[int], most: int, least: float) -> set[int]:
    """Whom to look at: of those at least `least` px tall the `most` tallest.

    Who is looked at already stays until another is clearly taller; ties go to the elder id.
    """
    tall = {id_: height for id_, height in heights.items() if height >= least}
    worth = {id_: height * (STAY if id_ in already else 1) for id_, height in tall.items()}
    return set(sorted(worth, key=lambda id_: (-worth[id_], id_))[:most])


def _centred(box: Array) -> Array:
    x1, y1, x2, y2 = np.asarray(box, np.float64)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
