"""The status table of a run while it goes on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
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


def table(status: "Status", out: Path | None = None) -> "RenderableType":
    """Render the sources above the stages, and below what is wrong."""
    from rich.console import Group
    from rich.text import Text

    from streamvis.runners.status_tables import tables

    return Group(
        *(
            Text(part) if isinstance(part, str) else rich_table(*part)
            for part in tables(status, out)
        )
    )
