"""How many people are in each zone whom the tracker does not follow. Pure.

A person who is followed from the edge of the picture on was seen from the beginning. One whose
track begins in the middle of the picture was there before without being detected. The share of such
tracks says how many people are missed: `RATIO` times this share, of those who are followed. They
are where people are, so that a zone has that part of the number of its people so far, on average,
unseen. The number has a Poisson distribution.
"""

from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from streamvis.messages import Array
from streamvis.stages.zones.observed import Observed

RATIO = 0.6  # unseen people over followed ones, where all tracks begin in the middle
KNOWN, MIDWAY = 2.0, 0.6  # tracks that are taken to have begun, and in the middle, at first
SIDE, LOWER = 0.25, 0.1  # distance of a box from the edges in its heights, from which on a track
# begins in the middle: people come into the picture at its sides or with their feet first
START_US = 500_000  # who is there when the media begin has not come from anywhere


class Unseen(msgspec.Struct, array_like=True):
    """What is known of the tracks of a stream epoch and of its zones, by number of the machine."""

    newest: int = 0  # highest number of a track that was seen
    from_us: int | None = None  # of the first detection
    begun: float = KNOWN
    midway: float = MIDWAY
    means: dict[int, tuple[int, int, float, float]] = {}  # by zone: since when and until when it
    # is known, people then, and people times µs until then

    def keep(self, zones: Collection[int]) -> None:
        """Forget the zones that are no longer there."""
        self.means = {zone: known for zone, known in self.means.items() if zone in zones}

    def see(self, observed: Observed) -> None:
        """Take in the tracks that are new in a frame."""
        if not len(observed.ids) or observed.ids[-1] <= self.newest:
            return
        if self.from_us is None:
            self.from_us = int(observed.first_us.min())
        new = (observed.ids > self.newest) & (observed.first_us > self.from_us + START_US)
        self.newest = int(observed.ids[-1])
        x1, y1, x2, y2 = observed.boxes[new].T
        width, height = observed.size
        far = np.minimum(x1, width - x2) > SIDE * (y2 - y1)
        far &= height - y2 > LOWER * (y2 - y1)
        self.begun += len(far)
        self.midway += int(far.sum())

    def expect(self, zones: Sequence[int], people: Array, now_us: int) -> Array:
        """Return the expected number (Z,) of unseen people, where `people` (Z,) are expected."""
        found = np.empty(len(zones))
        for i, (zone, now) in enumerate(zip(zones, people.tolist(), strict=True)):
            from_us, until_us, before, total = self.means.get(zone, (now_us, now_us, now, 0.0))
            total += before * (now_us - until_us)
            self.means[zone] = (from_us, now_us, now, total)
            found[i] = total / (now_us - from_us) if now_us > from_us else now
        return RATIO * self.midway / self.begun * found
