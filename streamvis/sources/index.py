"""The media times of a video file without decoding it, for files whose time stamps are in order.

    index = VideoIndex(packets, zero)

Such a file has one packet for each picture, each with a stamp of presentation of its own, and no
step between them that media time would not follow. The media time of a picture is then its stamp
minus the first one's, as `MediaClock` has it. Of other files media times are only known by
decoding all of them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from fractions import Fraction
from heapq import heappop, heappush

from av.packet import Packet
from av.video.stream import VideoStream

from streamvis.sources.timestamps import LEAP_US

REORDERED = 32  # packets after which no picture comes that is shown earlier


class DisorderError(Exception):
    """The time stamps of a file are not in order, so that its index says nothing."""


class KeyFrames:
    """The key frames of a file, by the stamps of their pictures."""

    def __init__(self) -> None:
        self.starts: dict[int, int] = {}  # stamp by which each is sought
        self._stamps: list[int] = []

    def add(self, stamp: int, start: int) -> None:
        """Add the next one; DisorderError where it is shown before the last."""
        if self._stamps and stamp <= self._stamps[-1]:
            raise DisorderError
        self._stamps.append(stamp)
        self.starts[stamp] = start

    def before(self, stamp: int, back: int = 0) -> int | None:
        """Return the last one that is shown at or before a stamp, or one `back` before it."""
        place = bisect_right(self._stamps, stamp) - 1 - back
        return self._stamps[place] if place >= 0 else None


class LearnedIndex:
    """The stamps and media times of pictures that were decoded in order."""

    def __init__(self) -> None:
        self.keys = KeyFrames()
        self.usable = True  # whether stamps grow, so that pictures are found by them
        self._times: list[int] = []
        self._stamps: list[int] = []

    def add(self, media_us: int, stamp: int | None, *, key: bool) -> None:
        """Add a picture; one that is there already changes nothing."""
        if not self.usable or (self._times and media_us <= self._times[-1]):
            return
        if stamp is None or (self._stamps and stamp <= self._stamps[-1]):
            self.usable = False
            return
        self._times.append(media_us)
        self._stamps.append(stamp)
        if key:
            self.keys.add(stamp, stamp)

    def at(self, media_us: int) -> tuple[int, int] | None:
        """Return media time and stamp of the picture of a time, or of the newest before it."""
        place = max(0, bisect_right(self._times, media_us) - 1)
        known = self.usable and place < len(self._times)
        return (self._times[place], self._stamps[place]) if known else None


class VideoIndex:
    """The stamps of the pictures of a file in the order in which they are shown."""

    def __init__(self, time_base: Fraction, zero: int, fps: float | None) -> None:
        """`zero` is the stamp of the first picture; with `fps` media times count pictures."""
        self.reordered = False  # whether packets come in another order than pictures are shown
        self.whole = False  # whether all of the file is known
        self.stamps: list[int] = []
        self.keys = KeyFrames()
        self._base = time_base
        self._zero = zero
        self._fps = fps
        self._first: int | None = None  # place of `zero`
        self._held: list[int] = []  # a heap
        self._highest = -(2**63)

    def add(self, packets: Iterable["Packet[VideoStream]"]) -> None:
        """Add the next packets in order of decoding; DisorderError where they are in none."""
        for packet in packets:
            pts = packet.pts
            if pts is None or packet.is_corrupt:
                raise DisorderError
            if packet.is_keyframe:
                self.keys.add(pts, pts if packet.dts is None else packet.dts)
            if packet.is_discard:
                continue
            self.reordered = self.reordered or pts < self._highest
            self._highest = max(self._highest, pts)
            heappush(self._held, pts)
            if len(self._held) > REORDERED:
                self._settle(heappop(self._held))

    def end(self) -> None:
        """Record that there are no more packets."""
        while self._held:
            self._settle(heappop(self._held))
        self.whole = True

    def _settle(self, pts: int) -> None:
        if self.stamps:
            step_us = self._us(pts) - self._us(self.stamps[-1])
            if not 0 < step_us < LEAP_US:
                raise DisorderError
        if pts == self._zero:
            self._first = len(self.stamps)
        elif self._first is None and pts > self._zero:
            raise DisorderError
        self.stamps.append(pts)

    def knows(self, media_us: int) -> bool:
        """Whether the picture of a media time, or the one before it, is known by now."""
        if self.whole:
            return True
        return bool(self.stamps) and self._media_us(len(self.stamps) - 1) > media_us

    def at(self, media_us: int) -> int:
        """Return the place of the picture of a media time, or of the newest before it."""
        first = self._first
        if first is None:
            raise DisorderError
        places = range(first, len(self.stamps))
        return max(first, first + bisect_right(places, media_us, key=self._media_us) - 1)

    def place_of(self, stamp: int) -> int | None:
        """Return the place of the picture with a stamp; None where there is none."""
        place = bisect_left(self.stamps, stamp)
        found = place < len(self.stamps) and self.stamps[place] == stamp
        return place if found else None

    def media_us(self, place: int) -> int:
        """Return the media time of a picture."""
        return self._media_us(place)

    def _media_us(self, place: int) -> int:
        if self._fps is not None:
            return round((place - (self._first or 0)) * 1_000_000 / self._fps)
        return self._us(self.stamps[place]) - self._us(self._zero)

    def _us(self, stamp: int) -> int:
        return round(stamp * self._base * 1_000_000)
