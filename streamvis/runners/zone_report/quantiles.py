"""Quantiles of times in constant memory: a histogram whose bins have one relative width.

Masson, Rim and Lee, DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees, VLDB 2019. A value can also be taken out again.
"""

from collections import Counter
from math import ceil, floor, log

ERROR = 0.01  # largest relative error of a quantile
_GAMMA = (1 + ERROR) / (1 - ERROR)
_LOG_GAMMA = log(_GAMMA)
SHORTEST_S = 1e-3  # shorter times are of one bin, whose value is 0
LONGEST_S = 1e9


class TimeHistogram:
    """Counts times, s, in bins; about 1400 of them at most."""

    def __init__(self) -> None:
        self._counts: Counter[int | None] = Counter()  # bin -> times; None: below SHORTEST_S
        self._largest: float | None = None  # exact, unless it was taken out again
        self.total_s = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a time; `times` −1 takes one out that was counted."""
        if not seconds >= 0:  # nor NaN
            return
        seconds = min(seconds, LONGEST_S)
        if times > 0 and seconds > (self._top() if self._largest is None else self._largest):
            self._largest = seconds
        elif times < 0 and seconds == self._largest:
            self._largest = None  # others of the same length may be left
        place = _bin(seconds)
        self._counts[place] += times
        if not self._counts[place]:
            del self._counts[place]
        self.total_s += times * seconds

    @property
    def count(self) -> int:
        """How many times are counted."""
        return max(sum(self._counts.values()), 0)

    def quantile(self, share: float) -> float | None:
        """Return the value at this share of the times, ±1 %; None without any.

        It is the lower of two values between which the share lies, as `method="lower"` of
        numpy.quantile.
        """
        bins = sorted(+self._counts, key=_value)
        rank, below = floor(share * (self.count - 1) + 1e-9), 0
        for place in bins:
            below += self._counts[place]
            if below > rank:
                return _value(place)
        return None

    @property
    def largest(self) -> float | None:
        """The longest time: exact, or ±1 % after a longest one was taken out; None without any."""
        if not self.count:
            return None
        return self._top() if self._largest is None else self._largest

    def _top(self) -> float:
        """Return the value of the highest bin; below all times without any."""
        return max(map(_value, +self._counts), default=-1.0)


def _bin(seconds: float) -> int | None:
    return None if seconds < SHORTEST_S else ceil(log(seconds) / _LOG_GAMMA)


def _value(place: int | None) -> float:
    """Return the value whose relative distance to both ends of the bin is the same."""
    return 0.0 if place is None else 2 * _GAMMA**place / (_GAMMA + 1)
