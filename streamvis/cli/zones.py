"""`streamvis zones`: zones and lines, checked, listed, changed in a run, reported from a log."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Json, RunName
from streamvis.cli.output import check_writable, command, put, put_result, put_text, say, write_png
from streamvis.errors import UsageError

if TYPE_CHECKING:
    from streamvis.viz.zones import Size

app = typer.Typer(help="Count people in zones and over lines.", no_args_is_help=True)
Log = Annotated[Path, Argument(help="events.db, or the directory that holds it.")]
LARGEST = 8192  # px, side of a grey still


@command(app)
def check(
    file: Annotated[Path, Argument(help="A zones file, or a sources file with `zones`.")],
    source: Annotated[
        str | None,
        Option(help="Draw on its first picture: as of run --source; an id of a sources file."),
    ] = None,
    picture: Annotated[Path | None, Option(help="Draw them, PNG.")] = None,
    size: Annotated[
        str | None, Option(metavar="WxH", help="Draw on grey of this size, px; default 1280x720.")
    ] = None,
    json: Json = False,
) -> None:
    """Check zones, print them, and draw them with --picture on a still."""
    from streamvis.runners import zones

    if picture is not None:
        check_writable(picture)
    shape = None if size is None else _size(size)
    found = zones.checked(file, source)
    listed = [(one.source, one.layout) for one in found]
    if picture is not None and len(found) > 1:
        names = ", ".join(str(one.source) for one in found)
        raise UsageError(f"{file} has zones of {names}; draw those of one of them with --source")
    image = zones.still(found[0], shape) if picture is not None else None
    put_result([one.as_json() for one in found], [zones.table(listed)], json=json)
    if not any(one.layout.zones or one.layout.lines for one in found):
        say(f"{file} has no zones and no lines: nothing is counted")
    if picture is not None and image is not None:
        write_png(picture, image)


@command(app, "list")
def list_(run: RunName = None, json: Json = False) -> None:
    """Print the zones and lines of a run, and where each source has them from."""
    import msgspec

    from streamvis.runners import zones
    from streamvis.runtime.control_client import ask, find_run
    from streamvis.runtime.control_zones import ListZones, ZoneList

    reply = ask(find_run(run), ListZones())
    sources = reply.sources if isinstance(reply, ZoneList) else []
    text = [
        zones.table([(one.id, one.layout)], f"{one.id}, from {_place(one.origin)}")
        for one in sources
    ]
    found = [
        {"source": one.id, "from": one.origin, **msgspec.to_builtins(one.layout)} for one in sources
    ]
    put_result(found, text, json=json)


@command(app, "set")
def set_(
    source: Annotated[str, Argument(help="Its id, as `sources list` prints it.")],
    file: Annotated[Path, Argument(help="A zones file with its new zones and lines.")],
    run: RunName = None,
) -> None:
    """Give a source of a run other zones and lines, from its next frame on.

    They are written to the zones file that the source has, without its comments. Where it has
    none, or shares it with other sources, they are lost when the run ends.
    """
    from streamvis.config import read_zones
    from streamvis.runtime.control_client import ask, find_run
    from streamvis.runtime.control_zones import ChangeZones, ZonesChanged

    layout = read_zones(file)
    reply = ask(find_run(run), ChangeZones(source, layout))
    if isinstance(reply, ZonesChanged):
        say(str(reply))


@command(app)
def report(
    log: Log,
    out: Annotated[
        Path | None, Option(help="Directory for CSV files and a heat map of each source.")
    ] = None,
    source: Annotated[str | None, Option(help="Only this source.")] = None,
    queue_speed: Annotated[
        float,
        Option(
            min=0,
            max=100,
            help="Who is slower stands in a queue: m/s with a ground plane, else heights/s.",
        ),
    ] = 0.3,
    columns: Annotated[int, Option(min=1, max=1000, help="Cells of the heat map in a row.")] = 64,
    json: Json = False,
) -> None:
    """Report a log: counts by hour and class, times of stay, occupancy, queues, a heat map.

    Counts are those after all corrections. The log may be of any size, and a run may be writing it.
    """
    from streamvis.runners.zone_report.files import write_files
    from streamvis.runners.zone_report.notes import notes
    from streamvis.runners.zone_report.report import Options, report_of
    from streamvis.runners.zone_report.tables import json_text, tables

    path = log / "events.db" if log.is_dir() else log
    options = Options(source=source, queue_speed=queue_speed, columns=columns)
    with report_of(path, options) as found:
        if json:
            sys.stdout.writelines(json_text(found))
        else:
            put_text(tables(found))
        for note in notes(found):
            say(note)
        if out is not None:
            for written in write_files(found, out):
                say(f"wrote {written}")


@command(app)
def replay(
    log: Log,
    zones: Annotated[
        list[str], Option(metavar="[ID=]FILE", help="A zones file, of every source or of one.")
    ],
    source: Annotated[str | None, Option(help="Only this source.")] = None,
    out: Annotated[Path | None, Option(help="A log to write the events to.")] = None,
    jsonl: Annotated[bool, Option("--jsonl", help="Print the events as JSON lines.")] = False,
    set: Annotated[
        list[str] | None, Option(help="key=value of the stage: update_s=5; repeatable.")
    ] = None,
) -> None:
    """Compute the events of zones and lines again from the tracks in a log.

    They are those that the run would have published with these zones. Without --out and --jsonl
    they are printed as `events tail` does.
    """
    from time import perf_counter

    from streamvis.events.envelope import encode
    from streamvis.events.lines import line
    from streamvis.events.log import LogReader
    from streamvis.runners.settings import configure
    from streamvis.runners.zone_replay.layouts import layouts_of
    from streamvis.runners.zone_replay.output import write_log, zone_events
    from streamvis.runners.zone_replay.replay import ZoneReplay
    from streamvis.stages import event_codec
    from streamvis.stages.zones import ZoneCounter

    settings = configure(ZoneCounter, {}, set or [])
    codec, count, start = event_codec(), 0, perf_counter()
    with LogReader(log / "events.db" if log.is_dir() else log) as reader:
        again = ZoneReplay(reader, layouts_of(reader, zones, source), settings)
        if out is not None:
            count = write_log(again, out, reader.cursors())
        else:
            for event in zone_events(again):
                count += 1
                put(encode(event).decode() if jsonl else line(event, codec))
    for note in again.notes():
        say(note)
    took_s = max(perf_counter() - start, 1e-6)
    say(
        f"{count} events of zones and lines, of {again.played_s:.1f} s in {took_s:.1f} s "
        f"({again.played_s / took_s:.0f} times real time)"
    )
    if out is not None:
        say(f"wrote {out}")


def _place(origin: str) -> str:
    """Return where zones are from, in words."""
    words = {"set": "`zones set`, in no file", "pipeline": "the pipeline"}
    return (words | {"sources file": "the sources file"}).get(origin, origin)


def _size(text: str) -> "Size":
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    width, height = (int(side) for side in match.groups()) if match else (0, 0)
    if not (16 <= width <= LARGEST and 16 <= height <= LARGEST):
        raise UsageError(f"--size {text}: expected WxH in px, 16 to {LARGEST} each, as 1280x720")
    return width, height
