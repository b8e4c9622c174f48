"""How many pictures of each source were not analysed in the last minute. Pure."""

from collections import Counter, deque
from collections.abc import Mapping

import msgspec

WINDOW_S = 60.0
STEP_S = 2.0  # between two counts that are kept
TAKEN = "admitted"  # the name of pictures that were not lost

Counts = Mapping[str, Mapping[str, int]]  # of pictures so far, by source, then TAKEN or why not


class RecentPictures(msgspec.Struct, frozen=True):
    """The pictures of a source in the last minute, or since the run began."""

    taken: int
    lost: dict[str, int]  # by reason: those of `dropped`, and `skipped`


class RecentCounts:
    """Remembers the counts of the last minute."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Counts]] = deque()

    def update(self, at: float, counts: Counts) -> dict[str, RecentPictures]:
        """Return what has come in the last minute, by source."""
        while len(self._kept) > 1 and self._kept[1][0] <= at - WINDOW_S:
            self._kept.popleft()
        before = self._kept[0][1] if self._kept else {}
        if not self._kept or at - self._kept[-1][0] >= STEP_S:
            self._kept.append((at, counts))
        return {name: _since(before.get(name, {}), now) for name, now in counts.items()}


def _since(before: Mapping[str, int], now: Mapping[str, int]) -> RecentPictures:
    new = Counter(now) - Counter(before)  # nothing below 0: a source may have been added anew
    return RecentPictures(new.pop(TAKEN, 0), dict(new))
