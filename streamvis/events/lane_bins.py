"""Counts of lanes by time: how much began, how many there were at once, how many events. Pure.

An hour of a lane is an array (3, 3600) of seconds with rows BEGINS, MOST, EVENTS; coarser bins
follow from it by sums and maxima.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from streamvis.events.lanes import LaneChange

Counts = NDArray[np.int32]  # (3, bins)
BEGINS, MOST, EVENTS = range(3)
SECOND_US, HOUR_S = 1_000_000, 3600
HOUR_US = HOUR_S * SECOND_US


class LaneHour:
    """The counts of one lane in the hour that its events have reached."""

    def __init__(self, open_: int = 0, counts: Counts | None = None, second: int = 0) -> None:
        self.open = open_  # spans that are open now
        self._counts = np.zeros((3, HOUR_S), np.int32) if counts is None else counts
        self._second = second  # up to which `_counts` has been filled
        self._opened = open_  # spans that were open then
        self._cells: dict[int, list[int]] = {}  # by second: begins, most, events, open at its end

    def take(self, change: LaneChange) -> None:
        """Add an event of this hour, not earlier than the one before."""
        second = change.at_us % HOUR_US // SECOND_US
        cell = self._cells.get(second)
        if cell is None:
            cell = self._cells[second] = [0, self.open, 0, self.open]
        self.open += change.open
        cell[BEGINS] += change.begins
        cell[MOST] = max(cell[MOST], self.open)
        cell[EVENTS] += change.events
        cell[3] = self.open

    def counts(self, second: int) -> Counts:
        """Return the seconds of the hour, filled up to `second`, this included."""
        counts = self._counts
        if self._opened:
            start = counts[MOST, self._second : self._second + 1]
            np.maximum(start, self._opened, out=start)
        if self._cells:
            at = np.fromiter(self._cells, np.int64)
            found = np.array(list(self._cells.values()), np.int32).T  # (4, cells)
            counts[BEGINS, at] += found[BEGINS]
            counts[EVENTS, at] += found[EVENTS]
            starts = np.append(self._second, at) + 1  # of stretches without an event
            levels = np.append(self._opened, found[3])
            lengths = np.diff(np.append(starts, second + 1)).clip(0)
            counts[MOST, starts[0] : second + 1] = np.repeat(levels, lengths)
            counts[MOST, at] = np.maximum(counts[MOST, at], found[MOST])
        elif self._opened:
            counts[MOST, self._second + 1 : second + 1] = self._opened
        self._second, self._opened, self._cells = second, self.open, {}
        return counts

    @property
    def is_dull(self) -> bool:
        """Whether nothing is open and nothing has come since `counts` was called."""
        return not self.open and not self._opened and not self._cells


def coarser(counts: Counts, factor: int) -> Counts:
    """Return bins that are `factor` times as wide; their number has to divide."""
    parts = counts.reshape(3, -1, factor)
    found = parts.sum(2, dtype=np.int32)
    found[MOST] = parts[MOST].max(1)
    return found


def binned(
    changes: Sequence[LaneChange], open_: int, first_us: int, bin_us: int, bins: int
) -> Counts:
    """Return the counts of changes in order of time; `open_` spans were open before the first.

    Changes before `first_us` only say what is open there; those after the last bin are left out.
    """
    found = np.zeros((3, bins), np.int32)
    at = np.array([change.at_us for change in changes], np.int64)
    levels = open_ + np.cumsum([0, *(change.open for change in changes)])
    places = (at - first_us) // bin_us
    inside = (places >= 0) & (places < bins)
    for row, values in (
        (BEGINS, [c.begins for c in changes]),
        (EVENTS, [c.events for c in changes]),
    ):
        np.add.at(found[row], places[inside], np.array(values, np.int32)[inside])
    starts = first_us + bin_us * np.arange(bins)
    found[MOST] = levels[np.searchsorted(at, starts)]  # what is open as the bin begins
    np.maximum.at(found[MOST], places[inside], levels[1:][inside].astype(np.int32))
    return found


def joined(parts: Iterable[tuple[int, Counts]], first: int, factor: int, bins: int) -> Counts:
    """Return `bins` bins from `first` on, each of `factor` smaller ones, out of parts.

    A part has the number of its first small bin before it; `first` is counted in wide bins. What
    no part covers is 0.
    """
    found = np.zeros((3, bins), np.int32)
    for begin, counts in parts:
        places = (begin + np.arange(counts.shape[1])) // factor - first
        inside = (places >= 0) & (places < bins)
        for row in (BEGINS, EVENTS):
            np.add.at(found[row], places[inside], counts[row, inside])
        np.maximum.at(found[MOST], places[inside], counts[MOST, inside])
    return found
