"""From an event log to files that other tools read: JSON lines, CSV, MOTChallenge text."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

from streamvis.errors import RunError
from streamvis.events import schema
from streamvis.events.corrections import Corrections, settled
from streamvis.events.log import LogReader, Row
from streamvis.events.schema import (
    ActionBegin,
    ActionEnd,
    ActionUpdate,
    Event,
    Track,
    TrackMerge,
    TrackSplit,
    UnknownBegin,
    UnknownEnd,
)

EPOCH_STRIDE = 1_000_000  # track 7 of stream epoch 3 is number 2 000 007 in MOTChallenge text
COLUMNS = (
    *("source", "offset", "type", "media_us", "capture_us", "n", "track", "label"),
    *("left", "top", "right", "bottom", "box_from", "score", "p_exist"),
    *("ground_x_m", "ground_y_m", "reason", "other", "since_us", "p", "window_us"),
)


def jsonl(rows: Iterable[Row]) -> Iterator[bytes]:
    """One JSON object a line, as it was published."""
    for row in rows:
        yield row.payload + b"\n"


def write_jsonl(rows: Iterable[Row], path: Path) -> None:
    with _replacing(path) as file:
        file.writelines(line.decode() for line in jsonl(rows))


def write_csv(rows: Iterable[Row], path: Path) -> None:
    with _replacing(path) as file:
        file.writelines(csv_lines(rows))


def csv_lines(rows: Iterable[Row]) -> Iterator[str]:
    """A line of `COLUMNS`, then one an event, a split one for each of its ids.

    What an event does not have is empty. `other` is who a `track` was: the `kept` of a merge and of
    the end that follows it, the `other` of a split. An action has its `label`, its probability `p`
    and no `track` when it is the whole frame's; something unknown has its box and its `p`. Shares
    of classes, and forecasts, are in JSON lines only.
    """
    line = io.StringIO()
    table = csv.writer(line, lineterminator="\n")
    lines = (values for row in rows for values in _csv_rows(schema.decode(row.payload)))
    for values in chain([COLUMNS], lines):
        table.writerow(values)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _csv_rows(event: Event) -> list[Sequence[object]]:
    head = [
        *(event.source, event.offset, event.type, event.time.media_us, event.time.capture_us),
        event.frame.n if event.frame else "",
    ]
    nothing = [""] * (len(COLUMNS) - len(head) - 5)
    no_action = ["", ""]  # its probability, its window
    match event.what:
        case TrackSplit(splits):
            return [[*head, s.id, *nothing, s.other, s.since_us, *no_action] for s in splits]
        case TrackMerge(merge):
            return [[*head, merge.gone, *nothing, merge.kept, "", *no_action]]
        case ActionBegin(action) | ActionUpdate(action) | ActionEnd(action):
            row = [*head, action.track or "", action.label, *nothing[1:]]
            row[COLUMNS.index("reason")] = getattr(action, "reason", "")
            return [[*row, "", action.since_us, action.p, action.window_us]]
        case UnknownBegin(unknown) | UnknownEnd(unknown):
            cells = {
                "label": "unknown",
                **dict(zip(("left", "top", "right", "bottom"), unknown.box_px, strict=True)),
                "since_us": unknown.since_us,
                "p": unknown.p,
                "reason": getattr(unknown, "reason", ""),
            }
            return [[*head, *(cells.get(column, "") for column in COLUMNS[len(head) :])]]
    track = getattr(event.what, "track", None)
    stream = getattr(event.what, "stream", None)
    box = track.box_px if track else ("",) * 4
    ground = getattr(track, "ground_m", None) or ("", "")
    tail = [
        *(track.id if track else "", getattr(track, "label", ""), *box),
        *(getattr(track, name, "") for name in ("box_from", "score", "p_exist")),
        *(*ground, getattr(track or stream, "reason", ""), getattr(track, "into", None) or "", ""),
        *no_action,
    ]
    return [[*head, *tail]]


def write_tracks(log_path: Path, out_dir: Path, *, as_told: bool = False) -> list[Path]:
    """MOTChallenge text of the latest run of each source; returns the files written.

    One source gives `tracks.txt`, several give `tracks-<source>.txt`. With `update_every_s` set,
    only the frames that were published are there. Corrections that the log has are made, unless
    the tracks are wanted `as_told` at the time, say to score them as those of an online tracker.
    """
    with LogReader(log_path) as log:
        cursors = log.cursors()
        written = []
        for source, cursor in cursors.items():
            path = out_dir / ("tracks.txt" if len(cursors) == 1 else f"tracks-{source}.txt")
            rows = log.events(source, types=["track"], first=cursor.first)
            corrections = Corrections() if as_told else corrections_of(log, source)
            with _replacing(path) as file:
                file.writelines(mot_lines(rows, corrections))
            written.append(path)
    return written


def corrections_of(log: LogReader, source: str | None = None) -> Corrections:
    """All that a log corrects."""
    rows = log.events(source, types=["track.split", "track.merge"])
    return Corrections(schema.decode(row.payload) for row in rows)


def mot_lines(rows: Iterable[Row], corrections: Corrections) -> Iterator[str]:
    """`frame,id,left,top,width,height,p_exist,x,y,z`: frames from 1, metres or -1."""
    events = (schema.decode(row.payload) for row in rows)
    for event, track in settled(events, corrections):
        if event.frame:
            yield _mot_line(event.frame.n + 1, track)


def _mot_line(frame: int, track: Track) -> str:
    _, epoch, number = track.id.split(":")
    left, top, right, bottom = track.box_px
    name = int(number) + EPOCH_STRIDE * (int(epoch) - 1)
    where = f"{track.ground_m[0]:.3f},{track.ground_m[1]:.3f},0" if track.ground_m else "-1,-1,-1"
    return (
        f"{frame},{name},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},"
        f"{track.p_exist:.4f},{where}\n"
    )


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that appears under its name whole, or not at all."""
    special = path.is_symlink() or (path.exists() and not path.is_file())
    if special:  # /dev/stdout, a named pipe: not ours to replace
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            yield file
        draft.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
