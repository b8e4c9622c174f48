"""Time stamps of recorded packets: as the camera sends them where they can be right."""

from fractions import Fraction
from typing import NamedTuple

STILL = 3  # packets in a row with one stamp, from which it counts as missing
JITTER_S = 1.0  # steps back by less are out of order; further back, the stamps began anew
LEAP_S = 3600.0  # a larger step in a file is a fault of its stamps
REORDERED_S = 10.0  # a packet is decoded at most this long before it is shown


class Times(NamedTuple):
    """The times of a packet, in ticks of its stream."""

    dts: int  # of decoding, strictly increasing
    pts: int  # of presentation, at least dts
    duration: int


class Restamper:
    """Derives strictly increasing times from stamps that may be missing, repeated or reset.

    A step from one stamp to the next is used if it goes forward, in a live stream by not much more
    than the time between their arrivals. Otherwise that time replaces it, in a file the nominal
    duration, and later stamps count from there. So one wrong stamp costs nothing, and after
    a reset the times stay near real time.
    """

    def __init__(self, time_base: Fraction, *, live: bool) -> None:
        self._per_s = float(1 / time_base)  # ticks
        self._live = live
        self._last: int | None = None  # dts
        self._shift: int | None = None  # stamp − time
        self._stamp: int | None = None  # the last one
        self._repeated = 0  # repetitions of it in a row
        self._arrived_s = 0.0
        self._interval = max(1, round(self._per_s / 25))  # the last step that was used

    def __call__(
        self, dts: int | None, pts: int | None, duration: int, now_s: float, start: int = 0
    ) -> Times:
        """Return the times of the next packet; `now_s`: its arrival, `start`: of the first one."""
        stamp = pts if dts is None else dts
        time = start if self._last is None else self._next(self._last, stamp, duration, now_s)
        if stamp is not None and (self._shift is None or self._last is None):
            self._shift = stamp - time
        self._last, self._arrived_s = time, now_s
        shown = time
        if dts is not None and pts is not None and self._shift is not None:
            ahead = pts - dts
            if 0 <= ahead <= REORDERED_S * self._per_s:
                shown = max(time, pts - self._shift)
        return Times(time, shown, self._duration(duration))

    def _next(self, last: int, stamp: int | None, duration: int, now_s: float) -> int:
        elapsed = max(0, round((now_s - self._arrived_s) * self._per_s))
        unknown = last + max(1, elapsed if self._live else self._duration(duration))
        if stamp is None:
            return unknown
        self._repeated = self._repeated + 1 if stamp == self._stamp else 0
        self._stamp = stamp
        if self._shift is None:
            return unknown
        step = stamp - self._shift - last
        jitter = max(JITTER_S * self._per_s, 3 * self._interval)
        most = elapsed + jitter if self._live else LEAP_S * self._per_s
        if 0 < step <= most:
            self._interval = step
            return last + step
        if -jitter < step <= 0 and self._repeated < STILL:
            return last + 1
        self._shift = stamp - unknown
        return unknown

    def _duration(self, declared: int) -> int:
        return declared if 0 < declared <= REORDERED_S * self._per_s else self._interval
