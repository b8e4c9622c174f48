"""The status table of a run, and its summary at the end."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamvis.messages import Findings
    from streamvis.runtime.metrics import Status, Summary


class Show(StrEnum):
    auto = "auto"  # a table when stderr is a terminal
    table = "table"
    none = "none"


@contextmanager
def shown(how: Show) -> "Iterator[Callable[[Status], None] | None]":
    """Yield a function that shows a status on stderr, or None where none is shown."""
    if how is Show.none or (how is Show.auto and not sys.stderr.isatty()):
        yield None
    else:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), transient=True, auto_refresh=False) as live:

            def show(status: "Status") -> None:
                with suppress(OSError):  # the terminal was closed: SIGHUP is on its way
                    live.update(table(status), refresh=True)

            yield show


def table(status: "Status") -> "RenderableType":
    """Render the sources above the stages."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    sources = Table(box=box.SIMPLE_HEAD, title=f"{status.wall_s:.0f} s", title_justify="left")
    for name in ("source", "decoded", "admitted", "dropped", "errors", "fps", "p50 ms", "p95 ms"):
        sources.add_column(name, justify="left" if name == "source" else "right")
    for s in status.sources:
        dropped = str(sum(s.dropped.values()))
        latency = (f"{s.latency_ms.p50:.0f}", f"{s.latency_ms.p95:.0f}")
        counts = (str(s.decoded), str(s.admitted), dropped, str(s.decode_errors))
        sources.add_row(
            s.id if not s.ending else f"{s.id} ({s.ending})", *counts, f"{s.fps:.1f}", *latency
        )
    stages = Table(box=box.SIMPLE_HEAD)
    for name in ("stage", "done", "queue", "restarts", "fps", "p50 ms", "p95 ms"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    for g in status.stages:
        times = (f"{g.service_ms.p50:.1f}", f"{g.service_ms.p95:.1f}")
        stages.add_row(g.name, str(g.count), str(g.queue), str(g.restarts), f"{g.fps:.1f}", *times)
    return Group(sources, stages)


def put_summary(summary: "Summary") -> None:
    """Print the summary of a run as tables."""
    from streamvis.cli.output import put_table

    put_table(
        "",
        ("source", "decoded", "admitted", "dropped", "errors", "ending", "fps", "p50 ms", "p99 ms"),
        [
            (
                *(s.id, s.decoded, s.admitted, sum(s.dropped.values()), s.decode_errors),
                *(
                    s.ending or "-",
                    s.fps,
                    round(s.latency_ms.p50),
                    round(s.latency_ms.p99),
                ),
            )
            for s in summary.sources
        ],
    )
    put_table(
        "",
        ("stage", "done", "skipped", "restarts", "fps", "p50 ms", "p95 ms", "p99 ms"),
        [
            (
                *(g.name, g.count, g.skipped, g.restarts, g.fps),
                *(g.service_ms.p50, g.service_ms.p95, g.service_ms.p99),
            )
            for g in summary.stages
        ],
    )
    put_findings(summary)


def put_findings(summary: "Summary") -> None:
    """Print the findings of each source: people, tracks, actions, forecasts."""
    from streamvis.cli.output import put_table

    found = {s.id: s.found for s in summary.sources if s.found is not None}
    columns = {name: [cell(one) for one in found.values()] for name, cell in _COLUMNS}
    filled = {name: cells for name, cells in columns.items() if cells != [None] * len(found)}
    rows = zip(found, *filled.values(), strict=True)
    if filled:
        put_table(
            "",
            ("source", *filled),
            [["-" if cell is None else cell for cell in row] for row in rows],
        )


def _longest(found: "Findings") -> str | None:
    if found.longest is None:
        return None
    return f"{found.longest.track}, {found.longest.seconds:.1f} s"


def _busiest(found: "Findings") -> str | None:
    if found.busiest is None:
        return None
    return f"{found.busiest.people} at {moment(found.busiest.media_us, found.busiest.capture_us)}"


def _actions(found: "Findings") -> str | None:
    if found.actions is None:
        return None
    return ", ".join(f"{label} {count}" for label, count in found.actions.items()) or "none"


def _forecasts(found: "Findings") -> str | None:
    if found.forecasts is None:
        return None
    scores = found.forecasts.items()
    return "; ".join(f"{us / 1e6:g} s: {s.miou:.3f} of {s.count}" for us, s in scores) or "none"


_COLUMNS: "tuple[tuple[str, Callable[[Findings], int | str | None]], ...]" = (
    ("people", lambda found: found.people),
    ("tracks", lambda found: found.tracks),
    ("merges", lambda found: found.merges),
    ("splits", lambda found: found.splits),
    ("longest stay", _longest),
    ("busiest moment", _busiest),
    ("actions", _actions),
    ("unknown objects", lambda found: found.unknown),
    ("mIoU of forecasts", _forecasts),
)


def moment(media_us: int, capture_us: int) -> str:
    """Format the wall clock in the local time zone where it is known, else the media time."""
    if capture_us:
        local = datetime.fromtimestamp(capture_us // 1_000_000, UTC).astimezone()
        return local.isoformat(" ")
    seconds, tenths = divmod(round(media_us / 100_000), 10)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}.{tenths}"
