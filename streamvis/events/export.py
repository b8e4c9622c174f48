"""Export an event log as JSON lines or CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

from streamvis.errors import RunError
from streamvis.events.codec import Codec
from streamvis.events.envelope import Event, EventBody, Other
from streamvis.events.family import Cells
from streamvis.events.log import Row
from streamvis.events.source_events import SourceEpoch
from streamvis.files import drafted

COLUMNS = (
    *("source", "offset", "type", "media_us", "capture_us", "n", "track", "label"),
    *("left", "top", "right", "bottom", "box_from", "score", "p_exist"),
    *("ground_x_m", "ground_y_m", "reason", "other", "since_us", "p", "window_us"),
    *("speed_m_s", "vel_x_m_s", "vel_y_m_s", "vel_x_px_s", "vel_y_px_s", "first_seen_us"),
    *("last_seen_us", "age_s", "p_max", "share", "share_max", "zone", "horizon_us", "made_us"),
    *("miou", "accuracy", "first_n", "last_n", "frames", "width", "height", "fps", "live"),
    "count",
    "stream_epoch",
)
LATER = ("suspect",)  # of the frame; after the columns that there were before


def jsonl(rows: Iterable[Row]) -> Iterator[bytes]:
    """One JSON object a line, as it was published."""
    for row in rows:
        yield row.payload + b"\n"


def write_jsonl(rows: Iterable[Row], path: Path) -> None:
    with replacing(path) as file:
        file.writelines(line.decode() for line in jsonl(rows))


def write_csv(rows: Iterable[Row], path: Path, codec: Codec) -> None:
    with replacing(path) as file:
        file.writelines(csv_lines(rows, codec))


def csv_lines(rows: Iterable[Row], codec: Codec) -> Iterator[str]:
    """The header, then the rows of each event (`docs/events.md`).

    Columns that an event does not have are empty.
    """
    line = io.StringIO()
    table = csv.writer(line, lineterminator="\n")
    events = (codec.decode(row.payload) for row in rows)
    lines = (cells for event in events for cells in csv_rows(event, codec))
    columns = columns_of(codec)
    for values in chain([columns], ([cells.get(c, "") for c in columns] for cells in lines)):
        table.writerow(values)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def columns_of(codec: Codec) -> tuple[str, ...]:
    """Return the columns: `COLUMNS`, those that only one family has, then `LATER`."""
    own = (name for family in codec.of_types for name in family.columns if name not in COLUMNS)
    return (*COLUMNS, *dict.fromkeys(own), *LATER)


def csv_rows(event: Event, codec: Codec) -> list[Cells]:
    """The rows of an event: one, or one for each split, class or zone."""
    head: Cells = {
        "source": event.source,
        "offset": event.offset,
        "type": event.type,
        "media_us": event.time.media_us,
        "capture_us": event.time.capture_us,
        "n": event.frame.n if event.frame else "",
        "suspect": True if event.frame and event.frame.suspect else "",
    }
    return [
        {**head, "stream_epoch": _stream_epoch(event, cells), **_without_none(cells)}
        for cells in _cells(event.what, codec)
    ]


def _stream_epoch(event: Event, cells: Cells) -> object:
    """The stream epoch of the event's frame, or else of its track; empty without either."""
    if event.frame is not None:
        return event.frame.stream_epoch
    if isinstance(event.what, SourceEpoch):
        return event.what.stream.stream_epoch
    _, _, name = str(cells.get("track") or "").partition(":")
    return name.partition(":")[0]


def _without_none(cells: Cells) -> Cells:
    return {column: value for column, value in cells.items() if value is not None}


def _cells(what: EventBody, codec: Codec) -> list[Cells]:
    family = codec.types_of(what)
    if family is not None:
        return family.csv_rows(what)
    return [{}] if isinstance(what, Other) else []  # others are of the feed: in no log


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Write a file that appears under its name complete or not at all."""
    special = path.is_symlink() or (path.exists() and not path.is_file())
    if special:  # /dev/stdout or a named pipe cannot be replaced
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    try:
        with drafted(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None
