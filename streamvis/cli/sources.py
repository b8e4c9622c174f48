"""`streamvis sources`: which sources a run has, and change that while it goes on."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Json, RunName
from streamvis.cli.output import command, put_result, say
from streamvis.errors import RunError, UsageError

if TYPE_CHECKING:
    from streamvis.runners.tables import Table
    from streamvis.runtime.control import ListedSource, Request
    from streamvis.runtime.control_files import RunFile
    from streamvis.sources.spec import SourceSpec

app = typer.Typer(help="List, add, remove and restart the sources of a run.", no_args_is_help=True)
Id = Annotated[str, Argument(help="Its id, as `sources list` prints it.")]
ENDS_S = 15.0  # in which a source that is removed has ended: a drain takes at most ten
LONGEST_LINE = 2**16


@command(app, "list")
def list_(run: RunName = None, json: Json = False) -> None:
    """Print the sources of a run, those that have ended included."""
    from streamvis.runtime.control_client import find_run

    sources = _sources(find_run(run))
    put_result(sources, [_table(sources)], json=json)


@command(app)
def add(
    source: Annotated[
        str, Argument(help="ID=URI#settings as of run --source; - reads it from stdin.")
    ],
    from_: Annotated[
        Path | None, Option("--from", help="A sources file: SOURCE is the id of one in it.")
    ] = None,
    run: RunName = None,
) -> None:
    """Add a source to a run, or start one again that has ended.

    A password needs no place on the command line: name a file with password_file=FILE, or write
    `-` and give ID=URI#settings on stdin.
    """
    from streamvis.runtime.control import Add
    from streamvis.runtime.control_client import find_run

    specs = _given(source) if from_ is None else [_listed_in(from_, source)]
    found = find_run(run)
    for spec in specs:
        _change(found, Add(spec))


@command(app)
def remove(source: Id, run: RunName = None) -> None:
    """Remove a source from a run: its frames in flight are finished, and its tracks end."""
    from streamvis.runtime.control import Remove
    from streamvis.runtime.control_client import find_run

    found = find_run(run)
    _change(found, Remove(source))
    deadline = time.monotonic() + ENDS_S
    while _is_there(found, source):
        if time.monotonic() > deadline:
            raise RunError(f"source '{source}' has not ended within {ENDS_S:g} s; see the log")
        time.sleep(0.1)


@command(app)
def restart(source: Id, run: RunName = None) -> None:
    """Close a source and connect to it again at once."""
    from streamvis.runtime.control import Restart
    from streamvis.runtime.control_client import find_run

    _change(find_run(run), Restart(source))


@command(app)
def reload(run: RunName = None) -> None:
    """Have a run read its sources file again and apply the difference, as SIGHUP does."""
    from streamvis.runtime.control import Reload
    from streamvis.runtime.control_client import find_run

    _change(find_run(run), Reload())


def _change(run: "RunFile", request: "Request") -> None:
    """Send a request, and say on stderr what it has changed."""
    from streamvis.runtime.control import Changed
    from streamvis.runtime.control_client import ask

    reply = ask(run, request)
    if isinstance(reply, Changed):
        say(str(reply))


def _sources(run: "RunFile") -> "list[ListedSource]":
    from streamvis.runtime.control import ListSources, SourceList
    from streamvis.runtime.control_client import ask

    reply = ask(run, ListSources())
    return reply.sources if isinstance(reply, SourceList) else []


def _is_there(run: "RunFile", source: str) -> bool:
    """Whether a source of a run has not ended."""
    from streamvis.runtime.control_files import is_living

    try:
        return any(s.id == source and s.state != "ended" for s in _sources(run))
    except RunError:
        if is_living(run):
            raise
        return False  # a run ends with its last source


def _table(sources: "list[ListedSource]") -> "Table":
    from streamvis.runners.tables import Table
    from streamvis.runtime.faults import duration

    rows = [(s.id, s.state, duration(s.state_s), s.kind, s.origin, s.label) for s in sources]
    return Table("", ("source", "state", "since", "kind", "from", "address"), rows)


def _given(text: str) -> "list[SourceSpec]":
    """Resolve a source as `run --source` does; paths are those of this directory, not the run's."""
    import msgspec

    from streamvis.sources import resolve

    if text == "-":
        text = sys.stdin.readline(LONGEST_LINE).strip()
        if not text:
            raise UsageError("no source on stdin; expected one line, ID=URI#settings")
    return [
        msgspec.structs.replace(spec, uri=os.path.abspath(spec.uri))
        if spec.kind in {"file", "images"}
        else spec
        for spec in resolve([text])
    ]


def _listed_in(path: Path, name: str) -> "SourceSpec":
    from streamvis.config import load_site
    from streamvis.parsing import alternatives

    specs = {spec.id: spec for spec in load_site(path.absolute()).specs()}
    if name not in specs:
        raise UsageError(f"{path} has no source '{name}'{alternatives(name, specs)}")
    return specs[name]
