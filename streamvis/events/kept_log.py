"""What waits for a log that cannot be written, for example since the disk is full.

Events that could not be committed are kept in memory, in order, and committed together with the
latest states of their sources once there is room. An attempt that failed is repeated after RETRY_S
at the earliest, when there is something to commit. While there is only the space of the reserve,
that is for events other than updates: updates that wait are dropped then, and counted. With a
retention the log keeps its size instead: the oldest hours are evicted so that new events fit in.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from streamvis.events.disk import Reserve
from streamvis.events.log import Cursor, LogDiskError, LogWriter, Row
from streamvis.events.retention import Evictor
from streamvis.logs import log, warn

RETRY_S = 1.0
KEPT_BYTES = 16 << 20  # of payloads that wait, at most


class Missing(msgspec.Struct):
    """Events of a source that will never be in the log."""

    count: int
    first: int  # offset
    last: int


class KeptLog:
    """Keeps what cannot be written to a log, and the reserve beside it.

    With an evictor, which it closes, it makes room in the log first.
    """

    def __init__(
        self,
        writer: LogWriter,
        evictor: Evictor | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._evictor = evictor
        self._reserve = Reserve(writer.path.parent)
        self._reserve.make()
        self._now = now
        self._retry_at = 0.0
        self._rows: list[Row] = []  # not committed, in order
        self._bytes = 0
        self._cursors: dict[str, Cursor] = {}  # by source, latest
        self._missing: dict[str, Missing] = {}
        self.writable = True  # nothing is kept: commit to the log itself

    def fail(self, error: LogDiskError) -> None:
        """Have the next commit go through `commit`, after one to the log itself has failed."""
        warn("event log cannot be written", path=str(self._writer.path), error=str(error))
        self.writable, self._retry_at = False, 0.0
        self._reserve.release()

    def commit(self, rows: Sequence[Row], cursors: Sequence[Cursor]) -> set[tuple[str, int]]:
        """Commit these and all that is kept in one transaction, or keep them for later.

        Returns source and offset of each of these events that is not in the log.
        """
        self._keep(rows, cursors)
        committed = self._retry() if self._due else set()
        return {place for row in rows if (place := (row.source, row.offset)) not in committed}

    def shed(self, rows: Iterable[Row]) -> None:
        """Drop the updates that wait, if events that matter more will use the last room.

        To be called before `commit` of these rows, so that `missing` can be committed with them.
        """
        if self.writable or not self._due or self._has_room():
            return
        if not all(is_update(row.type) for row in (*self._rows, *rows)):
            self._drop([row for row in self._rows if is_update(row.type)])

    @property
    def missing(self) -> Mapping[str, Missing]:
        """By source, what will never be in the log, and was not taken yet."""
        return self._missing

    @property
    def _due(self) -> bool:
        return self._now() >= self._retry_at

    def cursor(self, source: str) -> Cursor | None:
        """Return the latest cursor of the source that was not committed, if there is one."""
        return self._cursors.get(source)

    def count_missing(self, source: str, missing: Missing) -> None:
        """Add what a predecessor has not logged."""
        known = self._missing.setdefault(source, Missing(0, missing.first, missing.last))
        known.count += missing.count
        known.first = min(known.first, missing.first)
        known.last = max(known.last, missing.last)

    def take_missing(self) -> dict[str, Missing]:
        """Return, once and while the log can be written, by source what will never be in it."""
        if not self.writable:
            return {}
        missing, self._missing = self._missing, {}
        return missing

    def flush(self) -> None:
        """Try once more to commit what is kept."""
        if not self.writable:
            self._retry()

    def close(self) -> None:
        """Give up what is kept, and say how many events the log lacks."""
        self._drop(self._rows)
        if lost := sum(one.count for one in self._missing.values()):
            warn("events are not in the log", path=str(self._writer.path), count=lost)
        self._reserve.release()
        if self._evictor:
            self._evictor.close()

    def _keep(self, rows: Iterable[Row], cursors: Iterable[Cursor]) -> None:
        for row in rows:
            self._rows.append(row)
            self._bytes += len(row.payload)
        self._cursors.update((cursor.source, cursor) for cursor in cursors)
        if self._bytes > KEPT_BYTES:
            self._drop([row for row in self._rows if is_update(row.type)])
        if self._bytes > KEPT_BYTES:
            self._drop(self._rows[: len(self._rows) // 2])

    def _retry(self) -> set[tuple[str, int]]:
        """Commit what is kept, and return source and offset of what is in the log now."""
        if not self._has_room() and all(is_update(row.type) for row in self._rows):
            return set()
        self._writer.checkpoint()
        try:
            self._writer.commit(self._rows, self._cursors.values())
        except LogDiskError:
            self._retry_at = self._now() + RETRY_S
            return set()
        committed = {(row.source, row.offset) for row in self._rows}
        self._rows, self._bytes, self._cursors = [], 0, {}
        if self._reserve.has_room() and self._reserve.make():
            self.writable = True
            log("info", "event log is written again", path=str(self._writer.path))
        return committed

    def _has_room(self) -> bool:
        """Whether there is room for all events, on the disk or within the log."""
        if self._reserve.has_room():
            return True
        return self._evictor is not None and self._evictor.make_room()

    def _drop(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.count_missing(row.source, Missing(1, row.offset, row.offset))
            self._bytes -= len(row.payload)
        dropped = {(row.source, row.offset) for row in rows}
        self._rows = [row for row in self._rows if (row.source, row.offset) not in dropped]


def is_update(kind: str) -> bool:
    """Whether events of this type are samples of something, rather than its begin or end."""
    forecast = kind.startswith("forecast.") or kind in {"zone.forecast", "zone.scored"}
    return kind.endswith(".update") or forecast
