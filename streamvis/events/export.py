"""Export an event log as JSON lines, CSV or MOTChallenge text."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, assert_never

import msgspec

from streamvis.errors import RunError
from streamvis.events import schema
from streamvis.events.corrections import Corrections, corrected_tracks
from streamvis.events.log import LogReader, Row
from streamvis.events.schema import Box, Event, EventBody, Track

UNKNOWN = "unknown"  # label of out-of-distribution regions
EPOCH_STRIDE = 1_000_000  # track 7 of stream epoch 3 is number 2 000 007 in MOTChallenge text
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
Cells = dict[str, object]  # by column


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
    """The header `COLUMNS`, then the rows of each event (`docs/events.md`).

    Columns that an event does not have are empty.
    """
    line = io.StringIO()
    table = csv.writer(line, lineterminator="\n")
    events = (schema.decode(row.payload) for row in rows)
    lines = (cells for event in events for cells in csv_rows(event))
    for values in chain([COLUMNS], ([cells.get(c, "") for c in COLUMNS] for cells in lines)):
        table.writerow(values)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def csv_rows(event: Event) -> list[Cells]:
    """The rows of an event: one, or one for each split, class or zone."""
    head: Cells = {
        "source": event.source,
        "offset": event.offset,
        "type": event.type,
        "media_us": event.time.media_us,
        "capture_us": event.time.capture_us,
        "n": event.frame.n if event.frame else "",
    }
    return [
        {**head, "stream_epoch": _stream_epoch(event, cells), **_without_none(cells)}
        for cells in _cells(event.what)
    ]


def _stream_epoch(event: Event, cells: Cells) -> object:
    """The stream epoch of the event's frame, or else of its track; empty without either."""
    if event.frame is not None:
        return event.frame.stream_epoch
    if isinstance(event.what, schema.SourceEpoch):
        return event.what.stream.stream_epoch
    _, _, name = str(cells.get("track") or "").partition(":")
    return name.partition(":")[0]


def _without_none(cells: Cells) -> Cells:
    return {column: value for column, value in cells.items() if value is not None}


def _cells(what: EventBody) -> list[Cells]:
    match what:
        case schema.TrackBegin(track) | schema.TrackUpdate(track):
            return [_track(track)]
        case schema.TrackEnd(ended):
            known = _members(ended, "reason", "first_seen_us", "last_seen_us", "age_s")
            return [{"track": ended.id, **_box(ended.box_px), **known, "other": ended.into}]
        case schema.TrackSplit(splits):
            return [{"track": s.id, "other": s.other, "since_us": s.since_us} for s in splits]
        case schema.TrackMerge(merge):
            return [{"track": merge.gone, "other": merge.kept}]
        case schema.ActionBegin(action) | schema.ActionUpdate(action):
            return [_members(action, "track", "label", "since_us", "p", "window_us")]
        case schema.ActionEnd(over):
            columns = ("track", "label", "since_us", "p", "window_us", "p_max", "reason")
            return [_members(over, *columns)]
        case (
            schema.SceneUpdate()
            | schema.UnknownBegin()
            | schema.UnknownEnd()
            | schema.ForecastSegmentation()
            | schema.ForecastScored()
        ):
            return _scene(what)
        case schema.Heartbeat() | schema.Lost():  # of the feed: in no log
            return []
        case schema.Other():
            return [{}]
        case _:
            return [_source(what)]


def _track(track: Track) -> Cells:
    ground_x_m, ground_y_m = track.ground_m or (None, None)
    vel_x_m_s, vel_y_m_s = track.vel_m_s or (None, None)
    return {
        "track": track.id,
        **_box(track.box_px),
        **_members(track, "label", "box_from", "score", "p_exist"),
        **_members(track, "speed_m_s", "first_seen_us", "age_s"),
        "ground_x_m": ground_x_m,
        "ground_y_m": ground_y_m,
        "vel_x_m_s": vel_x_m_s,
        "vel_y_m_s": vel_y_m_s,
        "vel_x_px_s": track.vel_px_s[0],
        "vel_y_px_s": track.vel_px_s[1],
    }


