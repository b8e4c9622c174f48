"""Merge the logs of several hubs into one, which is read like any other.

Sources are disjoint, so their events keep offset, `tseq` and payload. Events are in order of the
wall clock at which they were published, and those of one log in the order of that log, in spite of
clocks that were put back. `_sys` is in each log: its rows follow in one sequence of offsets, with
the payloads as they were published. The result does not depend on the order of the inputs.

Each input is read in one transaction, so that a run may go on writing to it. Rows are copied in
chunks: memory does not grow with the logs.
"""

import heapq
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from streamvis.errors import DataError, RunError, UsageError
from streamvis.events import log_schema
from streamvis.events.envelope import SYSTEM
from streamvis.events.log import CHUNK, Cursor, LogReader, Row

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

    Raises UsageError when `out` exists or a log is given twice, DataError when two logs have the
    same source, or one of them holds several runs of a source, RunError when it cannot be written.
    Then there is no `out`.
    """
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already; choose another name, or remove it first")
    if len({path.resolve() for path in inputs}) < len(inputs):
        raise UsageError("a log is given twice; name each once")
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    with ExitStack() as stack:
        logs = [stack.enter_context(LogReader(path)) for path in inputs]
        for log in logs:
            stack.enter_context(log.snapshot())
        logs.sort(key=_rank)
        cursors = _disjoint(logs)
        stack.callback(_remove, draft)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o640))
            with closing(sqlite3.connect(draft, isolation_level=None)) as db:
                count = _write(db, logs, cursors)
            _sync(draft)
            if os.path.lexists(out):
                raise UsageError(
                    f"{out} was made by another process meanwhile; choose another name"
                )
            draft.rename(out)
            _sync(out.parent)
        except (OSError, sqlite3.Error) as error:
            raise RunError(
                f"{out} cannot be written: {error}. Free space or choose another place; the logs "
                "were not changed"
            ) from None
    named = [cursor for cursor in cursors if cursor.source != SYSTEM]
    return Merged(count, [one.source for one in named], [c.source for c in named if not c.ending])


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
    log_schema.create(db)
    db.execute("PRAGMA journal_mode = OFF")  # a draft that is not finished is removed
    db.execute("PRAGMA synchronous = OFF")
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


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
