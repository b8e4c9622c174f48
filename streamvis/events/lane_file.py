"""The file of a lane index: its tables, and how it is opened."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from streamvis.events.disk import has_room

FILE = "events.lanes"
VERSION = 1
APPLICATION_ID = 0x53764C61  # "SvLa"

TABLES = f"""
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
CREATE TABLE log (identity TEXT NOT NULL, number INTEGER NOT NULL);  -- last event that is included
CREATE TABLE sources (source TEXT PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    family TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (source, family, name)
);
CREATE TABLE hours (
    lane INTEGER NOT NULL,
    hour INTEGER NOT NULL,  -- of media time
    begins INTEGER NOT NULL,
    most INTEGER NOT NULL,
    events INTEGER NOT NULL,
    minutes BLOB NOT NULL,
    PRIMARY KEY (lane, hour)
) WITHOUT ROWID;
CREATE TABLE seconds (
    lane INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    counts BLOB NOT NULL,
    PRIMARY KEY (lane, hour)
) WITHOUT ROWID;
CREATE TABLE states (  -- of sources, as far as they are over
    source TEXT NOT NULL,
    last INTEGER NOT NULL,  -- offset of the event that ended it
    first INTEGER NOT NULL,
    key TEXT NOT NULL,
    from_us INTEGER NOT NULL,
    to_us INTEGER NOT NULL,
    PRIMARY KEY (source, last)
) WITHOUT ROWID;
CREATE TABLE checkpoints (
    source TEXT NOT NULL,
    offset INTEGER NOT NULL,  -- of the last event that is included
    at_us INTEGER NOT NULL,  -- its media time
    open BLOB NOT NULL,
    PRIMARY KEY (source, offset)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
COMMIT;
"""


def open_file(path: Path) -> sqlite3.Connection:
    """Open a file of ours, or make it; another one is replaced."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        try:
            kind = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            kind = version = 0
        if (kind, version) == (APPLICATION_ID, VERSION):
            _set_up(db)
            db.execute("BEGIN IMMEDIATE")  # whether it can be written
            db.execute("ROLLBACK")
            return db
        db.close()
        path.unlink()
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
        db.executescript(TABLES)
        _set_up(db)
    except BaseException:
        db.close()
        raise
    return db


def _set_up(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA secure_delete = ON")  # as in the log: what is evicted is overwritten


def check_room(path: Path) -> None:
    """Raise OSError on a disk that is nearly full: what is free there is for the log."""
    if not has_room(path.parent):
        raise OSError("the disk is nearly full, or is not there")
