"""Retention: whole hours of a log are evicted, the oldest first, while it is written.

Hours are those in which events were committed (table `hours`), and an hour holds the events of all
sources: they share `keep_days` and `keep_gb`. The newest hour always stays. What is evicted of a
source is thus a prefix of its offsets; its cursor stays, so that its numbers go on even when it was
quiet for so long that none of its events is left.

A thread deletes a few events in each transaction, and rests between them; a commit of the
publisher waits for one of these at most. A kill at any time leaves a log that begins somewhere in
the oldest hour. Evicted bytes are overwritten (`secure_delete`). The file keeps its size and new
events use the space again; `vacuum` returns it to the disk.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from streamvis.errors import RunError
from streamvis.events.log import BUSY_S, LogWriter
from streamvis.logs import warn

LOOK_S = 2.0  # between two looks for hours to evict
AT_ONCE = 250  # events deleted in one transaction
CHECKPOINT = 8  # transactions between two checkpoints: before the writer has to make one
BUSY_SHARE = 0.25  # of the time, at most, that the thread works while there is something to evict
PARTS = 16  # an hour with more than this part of `keep_gb` is divided
ROOM_BYTES = 1 << 20  # free within the file while the disk is full, so that events can be written


class Retention(NamedTuple):
    """For how long, and up to which size, events are kept; None: without such a limit."""

    keep_days: float | None = None
    keep_gb: float | None = None

    def evicted_before(
        self, hours: Sequence[tuple[int, int]], used_bytes: int, now_s: float
    ) -> int | None:
        """Return the id before which events are to be evicted, or None when there are none.

        `hours` has the id of the first event and the number of each hour in the log, by id.
        """
        count = 0
        if self.keep_days is not None:
            last_s = now_s - 86400 * self.keep_days
            ends_s = [3600 * (hour + 1) for hour in _true_hours(hours, int(now_s // 3600))]
            count = sum(end_s <= last_s for end_s in ends_s)
        if self.keep_gb is not None and used_bytes > 1e9 * self.keep_gb * (1 - 1 / PARTS):
            count = max(count, 1)
        count = min(count, len(hours) - 1)
        return hours[count][0] if count > 0 else None


FOREVER = Retention()


def _true_hours(hours: Sequence[tuple[int, int]], now: int) -> list[int]:
    """Return the hours as they must have been, in spite of clocks that were wrong: ascending.

    One that is later than now is taken for the next after it that is not.
    """
    known, found = now, []
    for _, hour in reversed(hours):
        known = hour if hour <= now else known
        found.append(known)
    return list(accumulate(reversed(found), max))


class Evictor:
    """Evicts from the log of a writer, in a thread of its own; RunError where it cannot open it."""

    def __init__(
        self, writer: LogWriter, retention: Retention, now: Callable[[], float] = time.time
    ) -> None:
        self._writer = writer
        self._retention = retention
        self._now = now
        if retention.keep_gb is not None:
            writer.largest_hour = 1e9 * retention.keep_gb / PARTS
        self._db = _connected(writer.path)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-eviction", daemon=True)
        self._failed = False

    def start(self) -> None:
        """Begin to evict in the background."""
        self._thread.start()

    def evict(self) -> int:
        """Evict all that is due, in small transactions; return the number of events."""
        evicted = 0
        while not self._ended.is_set() and (before := self._due()) is not None:
            while not self._ended.is_set():
                began = time.perf_counter()
                count = self._delete(before)
                rest_s = (time.perf_counter() - began) * (1 / BUSY_SHARE - 1)
                evicted += count
                if count < AT_ONCE or evicted % (AT_ONCE * CHECKPOINT) == 0:
                    self.checkpoint()
                if count < AT_ONCE:
                    break
                self._ended.wait(rest_s)
        return evicted

    def make_room(self) -> bool:
        """Have ROOM_BYTES free within the file for a disk that is full; return whether they are.

        Deletes at most AT_ONCE of the oldest events, whether they are due or not, and none of the
        newest hour.
        """
        with suppress(sqlite3.Error):
            if self._free_bytes() < ROOM_BYTES and (hours := self._hours()):
                self._delete(hours[-1][0])
                self.checkpoint()
            return self._free_bytes() >= ROOM_BYTES
        return False

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database; the writer goes on meanwhile."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Stop after the transaction that is open."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._db.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.evict()
                self._failed = False
            except sqlite3.Error as error:  # tried again later
                if not self._failed:
                    warn("events not evicted", path=str(self._writer.path), error=str(error))
                self._failed = True
            self._ended.wait(LOOK_S)

    def _due(self) -> int | None:
        with self._writer.lock:
            used = self._pragma("page_count") * self._pragma("page_size") - self._free_bytes()
            return self._retention.evicted_before(self._hours(), used, self._now())

    def _hours(self) -> list[tuple[int, int]]:
        return self._db.execute("SELECT first, hour FROM hours ORDER BY first").fetchall()

    def _free_bytes(self) -> int:
        return self._pragma("freelist_count") * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _delete(self, before: int) -> int:
        """Delete the oldest events with smaller ids, at most AT_ONCE; return how many there were.

        With the last of them their hours are deleted too.
        """
        with self._writer.lock, self._db as db:
            db.execute("BEGIN IMMEDIATE")
            query = "SELECT id FROM events WHERE id < ? ORDER BY id LIMIT 1 OFFSET ?"
            row = db.execute(query, (before, AT_ONCE)).fetchone()
            deleted = db.execute("DELETE FROM events WHERE id < ?", (row[0] if row else before,))
            if row is None:
                db.execute("DELETE FROM hours WHERE first < ?", (before,))
            return deleted.rowcount


def _connected(path: Path) -> sqlite3.Connection:
    with ExitStack() as stack:
        try:
            db = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            stack.callback(db.close)
            db.execute("PRAGMA secure_delete = ON")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA wal_autocheckpoint = 0")  # not while the writer waits
        except sqlite3.Error as error:
            raise RunError(
                f"{path} cannot be opened to evict events: {error}; check its disk"
            ) from None
        stack.pop_all()
        return db


def evictor_of(writer: LogWriter, retention: Retention) -> Evictor | None:
    """Return an evictor that works already, or None for a log whose events are kept for ever."""
    if retention == FOREVER:
        return None
    evictor = Evictor(writer, retention)
    evictor.start()
    return evictor
