"""Writes the events of a replay: as JSON lines, or as a log of their own."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

from streamvis.errors import UsageError
from streamvis.events.envelope import Event, encode
from streamvis.events.log import Cursor, LogWriter, Row
from streamvis.files import drafted

CHUNK = 1000  # events in a transaction


def zone_events(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events of zones and lines, without those of the sources."""
    return (event for event in events if event.family != "source")


def write_log(events: Iterable[Event], path: Path, cursors: Mapping[str, Cursor]) -> int:
    """Write a log with these events, and return how many are of zones or lines.

    It appears under its name when it is complete. `cursors` are those of the log that was read.
    UsageError when there is such a file, or no directory for it.
    """
    if path.exists():
        what = "directory" if path.is_dir() else "file"
        raise UsageError(f"--out {path}: there is a {what} of this name; give the new log another")
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: there is no directory {path.parent}; make it first")
    with drafted(path) as draft:
        try:
            with closing(LogWriter(draft)) as log:
                count = _write(events, log, cursors)
        finally:
            for name in (f"{draft.name}-wal", f"{draft.name}-shm"):
                draft.with_name(name).unlink(missing_ok=True)
    return count


def _write(events: Iterable[Event], log: LogWriter, cursors: Mapping[str, Cursor]) -> int:
    count, following, events = 0, dict[str, int](), iter(events)
    while chunk := list(islice(events, CHUNK)):
        count += sum(1 for _ in zone_events(chunk))
        following |= {event.source: event.offset + 1 for event in chunk}
        log.commit([_row(event) for event in chunk], ())
    log.commit((), [_cursor(cursors[name], end) for name, end in following.items()])
    return count


def _row(event: Event) -> Row:
    media_us = event.time.media_us
    return Row(event.source, event.offset, event.tseq, event.type, media_us, encode(event))


def _cursor(was: Cursor, end: int) -> Cursor:
    return was._replace(first=0, next=end, ending=was.ending or "drained", state=b"")