def _scene(what: schema.SceneBody) -> list[Cells]:
    match what:
        case schema.SceneUpdate(scene):
            rows = _shares(scene.classes)
            if scene.unknown is None:
                return rows
            largest = scene.unknown.largest
            where = {**_box(largest.box_px), "p": largest.p} if largest else {}
            return [*rows, {"label": UNKNOWN, "share": scene.unknown.share, **where}]
        case schema.UnknownBegin(seen):
            known = _members(seen, "share", "p", "since_us")
            return [{"label": UNKNOWN, **_box(seen.box_px), **known}]
        case schema.UnknownEnd(over):
            known = _members(over, "share", "p", "since_us", "share_max", "reason")
            return [{"label": UNKNOWN, **_box(over.box_px), **known}]
        case schema.ForecastSegmentation(outlook):
            zones: list[Cells] = [{"zone": zone.zone, "p": zone.p} for zone in outlook.zones]
            ahead: Cells = {"horizon_us": outlook.horizon_us}
            return [{**ahead, **row} for row in [*_shares(outlook.classes), *zones]]
        case schema.ForecastScored(score):
            return [_members(score, "horizon_us", "made_us", "miou", "accuracy")]
        case _:
            assert_never(what)


def _source(what: schema.SourceBody) -> Cells:
    match what:
        case schema.SourceOnline(stream):
            known = _members(stream, "label", "fps", "live")
            return {**known, "width": stream.w, "height": stream.h}
        case schema.SourceGap(gap):
            numbers = {"first_n": gap.first, "last_n": gap.last, "count": gap.count}
            return {"reason": gap.reason, **numbers}
        case schema.SourceEof(finish):
            return {"frames": finish.frames}
        case (
            schema.SourceConnecting()
            | schema.SourceStalled()
            | schema.SourceOffline()
            | schema.SourceEpoch()
        ):
            return {"reason": what.stream.reason}
        case _:
            assert_never(what)


def _members(value: msgspec.Struct, *names: str) -> Cells:
    """The named members as cells of the same names."""
    return {name: getattr(value, name) for name in names}


def _box(box: Box) -> Cells:
    return dict(zip(("left", "top", "right", "bottom"), box, strict=True))


def _shares(classes: dict[str, float]) -> list[Cells]:
    return [{"label": label, "share": share} for label, share in classes.items()]


def write_tracks(log_path: Path, out_dir: Path, *, as_published: bool = False) -> list[Path]:
    """MOTChallenge text of the latest run in the log; returns the files written.

    One source gives `tracks.txt`, several give `tracks-<source>.txt`. With `update_every_s` set,
    the files have only the published frames. Corrections in the log are applied, unless
    `as_published`: tracks as first published, to score an online tracker.
    """
    with LogReader(log_path) as log:
        sources = log.sources()
        written = []
        for source in sources:
            path = out_dir / ("tracks.txt" if len(sources) == 1 else f"tracks-{source}.txt")
            rows = log.latest(source, types=["track"])
            corrections = Corrections() if as_published else corrections_of(log, source)
            with _replacing(path) as file:
                file.writelines(mot_lines(rows, corrections))
            written.append(path)
    return written


def corrections_of(log: LogReader, source: str | None = None) -> Corrections:
    """The corrections of the latest run in a log."""
    rows = log.latest(source, types=["track.split", "track.merge"])
    return Corrections(schema.decode(row.payload) for row in rows)


def mot_lines(rows: Iterable[Row], corrections: Corrections) -> Iterator[str]:
    """`frame,id,left,top,width,height,p_exist,x,y,z`: frames from 1, metres or -1."""
    events = (schema.decode(row.payload) for row in rows)
    for event, track in corrected_tracks(events, corrections):
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
    """Write a file that appears under its name complete or not at all."""
    special = path.is_symlink() or (path.exists() and not path.is_file())
    if special:  # /dev/stdout or a named pipe cannot be replaced
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
