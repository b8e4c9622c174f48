"""`streamvis zones`: zones and lines of sources, and what a log says about them."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Json
from streamvis.cli.output import command, put_text, say

app = typer.Typer(help="Count people in zones and over lines.", no_args_is_help=True)
Log = Annotated[Path, Argument(help="events.db, or the directory that holds it.")]


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
