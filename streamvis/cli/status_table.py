"""The status table of a run while it goes on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING

from streamvis.cli.output import rich_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from streamvis.runtime.metrics import Status


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
    from rich.console import Group

    sources = [
        (
            *(s.id if not s.ending else f"{s.id} ({s.ending})", s.decoded, s.admitted),
            *(sum(s.dropped.values()), s.decode_errors, f"{s.fps:.1f}"),
            *(f"{s.latency_ms.p50:.0f}", f"{s.latency_ms.p95:.0f}"),
        )
        for s in status.sources
    ]
    columns = ("source", "decoded", "admitted", "dropped", "errors", "fps", "p50 ms", "p95 ms")
    stages = [
        (
            *(g.name, g.count, g.queue, g.restarts, f"{g.fps:.1f}"),
            *(f"{g.service_ms.p50:.1f}", f"{g.service_ms.p95:.1f}"),
        )
        for g in status.stages
    ]
    return Group(
        rich_table(f"{status.wall_s:.0f} s", columns, sources),
        rich_table("", ("stage", "done", "queue", "restarts", "fps", "p50 ms", "p95 ms"), stages),
    )
