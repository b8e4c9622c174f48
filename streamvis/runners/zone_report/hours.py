"""The hour in which something was: by the wall clock where it is known, else by media time."""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

HOUR_US = 3_600_000_000
JUMP_US = 1_000_000  # a smaller change of the difference between the clocks is jitter
MOST = 10_000  # changes of the difference that are remembered
LONGEST_US = 366 * 24 * HOUR_US  # of an interval; of a longer one, the end


class Hour(NamedTuple):
    """An hour of one of the two clocks."""

    clock: str  # `capture`: wall clock of the pictures; `media`: time in the video
    number: int  # since 1970, or since the beginning of the video

    @property
    def name(self) -> str:
        """`2026-11-29T08:00Z`, or hours of media time, `2:00`."""
        if self.clock == "media":
            return f"{self.number}:00"
        begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=self.number)
        return begin.strftime("%Y-%m-%dT%H:00Z")


class HourClock:
    """Finds the hours of the media times of one source in one stream epoch.

    The difference between both clocks is that of the frames. It is remembered from which media
    time on it was so, so that a correction finds the hour in which an event was counted.
    """

    def __init__(self) -> None:
        self._since_us: list[int] = []
        self._ahead_us: list[int] = []  # capture time − media time

    def learn(self, media_us: int, capture_us: int) -> None:
        """Take both times of a frame; 0 as capture time: unknown."""
        if not capture_us:
            return
        ahead_us = capture_us - media_us
        if self._ahead_us and abs(ahead_us - self._ahead_us[-1]) <= JUMP_US:
            return
        self._since_us.append(media_us)
        self._ahead_us.append(ahead_us)
        del self._since_us[:-MOST], self._ahead_us[:-MOST]

    def hour(self, media_us: int) -> Hour:
        """Return the hour of a media time."""
        if not self._ahead_us:
            return Hour("media", media_us // HOUR_US)
        return Hour("capture", (media_us + self._ahead_us[self._index(media_us)]) // HOUR_US)

    def pieces(self, start_us: int, end_us: int) -> Iterator[tuple[Hour, float]]:
        """Yield the hours of an interval, and the seconds of it in each."""
        start_us = max(start_us, end_us - LONGEST_US)
        while start_us < end_us:
            until_us = min(end_us, self._next_us(start_us))
            yield self.hour(start_us), (until_us - start_us) / 1e6
            start_us = until_us

    def _index(self, media_us: int) -> int:
        return max(bisect_right(self._since_us, media_us) - 1, 0)

    def _next_us(self, media_us: int) -> int:
        """Return the media time of the next full hour, or of the next change of the clock."""
        if not self._ahead_us:
            return (media_us // HOUR_US + 1) * HOUR_US
        i = self._index(media_us)
        ahead_us = self._ahead_us[i]
        full_us = ((media_us + ahead_us) // HOUR_US + 1) * HOUR_US - ahead_us
        later = [since_us for since_us in self._since_us[i : i + 2] if since_us > media_us]
        return min(full_us, *later) if later else full_us
