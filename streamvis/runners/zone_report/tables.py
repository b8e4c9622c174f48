"""A report as rows, as tables for people, and as JSON."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from streamvis.runners.tables import Table
from streamvis.runners.zone_report.counts import COUNTED, PERSON, Counts
from streamvis.runners.zone_report.held import HeldNumbers
from streamvis.runners.zone_report.hours import Hour
from streamvis.runners.zone_report.quantiles import TimeHistogram
from streamvis.runners.zone_report.report import ZoneReport
from streamvis.zone_layout import ZoneLayout

DWELL = (
    *("source", "zone", "class", "visits", "cut_short"),
    *("mean_s", "p10_s", "p50_s", "p90_s", "max_s"),
)
NUMBERS = ("source", "clock", "hour", "zone", "seconds", "mean", "max")
MOST_ROWS = 60  # of a table by hour; longer ones are only in files
SHARES = (0.1, 0.5, 0.9)


def count_rows(report: ZoneReport) -> Iterator[tuple[Any, ...]]:
    """Yield the counts by hour, zone or line, and class, as the columns of `counts.csv`."""
    for source, clock, hour, *rest in report.counts.rows():
        yield source, clock, Hour(clock, hour).name, *rest[:-1], int(rest[-1])


def dwell_rows(report: ZoneReport) -> Iterator[tuple[Any, ...]]:
    """Yield the quantiles of the times of stay of each zone and class."""
    counts = report.counts
    for key in sorted({*counts.stays, *counts.cut}):
        stays = counts.stays.get(key, TimeHistogram())
        mean_s = stays.total_s / stays.count if stays.count else None
        times = (mean_s, *map(stays.quantile, SHARES), stays.largest)
        shown = (None if time is None else round(time, 3) for time in times)
        yield *key, stays.count, max(counts.cut.get(key, 0), 0), *shown


def number_rows(numbers: HeldNumbers) -> Iterator[tuple[Any, ...]]:
    """Yield numbers of people by hour and zone: means over the time that is known."""
    for source, clock, hour, zone, *values in numbers.tally.rows():
        yield source, clock, Hour(clock, hour).name, zone, *_means(*values)


def _means(
    seconds: float, people_s: float, expected_s: float, most: float
) -> tuple[float, float, int, float]:
    time_s = max(seconds, 1e-6)
    return round(seconds, 3), round(people_s / time_s, 4), int(most), round(expected_s / time_s, 4)


def tables(report: ZoneReport) -> Iterator[Table]:
    """Yield the tables of zones, lines and hours; none for what the log does not have.

    The zones and lines that a source has at the end of the log are there with zeros too.
    """
    yield from _zones(report)
    yield from _lines(report)
    yield from _hours(report)


def _zones(report: ZoneReport) -> Iterator[Table]:
    counts = _totals(report.counts, "zone", ("event", "reason"))
    for source, zone in _of_layouts(report, "zones") - {key[:2] for key in counts}:
        counts[source, zone, PERSON] = {}
    stays = {row[:3]: row[5:] for row in dwell_rows(report)}
    occupancy, queues = (_by_zone(numbers) for numbers in (report.occupancy, report.queues))
    rows = []
    for source, zone, label in sorted(counts):
        of = counts[source, zone, label]
        left, lost = (of.get(("exit", reason), 0) for reason in ("left", "lost"))
        _, p10, p50, p90, most = stays.get((source, zone, label), (None,) * 5)
        inside, queue = occupancy.get((source, zone)), queues.get((source, zone))
        cut = sum(count for (event, _), count in of.items() if event == "exit") - left - lost
        counted = (of.get(("entry", ""), 0), left, lost, cut)
        numbers = (*(inside or (None, None)), *(queue or (None, None)))
        rows.append((source, zone, label, *counted, p10, p50, p90, most, *numbers))
    if rows:
        columns = (
            *("source", "zone", "class", "entries", "left", "lost", "cut short"),
            *("stay p10 s", "p50 s", "p90 s", "max s"),
            *("mean people", "max people", "mean queue", "max queue"),
        )
        yield Table("Zones", columns, rows)


def _lines(report: ZoneReport) -> Iterator[Table]:
    counts = _totals(report.counts, "line", ("direction",))
    for source, line in _of_layouts(report, "lines") - {key[:2] for key in counts}:
        counts[source, line, PERSON] = {}
    rows = [
        (*key, of.get(("left_to_right",), 0), of.get(("right_to_left",), 0))
        for key, of in sorted(counts.items())
    ]
    if rows:
        yield Table("Lines", ("source", "line", "class", "in", "out"), rows)


def _of_layouts(report: ZoneReport, kind: Literal["zones", "lines"]) -> set[tuple[str, str]]:
    """Return source and name of the zones or lines that the sources have at the end of the log."""
    layouts = {name: scan.layout or ZoneLayout() for name, scan in report.sources.items()}
    return {
        (source, shape.name)
        for source, layout in layouts.items()
        for shape in getattr(layout, kind)
    }


def _totals(
    counts: Counts, kind: str, members: tuple[str, ...]
) -> dict[tuple[str, str, str], dict[tuple[str, ...], int]]:
    """Return the counts of all hours, by source, name and class, then by these members."""
    found: dict[tuple[str, str, str], dict[tuple[str, ...], int]] = {}
    for source, name, label, one, *rest in counts.rows("source", "name", "class", "kind", *members):
        if one == kind:
            found.setdefault((source, name, label), {})[tuple(rest[:-1])] = int(rest[-1])
    return found


def _by_zone(numbers: HeldNumbers) -> dict[tuple[str, str], tuple[float, int]]:
    """Return mean and maximum by source and zone."""
    rows = numbers.tally.rows("source", "zone")
    return {(source, zone): _means(*values)[1:3] for source, zone, *values in rows}


def _hours(report: ZoneReport) -> Iterator[Table]:
    """Yield the counts by hour, where they are few enough to read."""
    by = ("source", "clock", "hour", "name", "class", "event", "direction", "reason")
    rows: list[tuple[object, ...]] = []
    for source, clock, hour, *rest in report.counts.rows(*by):
        if len(rows) == MOST_ROWS:
            return
        rows.append((source, Hour(clock, hour).name, *rest[:-1], int(rest[-1])))
    if rows:
        what = ("class", "event", "direction", "reason")
        columns = ("source", "hour", "zone or line", *what, "count")
        yield Table("By hour", columns, rows)


def json_text(report: ZoneReport) -> Iterator[str]:
    """Yield the report as pieces of one JSON object; rows are objects."""
    units = {name: sorted(scan.units) for name, scan in report.sources.items()}
    head = {"log": str(report.path), "events": report.events, "speed_units": units}
    yield _json(head)[:-1]
    parts = (
        ("counts", (*COUNTED, "count"), count_rows(report)),
        ("dwell", DWELL, dwell_rows(report)),
        ("occupancy", (*NUMBERS, "expected_mean"), number_rows(report.occupancy)),
        ("queue", NUMBERS, (row[:-1] for row in number_rows(report.queues))),
    )
    for name, columns, rows in parts:
        yield f',\n"{name}": ['
        yield from _objects(columns, rows)
        yield "]"
    yield "}\n"


def _objects(columns: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    names = tuple(columns)
    for i, row in enumerate(rows):
        yield (",\n" if i else "\n") + _json(dict(zip(names, row, strict=True)))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
