"""The tables of an event log, their version, and the migration from earlier ones.

| version | |
|---|---|
| 1 | events, cursors |
| 2 | `hours`; a new file also returns free pages in small steps (`auto_vacuum`) |

A log that `events merge` wrote has the tables of the newest version and an application id of its
own: it holds the runs of several hubs, which no run writes to.

A reader reads each of them as it is. A writer brings the file to the newest first, in one
transaction: a kill in its midst leaves the earlier version.
"""

import sqlite3
from bisect import bisect_right
from pathlib import Path

import msgspec

from streamvis.errors import DataError

APPLICATION_ID = 0x53764576  # "SvEv"
MERGED_ID = 0x5376456D  # "SvEm"
VERSION = 2
HOUR_US = 3_600_000_000

_HOURS = """
CREATE TABLE hours (
    first INTEGER PRIMARY KEY,  -- id of the first event that was committed in it
    hour INTEGER NOT NULL  -- since 1970; an hour with many events has several rows
);
"""
_TABLES = f"""
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
CREATE TABLE events (
    id INTEGER PRIMARY KEY,  -- order of commit, over all sources
    source TEXT NOT NULL,
    offset INTEGER NOT NULL,
    tseq INTEGER NOT NULL,
    type TEXT NOT NULL,
    media_us INTEGER NOT NULL,
    payload BLOB NOT NULL  -- JSON, as published
);
CREATE UNIQUE INDEX events_by_source ON events (source, offset);
CREATE TABLE cursors (
    source TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,  -- the latest run of this source
    first INTEGER NOT NULL,  -- offset at which that run begins
    next INTEGER NOT NULL,  -- offset of the next event
    ending TEXT NOT NULL,  -- eof, drained, failed; empty while the source is open
    state BLOB NOT NULL
);
{_HOURS}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""


class _Clock(msgspec.Struct, frozen=True):
    emit_us: int = 0


class _Emitted(msgspec.Struct, frozen=True):
    """What is read of an event to find its hour."""

    time: _Clock = _Clock()


_emitted = msgspec.json.Decoder(_Emitted)


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether the file has no tables, as a file that was just created."""
    return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def check(db: sqlite3.Connection, path: Path) -> None:
    """Raise DataError for a file that is no event log, or one of a later version."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application not in (APPLICATION_ID, MERGED_ID):
        raise DataError(f"{path} is not an event log of streamvis; the file was not changed")
    if (version := _version(db)) > VERSION:
        raise DataError(
            f"{path} is an event log of version {version}, this streamvis reads up to {VERSION}; "
            "use the version that wrote it, or a newer one"
        )


def is_merged(db: sqlite3.Connection) -> bool:
    """Whether it holds the logs of several hubs."""
    return bool(db.execute("PRAGMA application_id").fetchone()[0] == MERGED_ID)


def create(db: sqlite3.Connection) -> None:
    """Make the tables of an empty file; to be called before it is in WAL mode."""
    db.executescript(_TABLES)


def mark_merged(db: sqlite3.Connection) -> None:
    """Say in the file that it holds the logs of several hubs."""
    db.execute(f"PRAGMA application_id = {MERGED_ID}")


def migrate(db: sqlite3.Connection) -> None:
    """Bring a log of an earlier version to the newest one; the others are left as they are."""
    if _version(db) == VERSION:
        return
    with db:
        db.execute("BEGIN IMMEDIATE")
        if _version(db) < 2:
            db.execute(_HOURS)
            db.executemany("INSERT INTO hours VALUES (?, ?)", _hours(db))
        db.execute(f"PRAGMA user_version = {VERSION}")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _hours(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Find the first event of each hour by bisection: ids grow with the time."""

    def hour_of(event: int) -> int:
        return _hour_of(db, event)

    first, last = db.execute("SELECT min(id), max(id) FROM events").fetchone()
    found: list[tuple[int, int]] = []
    while first is not None and first <= last:
        hour = hour_of(first)
        found.append((first, hour))
        first += bisect_right(range(first, last + 1), hour, key=hour_of)
    return found


def _hour_of(db: sqlite3.Connection, event: int) -> int:
    """Return the hour in which an event was published; 0 when it does not say so."""
    query = "SELECT payload FROM events WHERE id >= ? ORDER BY id LIMIT 1"
    (payload,) = db.execute(query, (event,)).fetchone()
    return emitted_us(payload) // HOUR_US


def emitted_us(payload: bytes) -> int:
    """Return the wall clock at which an event was published, µs since 1970; 0: it does not say."""
    try:
        return _emitted.decode(payload).time.emit_us
    except (msgspec.DecodeError, RecursionError):
        return 0
