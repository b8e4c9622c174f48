"""Return the space of evicted events to the disk.

A log of this version returns it in small transactions, also while a run writes to it. A file that
was made by an earlier version cannot: it is written anew, for which no run may use it, and which
needs free space for its events once more.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from streamvis.errors import RunError
from streamvis.events.log import BUSY_S, LogReader, LogWriter

PAGES_AT_ONCE = 25
_INCREMENTAL = 2


def is_rewritten(path: Path) -> bool:
    """Whether the log has to be written anew. DataError when the file is not a log."""
    LogReader(path).close()
    with _errors(path), _connected(path) as db:
        return _pragma(db, "auto_vacuum") != _INCREMENTAL


def vacuum(path: Path) -> tuple[int, int]:
    """Return the space of evicted events to the disk; the bytes of the log before and after."""
    rewritten, before = is_rewritten(path), _size(path)
    if rewritten:
        LogWriter(path).close()  # migrated first
        with _errors(path), _connected(path) as db:
            db.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
            db.execute("VACUUM")
    else:
        with _errors(path), _connected(path) as db:
            while free := _pragma(db, "freelist_count"):
                began = time.perf_counter()
                # `execute` would return the first page only
                db.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
                if _pragma(db, "freelist_count") >= free:
                    break
                time.sleep(3 * (time.perf_counter() - began))
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # this makes the file shorter
    return before, _size(path)


def _size(path: Path) -> int:
    """Return the size of the file, with what is only in its write-ahead log so far."""
    with _errors(path), _connected(path) as db:
        return _pragma(db, "page_count") * _pragma(db, "page_size")


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as db:
        yield db


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise RunError(
            f"{path}: its space cannot be given back: {error}. The log is as it was; stop the "
            "run that writes to it, or free space on the disk"
        ) from None
