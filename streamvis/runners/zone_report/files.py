"""Writes a report as CSV files and pictures."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from streamvis.errors import RunError
from streamvis.events.export import replacing
from streamvis.runners.zone_report.counts import COUNTED
from streamvis.runners.zone_report.hours import Hour
from streamvis.runners.zone_report.report import ZoneReport
from streamvis.runners.zone_report.tables import (
    DWELL,
    NUMBERS,
    count_rows,
    dwell_rows,
    number_rows,
)

HEAT = ("source", "clock", "hour", "column", "row", "x", "y", "seconds")


def write_files(report: ZoneReport, out: Path) -> Iterator[Path]:
    """Write the CSV files and the pictures of a report, and yield their paths."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out} cannot be made: {error.strerror}") from None
    files = (
        ("counts.csv", (*COUNTED, "count"), count_rows(report)),
        ("dwell.csv", DWELL, dwell_rows(report)),
        ("occupancy.csv", (*NUMBERS, "expected_mean"), number_rows(report.occupancy)),
        ("queue.csv", NUMBERS, (row[:-1] for row in number_rows(report.queues))),
        ("heatmap.csv", HEAT, heat_rows(report)),
    )
    for name, columns, rows in files:
        _write(out / name, columns, rows)
        yield out / name


def heat_rows(report: ZoneReport) -> Iterator[tuple[Any, ...]]:
    """Yield the seconds in each cell that had any; x and y are shares of the picture."""
    for source, clock, hour, row, column, seconds in report.heat.tally.rows():
        grid = report.heat.grids[source]
        place = ((column + 0.5) / grid.columns, (row + 0.5) / grid.rows)
        where = (f"{share:.5f}" for share in place)
        yield source, clock, Hour(clock, hour).name, column, row, *where, f"{seconds:.3f}"


def _write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with replacing(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)
