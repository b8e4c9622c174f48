"""`streamvis events`: follow the feed, or take a log to other tools."""

import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.output import put, reported_errors, say
from streamvis.errors import SourceError, UsageError

if TYPE_CHECKING:
    from streamvis.events.client import Inbox, Subscription
    from streamvis.events.log import LogReader
    from streamvis.events.schema import Event

app = typer.Typer(help="Follow or export events.", no_args_is_help=True)
Source = Annotated[str | None, typer.Option(help="Only events of this source.")]
LONGEST_S = 86400.0
LOOK_S = 0.25  # between two looks at the clock while nothing comes
SILENCE_S = 3.0  # without a message, heartbeats among them: the publisher is gone


class Format(StrEnum):
    jsonl = "jsonl"
    csv = "csv"
    mot = "mot"


@app.command()
def tail(
    connect: Annotated[str, typer.Option(help="The feed's address.")] = "tcp://127.0.0.1:5560",
    source: Source = None,
    family: Annotated[
        str | None, typer.Option(help="Only this family: track, action, scene, source, hb, …")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on when a run ends or its publisher dies.")
    ] = False,
    timeout_s: Annotated[
        float | None, typer.Option(min=0, help="Exit 3 when nothing came for so long.")
    ] = None,
) -> None:
    """Print events as they are published, until the run ends.

    Exit 0 when the run has ended, 3 when its publisher was not heard for 3 s without having said
    so. Where nobody publishes yet, tail waits; --timeout-s says for how long.
    """
    with reported_errors():
        from streamvis.events import schema
        from streamvis.events.client import Subscription
        from streamvis.events.lines import line

        if timeout_s is not None and not timeout_s <= LONGEST_S:  # nor nan
            raise UsageError(f"--timeout-s {timeout_s}: expected seconds, at most {LONGEST_S:g}")
        if family is not None and family not in schema.FAMILIES:
            known = ", ".join(schema.FAMILIES)
            raise UsageError(
                f"--family {family}: no such family of events; expected one of {known}"
            )
        subscription = Subscription(connect, source, family)
        say(f"listening to {connect}; Ctrl-C ends it")
        for event in _until_ended(subscription, timeout_s, wait):
            put(schema.encode(event).decode() if json else line(event))
            sys.stdout.flush()
        say("the run has ended")


def _until_ended(
    subscription: "Subscription", timeout_s: float | None, wait: bool
) -> "Iterator[Event]":
    """Events until the run has ended; SourceError when nobody is heard any more.

    A publisher sends heartbeats each second, so SILENCE_S without a message shows that it is gone.
    """
    where, inbox = subscription.endpoint, subscription.inbox
    heard = time.monotonic()
    warned = False  # that nobody is there
    missing = inbox.source is not None  # perhaps; that is said once
    look_s = min(LOOK_S, SILENCE_S if timeout_s is None else timeout_s)
    for events in subscription.messages(round(look_s * 1000)):
        if events is not None:
            if warned:
                say(f"there is a publisher at {where} now")
            heard, warned = time.monotonic(), False
            yield from events
            if missing and inbox.sources:
                missing = False
                if inbox.source not in inbox.sources:
                    there = ", ".join(inbox.sources)
                    say(f"no source '{inbox.source}' at {where} yet; open there: {there}")
            if inbox.ended and not wait:
                return
            continue
        silent_s = time.monotonic() - heard
        if timeout_s is not None and silent_s >= timeout_s:
            raise SourceError(f"nothing came from {where} for {timeout_s:g} s")
        if warned or silent_s < SILENCE_S:
            continue
        warned = True
        _say_silent(where, inbox, wait)


def _say_silent(where: str, inbox: "Inbox", wait: bool) -> None:
    """Nothing came for SILENCE_S: SourceError when a publisher was there and died."""
    if inbox.ready and not inbox.ended and not wait:
        raise SourceError(
            f"{where}: no heartbeat for {SILENCE_S:g} s, expected one each second; the "
            "publisher died or cannot be reached. With --wait, tail goes on when it is back"
        )
    if inbox.ready:
        say(f"no publisher at {where} any more; waiting for the next")
    else:
        say(f"nothing at {where} yet; waiting for a run")


@app.command()
def export(
    log: Annotated[Path, typer.Argument(help="events.db, or the directory that holds it.")],
    format: Annotated[Format, typer.Option(help="What to write.")] = Format.jsonl,
    out: Annotated[
        Path | None, typer.Option(help="File (mot: directory) to write; default: stdout.")
    ] = None,
    source: Source = None,
    type: Annotated[
        list[str] | None, typer.Option(help="Only this type or family, like track.end or track.")
    ] = None,
    as_told: Annotated[
        bool,
        typer.Option("--as-told", help="mot: tracks as told at the time, corrections left out."),
    ] = False,
) -> None:
    """Write a log as JSON lines, CSV or MOTChallenge text."""
    with reported_errors():
        from streamvis.events import export as exports
        from streamvis.events.corrections import Corrections
        from streamvis.events.log import LogReader

        path = log / "events.db" if log.is_dir() else log
        with LogReader(path) as reader:
            _check_selection(reader, source, type or [])
        if format is Format.mot and out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for written in exports.write_tracks(path, out, as_told=as_told):
                say(f"wrote {written}")
            return
        types = type or (["track"] if format is Format.mot else [])
        with LogReader(path) as reader:
            rows = reader.latest(source, types=types)
            if reader.has_older_runs():
                say(f"{path} holds several runs; the latest of them is exported")
            if format is Format.mot:
                known = Corrections() if as_told else exports.corrections_of(reader, source)
                sys.stdout.writelines(exports.mot_lines(rows, known))
            elif format is Format.csv and out is None:
                sys.stdout.writelines(exports.csv_lines(rows))
            elif format is Format.csv and out is not None:
                exports.write_csv(rows, out)
            elif out is None:
                sys.stdout.writelines(row.decode() for row in exports.jsonl(rows))
            else:
                exports.write_jsonl(rows, out)


def _check_selection(reader: "LogReader", source: str | None, types: list[str]) -> None:
    """Raise UsageError for a source that the log does not hold, or a type that no event has."""
    from streamvis.events import schema

    sources = reader.cursors()
    if source is not None and source not in sources:
        raise UsageError(
            f"--source {source}: not in {reader.path}, which holds {', '.join(sources) or 'none'}"
        )
    if not types:
        return
    there = reader.types()
    known = {*there, *(str(kind.__struct_config__.tag) for kind in schema.KINDS)}
    for name in types:
        if name not in known | {one.partition(".")[0] for one in known}:
            raise UsageError(
                f"--type {name}: no such type or family of events; {reader.path} holds "
                f"{', '.join(there) or 'none'}"
            )
        if not any(one == name or one.startswith(f"{name}.") for one in there):
            say(f"{reader.path} holds no event of type {name}; it holds {', '.join(there)}")
