"""Writes a report as CSV files and pictures."""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

from streamvis.errors import RunError
from streamvis.events.export import replacing
from streamvis.files import replace
from streamvis.messages import Array
from streamvis.runners.zone_report.counts import COUNTED
from streamvis.runners.zone_report.heat import DAY
from streamvis.runners.zone_report.hours import Hour
from streamvis.runners.zone_report.report import ZoneReport
from streamvis.runners.zone_report.tables import (
    DWELL,
    NUMBERS,
    count_rows,
    dwell_rows,
    number_rows,
)
from streamvis.viz.heat_map import Outline, Page, SmallMap, heat_map
from streamvis.zone_layout import ZoneLayout

HEAT = ("source", "clock", "hour", "column", "row", "x", "y", "seconds")


def write_files(report: ZoneReport, out: Path) -> Iterator[Path]:
    """Write the CSV files and the pictures of a report, and yield their paths."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"--out {out}: the directory cannot be made: {error.strerror}; give it another name"
        ) from None
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
    for source in report.heat.grids:
        path = out / f"heatmap-{source}.png"
        try:
            replace(path, _png(heat_map(heat_page(report, source))), durable=False)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}") from None
        yield path


def heat_rows(report: ZoneReport) -> Iterator[tuple[Any, ...]]:
    """Yield the seconds in each cell that had any; x and y are shares of the picture."""
    for source, clock, hour, row, column, seconds in report.heat.tally.rows():
        grid = report.heat.grids[source]
        place = ((column + 0.5) / grid.columns, (row + 0.5) / grid.rows)
        where = (f"{share:.5f}" for share in place)
        yield source, clock, Hour(clock, hour).name, column, row, *where, f"{seconds:.3f}"


def heat_page(report: ZoneReport, source: str) -> Page:
    """Return the page of a source: all hours, and each where they are few, else of the day."""
    heat = report.heat
    grid, total = heat.grids[source], heat.total(source)
    of_day = heat.hours(source) > DAY
    panels = [
        SmallMap(f"{hour.number}:00" if of_day else hour.name, seconds)
        for hour, seconds in islice(heat.by_hour(source, of_day=of_day), 2 * DAY)
    ]
    layout = report.sources[source].layout or ZoneLayout()
    outlines = [
        Outline(zone.name, zone.polygon, True) for zone in layout.zones if zone.space == "image"
    ] + [
        Outline(line.name, (line.start, line.end), False)
        for line in layout.lines
        if line.space == "image"
    ]
    title = f"{source}: time of presence, {presence(total.sum())}"
    shown = panels if len(panels) > 1 else []
    by = "by hour of the day" if of_day else "by hour"
    return Page(title, total, grid.width / grid.height, outlines, shown, by)


def presence(seconds: float) -> str:
    """Return a time that people were there, all together, in a unit of which there are some."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} person-{unit}"
    return f"{seconds:.0f} person-seconds"


def _png(image: Array) -> bytes:
    return bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


def _write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with replacing(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)
