"""Merge the logs of several hubs into one, which is read like any other.

Sources are disjoint, so their events keep offset, `tseq` and payload. Events are in order of the
wall clock at which they were published, and those of one log in the order of that log, in spite of
clocks that were put back. `_sys` is in each log: its rows follow in one sequence of offsets, with
the payloads as they were published. The result does not depend on the order of the inputs.

Each input is read in one transaction, so that a run may go on writing to it. Rows are copied in
chunks: memory does not grow with the logs.

A draft beside the new log gets its name once it is complete. The kernel releases the lock of a
merge that was killed, and the next one takes its draft.
"""

import fcntl
import heapq
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from streamvis.errors import DataError, RunError, UsageError
from streamvis.events import log_schema
from streamvis.events.log import CHUNK, Cursor, LogReader, Row
from streamvis.events.topics import SYSTEM
from streamvis.files import is_open, sync

_INSERT = (
    "INSERT INTO events (id, source, offset, tseq, type, media_us, payload)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class Merged(NamedTuple):
    """What a merge wrote."""

    events: int
    sources: list[str]
    open: list[str]  # of them, those that had not ended: their run goes on, or was killed


class _Timed(NamedTuple):
    """An event in the order of the merge."""

    emit_us: int  # of it, or of a later one before it in its log
    rank: int  # of its log: no two are equal
    row: Row


def merge(out: Path, inputs: Sequence[Path]) -> Merged:
    """Write the events of all inputs to the new file `out`.

    Raises UsageError when `out` exists, another merge writes it or a log is given twice, DataError
    when two logs have the same source, or one of them holds several runs of a source, RunError when
    it cannot be written.
    Then there is no `out`.
    """
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already; choose another name, or remove it first")
    if len({path.resolve() for path in inputs}) < len(inputs):
        raise UsageError("a log is given twice; name each once")
    with ExitStack() as stack:
        logs = [stack.enter_context(LogReader(path)) for path in inputs]
        for log in logs:
            stack.enter_context(log.snapshot())
        logs.sort(key=_rank)
        cursors = _disjoint(logs)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            draft = stack.enter_context(_draft(out))
            with closing(_connected(draft)) as db:
                count = _write(db, logs, cursors)
            sync(draft)
            if os.path.lexists(out):
                raise UsageError(
                    f"{out} was made by another process meanwhile; choose another name"
                )
            draft.rename(out)
            sync(out.parent)
        except (OSError, sqlite3.Error) as error:
            raise RunError(
                f"{out} cannot be written: {error}. Free space or choose another place; the logs "
                "were not changed"
            ) from None
    named = [cursor for cursor in cursors if cursor.source != SYSTEM]
    return Merged(count, [one.source for one in named], [c.source for c in named if not c.ending])


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Yield an empty file beside `out` that no other merge writes; in the end it is removed.

    Each `out` has one draft: that of a merge that was killed is taken.
    """
    draft = out.with_name(f".{out.name}.merging")
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        # it may have become `out` before it was locked
        if not _locked(fd) or not is_open(draft, fd):
            raise UsageError(
                f"{out} is written by another merge now; wait for it, or choose another name"
            )
        try:
            os.ftruncate(fd, 0)
            yield draft
        finally:
            if is_open(draft, fd):
                _remove(draft)
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    """Lock the file, unless another process holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _connected(draft: Path) -> sqlite3.Connection:
    """Open the draft without the locks of SQLite, which that of `_draft` would exclude on NFS."""
    uri = f"file:{quote(str(draft.absolute()))}?nolock=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None)


def _rank(log: LogReader) -> tuple[list[tuple[str, str]], str]:
    """Return a key for the order of logs that does not depend on how they are given."""
    cursors = [(one.source == SYSTEM, one.source, one.epoch) for one in log.cursors().values()]
    return [(source, epoch) for _, source, epoch in sorted(cursors)], str(log.path)


def _disjoint(logs: Sequence[LogReader]) -> list[Cursor]:
    """Return the cursors of the merged log; that of `_sys` has yet to get its offsets."""
    found: dict[str, Cursor] = {}
    places: dict[str, Path] = {}
    for log in logs:
        if log.has_older_runs():
            raise DataError(
                f"{log.path} holds several runs, as old versions wrote them; only logs of one run "
                "can be merged. `streamvis events export` writes its latest run as JSON lines"
            )
        for source, cursor in log.cursors().items():
            if source != SYSTEM and source in places:
                same = found[source].epoch == cursor.epoch
                raise DataError(
                    f"source '{source}' is in {places[source]} and in {log.path}, "
                    f"{'of the same run' if same else 'of two runs'}; expected each source in one "
                    f"log. {'Leave out the copy' if same else 'Merge the logs of one time only'}"
                )
            places[source] = log.path
            if source not in found or cursor.epoch > found[source].epoch:
                found[source] = cursor
    return [found[source] for source in sorted(found)]


def _write(db: sqlite3.Connection, logs: Sequence[LogReader], cursors: Sequence[Cursor]) -> int:
    db.execute("PRAGMA journal_mode = OFF")  # a draft that is not finished is removed
    db.execute("PRAGMA synchronous = OFF")
    log_schema.create(db)
    db.execute("BEGIN")
    count = system = 0
    hour: int | None = None
    merged = heapq.merge(*(_timed(log, rank) for rank, log in enumerate(logs)))
    while chunk := list(islice(merged, CHUNK)):
        rows = []
        for emit_us, _, row in chunk:
            count += 1
            if emit_us // log_schema.HOUR_US != hour:
                hour = emit_us // log_schema.HOUR_US
                db.execute("INSERT INTO hours VALUES (?, ?)", (count, hour))
            if row.source == SYSTEM:
                row, system = row._replace(offset=system, tseq=system + 1), system + 1
            rows.append((count, *row))
        db.executemany(_INSERT, rows)
    placed = [
        one._replace(first=0, next=system) if one.source == SYSTEM else one for one in cursors
    ]
    db.executemany("INSERT INTO cursors VALUES (?, ?, ?, ?, ?, ?)", placed)
    log_schema.mark_merged(db)
    db.execute("COMMIT")
    return count


def _timed(log: LogReader, rank: int) -> Iterator[_Timed]:
    """The events of a log in its order; times never go back."""
    latest = 0
    for row in log.events():
        latest = max(latest, log_schema.emitted_us(row.payload))
        yield _Timed(latest, rank, row)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
