"""`streamvis status`: what a run does, and which of its sources is in trouble."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from streamvis.cli.options import Json, RunName
from streamvis.cli.output import put, put_result, put_text, say
from streamvis.errors import RunError

if TYPE_CHECKING:
    from streamvis.runtime.control_files import RunFile
    from streamvis.runtime.metrics import Status

EVERY_S = 1.0  # the run takes stock once a second


def status(
    run: RunName = None,
    json: Json = False,
    watch: Annotated[bool, Option("--watch", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the state of a run: sources, stages, disk, and in words what is wrong."""
    from streamvis.runners.status_tables import tables
    from streamvis.runtime.control_client import find_run

    found = find_run(run)
    if watch:
        _watch(found, json)
        return
    now = _status(found)
    put_result(now, tables(now, _out(found)), json=json)


def _status(run: "RunFile") -> "Status":
    from streamvis.runtime.control import GetStatus, RunStatus
    from streamvis.runtime.control_client import ask

    reply = ask(run, GetStatus())
    if not isinstance(reply, RunStatus):
        raise RunError(f"the run sent another answer than its status ({run.describe()})")
    return reply.status


def _out(run: "RunFile") -> Path | None:
    return Path(run.out) if run.out else None


def _watch(run: "RunFile", json: bool) -> None:
    """Show the status anew each second, until Ctrl-C or until the run has ended."""
    from streamvis.runtime.control_files import is_living

    try:
        if json:
            _print_lines(run)
        else:
            _draw(run)
    except KeyboardInterrupt:
        return
    except RunError:
        if is_living(run):
            raise
        say("the run has ended")


def _print_lines(run: "RunFile") -> None:
    """Print a line of JSON each second."""
    import msgspec

    while True:
        put(msgspec.json.encode(_status(run)).decode())
        sys.stdout.flush()
        time.sleep(EVERY_S)


def _draw(run: "RunFile") -> None:
    """Draw the tables anew on stdout."""
    from rich.console import Console
    from rich.live import Live

    from streamvis.cli.status_table import table
    from streamvis.runners.status_tables import tables

    console = Console(markup=False, emoji=False)
    while not console.is_terminal:
        now = _status(run)
        put_text([*tables(now, _out(run)), ""])
        sys.stdout.flush()
        time.sleep(EVERY_S)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            live.update(table(_status(run), _out(run)), refresh=True)
            time.sleep(EVERY_S)
