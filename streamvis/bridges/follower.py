"""Reads a log from a place on, while a run writes it, replaces it, or has not begun it.

The log is opened for each reading, so that no reader keeps a run from closing it, and a log that
takes the place of another one is found.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from streamvis.bridges.place import Place, digest_of
from streamvis.errors import DataError
from streamvis.events.log import LogReader, Row
from streamvis.events.log_schema import emitted_us
from streamvis.events.topics import SYSTEM

PATIENCE_S = 5.0  # a log that is just being made, or closed, cannot be read for a moment


class Reading(NamedTuple):
    """What the log holds after a place."""

    rows: list[tuple[int, Row]]  # in order of commit, with their numbers
    evicted: int = 0  # events before them that the log does not hold any more
    ended: bool = False  # the run had ended before these were read
    replaced: bool = False  # it is another log than that of the place


class LogFollower:
    """Reads the events after a place."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._now = now
        self._unreadable_since: float | None = None

    def read(self, place: Place, count: int) -> Reading | None:
        """Return up to `count` events after the place; None while there is no log.

        DataError when the file has not been readable as a log for some seconds.
        """
        if not self.path.is_file():
            return None
        try:
            with LogReader(self.path) as log:
                cursors = [one for one in log.cursors().values() if one.source != SYSTEM]
                ended = bool(cursors) and all(one.ending for one in cursors)
                reading = after(place, log.numbered(place.number, count + 1), ended=ended)
                if reading.replaced:
                    reading = reading._replace(rows=log.numbered(0, count))
        except DataError:
            now = self._now()
            if self._unreadable_since is None:
                self._unreadable_since = now
            if now - self._unreadable_since > PATIENCE_S:
                raise
            return None
        self._unreadable_since = None
        return reading

    def lag(self, place: Place) -> tuple[int, float]:
        """Return how many events come after the place, and the age of the oldest in seconds."""
        try:
            with LogReader(self.path) as log:
                reading = after(place, log.numbered(place.number, 2), ended=False)
                rows = log.numbered(0, 1) if reading.replaced else reading.rows
                newest = log.newest()
        except DataError:
            return 0, 0.0
        if not rows:
            return 0, 0.0
        number, row = rows[0]
        emit_us = emitted_us(row.payload)
        age_s = time.time() - emit_us / 1e6 if emit_us else 0.0
        return newest - number + 1, max(0.0, age_s)


def after(place: Place, rows: list[tuple[int, Row]], *, ended: bool) -> Reading:
    """Return what follows the place among the rows from its number on."""
    if place.number == 0:
        return Reading(rows, ended=ended)
    if not rows:  # it ends before the place
        return Reading([], ended=ended, replaced=True)
    (first, row), *others = rows
    if first > place.number:
        return Reading(rows, evicted=first - place.number - 1, ended=ended)
    if digest_of(row) != place.digest:
        return Reading([], ended=ended, replaced=True)
    return Reading(others, ended=ended)
