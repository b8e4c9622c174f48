"""Counts of the lanes of a log in a file beside it, which grows as the log does.

The file is made from the log alone: it may be deleted at any time, and is made anew when it is
damaged, or of another run. It has, of each lane, an array of seconds and one of minutes for each
hour in which something was, and every CHECKPOINT events of a source what is open there, so that
the spans of a short time can be read from the log itself.
"""

import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.events.lane_bins import (
    BEGINS,
    EVENTS,
    HOUR_S,
    HOUR_US,
    MOST,
    SECOND_US,
    Counts,
    LaneHour,
    coarser,
)
from streamvis.events.lane_file import TABLES, check_room, open_file
from streamvis.events.lanes import OTHER, SOURCE, LaneFold, LaneName, LaneSpan
from streamvis.events.log import LogReader
from streamvis.events.topics import SYSTEM
from streamvis.logs import warn

CHUNK = 5000  # events that are read at once
CHECKPOINT = 10_000  # offsets of a source between two checkpoints
FLUSH_S = 1.0  # between two transactions, while there is more to read
MOST_PENDING = 500  # hours of lanes that wait for a transaction
MOST_FILLED = 1000  # hours without an event that are filled with what is open
MOST_FAILURES = 3  # after which the file is given up


class LaneIndexError(DataError):
    """The file is damaged, or cannot be written."""


class OpenSpans(msgspec.Struct, frozen=True, array_like=True):
    """What is open in the lanes of a source."""

    names: list[LaneName]
    open: list[tuple[LaneName, dict[str, tuple[int, int]]]]

    def fold(self) -> LaneFold:
        """Return it as a state that takes the events that follow."""
        return LaneFold({lane: dict(spans) for lane, spans in self.open}, self.names)


class SourceProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the lanes of a source are."""

    epoch: str
    first: int  # offset at which the run begins
    offset: int  # of the last event that is included
    at_us: int  # its media time
    checkpoint: int  # offset of the last checkpoint
    spans: OpenSpans


class Checkpoint(NamedTuple):
    """What is open after the event at an offset."""

    offset: int
    spans: OpenSpans


class _Hour(NamedTuple):
    """The counts of a lane in an hour, as they are stored."""

    begins: int
    most: int
    events: int
    minutes: bytes
    seconds: bytes


def _stored(counts: Counts) -> _Hour:
    hour = coarser(counts, HOUR_S)[:, 0]
    minutes = zlib.compress(coarser(counts, 60).tobytes(), 1)
    seconds = zlib.compress(counts.tobytes(), 1)
    return _Hour(int(hour[BEGINS]), int(hour[MOST]), int(hour[EVENTS]), minutes, seconds)


def _loaded(blob: bytes, bins: int) -> Counts:
    data = np.frombuffer(zlib.decompress(blob, bufsize=12 * bins), np.int32)
    return data.reshape(3, bins).copy()


Counted = list[tuple[LaneName, int, Counts]]  # hours
Pending = dict[tuple[str, LaneName, int], _Hour]


class _SourceLanes:
    """Counts the events of one source."""

    def __init__(self, progress: SourceProgress) -> None:
        self.epoch, self.first = progress.epoch, progress.first
        self.offset, self.at_us = progress.offset, progress.at_us
        self.checkpoint = progress.checkpoint
        self.fold = progress.spans.fold()
        self.hour = self.at_us // HOUR_US
        self.hours: dict[LaneName, LaneHour] = {}
        self.states: list[LaneSpan] = []  # that are over since the last transaction

    def take(
        self, offset: int, kind: str, media_us: int, payload: bytes | None, done: Counted
    ) -> None:
        """Add an event; hours that are over go to `done`."""
        if offset <= self.offset:
            return
        self.offset = offset
        if media_us > self.at_us:
            self.at_us = media_us
            if media_us // HOUR_US > self.hour:
                self._begin_hour(media_us // HOUR_US, done)
        if payload is None:
            return
        for change in self.fold.take(kind, offset, self.at_us, payload):
            hour = self.hours.get(change.lane)
            if hour is None:
                hour = self.hours[change.lane] = LaneHour()
            hour.take(change)
            if change.lane == SOURCE and change.ended is not None:
                self.states.append(change.ended)

    def _begin_hour(self, hour: int, done: Counted) -> None:
        for lane, before in list(self.hours.items()):
            done.append((lane, self.hour, before.counts(HOUR_S - 1)))
            if not before.open:
                del self.hours[lane]
                continue
            for between in range(self.hour + 1, min(hour, self.hour + MOST_FILLED)):
                done.append((lane, between, LaneHour(before.open).counts(HOUR_S - 1)))
            self.hours[lane] = LaneHour(before.open)
        self.hour = hour

    def written(self) -> Iterator[tuple[LaneName, int, Counts]]:
        """Yield the counts of this hour where they have changed."""
        second = self.at_us % HOUR_US // SECOND_US
        for lane, hour in self.hours.items():
            if not hour.is_dull:
                yield lane, self.hour, hour.counts(second)

    def spans(self) -> OpenSpans:
        """Return what is open."""
        opened = [(lane, dict(spans)) for lane, spans in self.fold.open.items() if spans]
        return OpenSpans(sorted(self.fold.names), opened)

    def progress(self) -> SourceProgress:
        """Return how far this is."""
        return SourceProgress(
            epoch=self.epoch,
            first=self.first,
            offset=self.offset,
            at_us=self.at_us,
            checkpoint=self.checkpoint,
            spans=self.spans(),
        )


class LaneIndex:
    """The file. One thread calls `advance`, any the others; they wait for a transaction at most.

    Where the directory cannot be written, all of it is held in memory.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self._failures = 0
        self._lock = threading.Lock()
        self._identity = ""
        self._number = 0  # of the last event that is included
        self._checked = False  # whether the log is the one that the file was made from
        self._sources: dict[str, _SourceLanes] = {}
        self._checkpoints: list[tuple[str, int, int, bytes]] = []
        self._pending: Pending = {}
        self._flushed = time.monotonic()
        self._oldest: dict[str, int] = {}
        self._db = self._opened()
        self._load_or_restart()

    def advance(self, log: LogReader, identity: str) -> bool:
        """Read some events; return whether there are no more. DataError for a log that fails."""
        try:
            return self._advance(log, identity)
        except LaneIndexError as error:
            self.recover(str(error))
            return False

    def progress(self, source: str) -> SourceProgress | None:
        """Return how far a source is, as far as it is stored."""
        with self._reading() as db:
            row = db.execute("SELECT state FROM sources WHERE source = ?", (source,)).fetchone()
            return None if row is None else msgspec.json.decode(row[0], type=SourceProgress)

    def lanes(self, source: str) -> list[LaneName]:
        """Return the lanes of a source."""
        query = "SELECT family, name FROM lanes WHERE source = ? ORDER BY id"
        with self._reading() as db:
            return [LaneName(*row) for row in db.execute(query, (source,))]

    def hours(self, source: str, first: int, last: int) -> dict[LaneName, list[tuple[int, Counts]]]:
        """Return hours by lane, each with its number; both ends are included."""
        query = "SELECT family, name, hour, begins, most, events"
        found: dict[LaneName, list[tuple[int, Counts]]] = {}
        for family, name, hour, *counts in self._select(query, "hours", source, first, last):
            part = np.array(counts, np.int32).reshape(3, 1)
            found.setdefault(LaneName(family, name), []).append((hour, part))
        return found

    def parts(
        self, source: str, first: int, last: int, *, seconds: bool
    ) -> dict[LaneName, list[tuple[int, Counts]]]:
        """Return the seconds or minutes of hours by lane, each with the number of its first."""
        table, column, bins = ("seconds", "counts", HOUR_S) if seconds else ("hours", "minutes", 60)
        query = f"SELECT family, name, hour, {column}"
        found: dict[LaneName, list[tuple[int, Counts]]] = {}
        rows = self._select(query, table, source, first, last)
        with self._errors():
            for family, name, hour, blob in rows:
                part = hour * bins, _loaded(blob, bins)
                found.setdefault(LaneName(family, name), []).append(part)
        return found

    def states(self, source: str, from_us: int, to_us: int, most: int) -> list[LaneSpan]:
        """Return the states of a source in a stretch that are over, at most `most`."""
        query = (
            "SELECT key, from_us, to_us, first, last FROM states "
            "WHERE source = ? AND to_us >= ? AND from_us <= ? ORDER BY last LIMIT ?"
        )
        with self._reading() as db:
            rows = db.execute(query, (source, from_us, to_us, most))
            return [LaneSpan(*row) for row in rows]

    def checkpoint(self, source: str, before_us: int) -> Checkpoint | None:
        """Return the last checkpoint whose events are all before a media time."""
        query = (
            "SELECT offset, open FROM checkpoints WHERE source = ? AND at_us < ? "
            "ORDER BY offset DESC LIMIT 1"
        )
        with self._reading() as db:
            row = db.execute(query, (source, before_us)).fetchone()
            if row is None:
                return None
            return Checkpoint(row[0], msgspec.json.decode(row[1], type=OpenSpans))

    def recover(self, why: str) -> None:
        """Begin with an empty file after a failure; after several, in memory."""
        self._failures += 1
        self.restart(why)

    def restart(self, why: str) -> None:
        """Begin with an empty file."""
        with self._lock:
            self._db.close()
            if self.path is not None:
                warn("counts of lanes are made anew", path=str(self.path), reason=why)
                for name in (self.path.name, f"{self.path.name}-journal"):
                    with suppress(OSError):
                        self.path.with_name(name).unlink(missing_ok=True)
            self._db = self._opened()
        self._clear()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _select(
        self, query: str, table: str, source: str, first: int, last: int
    ) -> list[tuple[str, str, int, bytes]]:
        query = (
            f"{query} FROM lanes JOIN {table} ON lane = id "
            "WHERE source = ? AND hour BETWEEN ? AND ? ORDER BY lane, hour"
        )
        with self._reading() as db:
            return db.execute(query, (source, first, last)).fetchall()

    def _opened(self) -> sqlite3.Connection:
        """Open the file, or make it; in memory where that is impossible."""
        if self.path is not None:
            try:
                if self._failures > MOST_FAILURES:
                    raise OSError("it has failed several times")
                check_room(self.path)
                return open_file(self.path)
            except (OSError, sqlite3.Error) as error:
                warn("counts of lanes are held in memory", path=str(self.path), error=str(error))
                self.path = None
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        db.executescript(TABLES)
        return db

    def _load_or_restart(self) -> None:
        try:
            self._load()
        except LaneIndexError as error:
            self.restart(str(error))

    def _clear(self) -> None:
        self._identity, self._number, self._checked = "", 0, False
        self._sources, self._checkpoints, self._pending = {}, [], {}
        self._oldest = {}

    def _load(self) -> None:
        """Go on where the file ends."""
        self._clear()
        with self._reading() as db:
            row = db.execute("SELECT identity, number FROM log").fetchone()
            if row is None:
                return
            states = db.execute("SELECT source, state FROM sources").fetchall()
            query = (
                "SELECT counts FROM lanes JOIN seconds ON lane = id "
                "WHERE source = ? AND family = ? AND name = ? AND hour = ?"
            )
            for name, state in states:
                source = _SourceLanes(msgspec.json.decode(state, type=SourceProgress))
                second = source.at_us % HOUR_US // SECOND_US
                for lane in (*source.fold.names, OTHER):
                    opened = len(source.fold.open.get(lane, ()))
                    found = db.execute(query, (name, *lane, source.hour)).fetchone()
                    if found is not None or opened:
                        counts = None if found is None else _loaded(found[0], HOUR_S)
                        source.hours[lane] = LaneHour(opened, counts, second)
                self._sources[name] = source
            self._identity, self._number = row

    def _advance(self, log: LogReader, identity: str) -> bool:
        newest = log.newest()
        if self._number >= newest or identity != self._identity or not self._checked:
            self._check(log, identity, newest)
        first = log.numbered(self._number + 1, 1)
        done: Counted = []
        if first:
            last = min(first[0][0] + CHUNK - 1, newest)
            for name, offset, kind, media_us, payload in log.outline(first[0][0], last):
                source = self._sources.get(name)
                if source is None:
                    source = self._source(log, name)
                if source is not None:
                    source.take(offset, kind, media_us, payload, done)
                    if done:
                        self._keep(name, done)
                        done.clear()
            self._number = last
            self._make_checkpoints()
        is_over = self._number >= newest
        if first and (
            is_over
            or time.monotonic() - self._flushed > FLUSH_S
            or len(self._pending) > MOST_PENDING
        ):
            self._flush()
        if is_over:
            self._evict(log)
        return is_over

    def _check(self, log: LogReader, identity: str, newest: int) -> None:
        """Begin anew for another log, or another run in it."""
        cursors = log.cursors()
        same = all(
            name in cursors
            and (source.epoch, source.first) == (cursors[name].epoch, cursors[name].first)
            and source.offset < cursors[name].next
            for name, source in self._sources.items()
        )
        if self._identity and not (same and self._identity == identity and self._number <= newest):
            self.restart("the log is of another run")
        self._identity, self._checked = identity, True

    def _source(self, log: LogReader, name: str) -> _SourceLanes | None:
        """Return the lanes of a source that is new; None for what has none."""
        cursor = None if name == SYSTEM else log.cursors().get(name)
        if cursor is None:
            return None
        start = SourceProgress(
            epoch=cursor.epoch,
            first=cursor.first,
            offset=cursor.first - 1,
            at_us=0,
            checkpoint=cursor.first - 1,
            spans=OpenSpans([], []),
        )
        source = self._sources[name] = _SourceLanes(start)
        return source

    def _keep(self, name: str, counted: Counted) -> None:
        for lane, hour, counts in counted:
            if counts.any():
                self._pending[name, lane, hour] = _stored(counts)

    def _make_checkpoints(self) -> None:
        for name, source in self._sources.items():
            if source.offset - source.checkpoint >= CHECKPOINT:
                source.checkpoint = source.offset
                blob = msgspec.json.encode(source.spans())
                self._checkpoints.append((name, source.offset, source.at_us, blob))

    def _flush(self) -> None:
        """Store all that is counted, in one transaction."""
        for name, source in self._sources.items():
            self._keep(name, list(source.written()))
        self._flushed = time.monotonic()
        with self._lock, self._errors(), self._db as db:
            db.execute("BEGIN IMMEDIATE")
            if self.path is not None:
                check_room(self.path)
            row = db.execute("SELECT number FROM log").fetchone()
            ahead = row is not None and row[0] > self._number
            if not ahead:
                self._store_all(db)
        if ahead:  # another server has written to it
            self._load_or_restart()
        self._checkpoints, self._pending = [], {}

    def _store_all(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM log")
        db.execute("INSERT INTO log VALUES (?, ?)", (self._identity, self._number))
        states = [(n, msgspec.json.encode(s.progress())) for n, s in self._sources.items()]
        db.executemany("INSERT OR REPLACE INTO sources VALUES (?, ?)", states)
        query = "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?)"
        db.executemany(query, self._checkpoints)
        for (name, lane, hour), found in self._pending.items():
            _store(db, name, lane, hour, found)
        for name, source in self._sources.items():
            rows = [(name, s.last, s.first, s.key, s.from_us, s.to_us) for s in source.states]
            db.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?, ?)", rows)
            source.states = []

    def _evict(self, log: LogReader) -> None:
        """Delete hours of which the log has no event any more."""
        for name in self._sources:
            oldest = log.oldest(name)
            if self._oldest.get(name) == oldest:
                continue
            self._oldest[name] = oldest
            rows = list(log.since(name, oldest, oldest))
            if not rows:
                continue
            hour = rows[0].media_us // HOUR_US
            with self._lock, self._errors(), self._db as db:
                db.execute("BEGIN IMMEDIATE")
                lanes = "lane IN (SELECT id FROM lanes WHERE source = ?) AND hour < ?"
                for table in ("hours", "seconds"):
                    db.execute(f"DELETE FROM {table} WHERE {lanes}", (name, hour))
                at_us = rows[0].media_us
                db.execute("DELETE FROM states WHERE source = ? AND to_us < ?", (name, at_us))
                db.execute(
                    "DELETE FROM checkpoints WHERE source = ? AND offset < "
                    "(SELECT max(offset) FROM checkpoints WHERE source = ? AND offset < ?)",
                    (name, name, oldest),
                )
            with self._lock, self._errors():
                self._db.executescript("PRAGMA incremental_vacuum")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            yield self._db

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (
            OSError,
            sqlite3.Error,
            msgspec.MsgspecError,
            zlib.error,
            ValueError,
            TypeError,
        ) as error:
            raise LaneIndexError(
                f"{self.path or 'counts of lanes in memory'}: {error}. It is made anew from the log"
            ) from None


def _store(db: sqlite3.Connection, name: str, lane: LaneName, hour: int, found: _Hour) -> None:
    db.execute("INSERT OR IGNORE INTO lanes (source, family, name) VALUES (?, ?, ?)", (name, *lane))
    query = "SELECT id FROM lanes WHERE source = ? AND family = ? AND name = ?"
    number = db.execute(query, (name, *lane)).fetchone()[0]
    *counts, minutes, seconds = found
    db.execute(
        "INSERT OR REPLACE INTO hours VALUES (?, ?, ?, ?, ?, ?)", (number, hour, *counts, minutes)
    )
    db.execute("INSERT OR REPLACE INTO seconds VALUES (?, ?, ?)", (number, hour, seconds))
