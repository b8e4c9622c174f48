"""Gaps: pictures of a source that no stage gets, counted by reason."""

import msgspec

from streamvis.messages import Notice
from streamvis.sources.picture import Picture

INTERVAL_S = 1.0  # between two notices of gaps for one reason


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Pictures that are missing for one reason, in a range of picture numbers."""

    reason: str  # overload, drained: decoded, then dropped; skipped: not decoded, since the stages
    # are too slow; decode: could not be decoded;
    # poison: given up, since workers died while processing it; lost: given up, since its pixels
    # were gone with the process or node that decoded it
    count: int
    first_n: int
    last_n: int


def notice_of(gap: Gap, source: str, media_us: int) -> Notice:
    """Return the notice of a gap after the frame at `media_us`."""
    return Notice(
        source=source,
        kind="gap",
        media_us=media_us,
        first_n=gap.first_n,
        last_n=gap.last_n,
        reason=gap.reason,
        count=gap.count,
    )


class GapCounter:
    """Gaps since the last `take`, one for each reason, as a decode process counts them."""

    def __init__(self, next_n: int = 0) -> None:
        self._next_n = next_n
        self._gaps: dict[str, Gap] = {}

    def note(self, picture: Picture, skipped: int = 0) -> None:
        """Count the missing numbers before this picture.

        So many of them were skipped, and the others could not be decoded.
        """
        lost = max(picture.n - self._next_n - skipped, 0)
        if lost:
            self.add("decode", self._next_n, self._next_n + lost - 1)
        if picture.n - lost > self._next_n:
            self.add("skipped", self._next_n + lost, picture.n - 1)
        self._next_n = picture.n + 1

    def add(self, reason: str, first_n: int, last_n: int) -> None:
        count = last_n - first_n + 1
        if before := self._gaps.get(reason):
            first_n, count = before.first_n, before.count + count
        self._gaps[reason] = Gap(reason, count, first_n, last_n)

    def take(self) -> list[Gap]:
        gaps, self._gaps = list(self._gaps.values()), {}
        return gaps


class GapNotices(msgspec.Struct, eq=False):
    """Gaps that the stages have no notice of yet: one notice a second for each reason."""

    unreported: dict[str, Gap] = {}  # by reason
    reported_s: dict[str, float] = {}  # by reason: time of the last notice

    def add(self, gap: Gap) -> None:
        if before := self.unreported.get(gap.reason):
            gap = Gap(
                gap.reason,
                before.count + gap.count,
                min(before.first_n, gap.first_n),
                max(before.last_n, gap.last_n),
            )
        self.unreported[gap.reason] = gap

    def due_s(self) -> float:
        """Return the time from which `take` returns something."""
        return min((self._due_s(reason) for reason in self.unreported), default=float("inf"))

    def take(self, now_s: float) -> list[Gap]:
        """Return the gaps whose notice is due by now, and mark them as reported."""
        if not self.unreported:
            return []
        due = [reason for reason in self.unreported if now_s >= self._due_s(reason)]
        self.reported_s |= dict.fromkeys(due, now_s)
        return [self.unreported.pop(reason) for reason in due]

    def take_all(self) -> list[Gap]:
        gaps, self.unreported = list(self.unreported.values()), {}
        return gaps

    def _due_s(self, reason: str) -> float:
        return self.reported_s.get(reason, -INTERVAL_S) + INTERVAL_S
