"""`streamvis events`: follow the feed, replay a log or take it to other tools, describe events."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from streamvis.cli.output import command, put, put_json, say
from streamvis.errors import UsageError
from streamvis.files import is_same

app = typer.Typer(help="Follow or export events.", no_args_is_help=True)
Source = Annotated[str | None, Option(help="Only events of this source.")]
LONGEST_S = 86400.0
FEED = "tcp://127.0.0.1:5560"


def _log_in(place: Path) -> Path:
    """Return the log that a directory holds, or that the path is."""
    return place / "events.db" if os.path.isdir(place) else place  # False where it cannot be read


class Format(StrEnum):
    jsonl = "jsonl"
    csv = "csv"
    mot = "mot"


@command(app)
def tail(
    connect: Annotated[
        list[str] | None,
        Option(help="The feed's address; repeatable.", show_default="tcp://127.0.0.1:5560"),
    ] = None,
    source: Source = None,
    family: Annotated[
        list[str] | None,
        Option(
            help="Only this family: track, zone, line, action, scene, source, hb, …; repeatable."
        ),
    ] = None,
    json: Annotated[bool, Option("--json", help="Print JSON lines.")] = False,
    wait: Annotated[
        bool, Option("--wait", help="Go on when a run ends or its publisher dies.")
    ] = False,
    timeout_s: Annotated[
        float | None, Option(min=0, help="Exit 3 when nothing came for so long.")
    ] = None,
    since: Annotated[
        str, Option(help="now, snapshot, an offset (with --source), or a file with a cursor.")
    ] = "now",
    keys: Annotated[Path | None, Option(help="The client's keys, from streamvis keys new.")] = None,
) -> None:
    """Print events as they are published, until the run ends.

    Of several feeds, those of hubs that share the sources, until all runs have ended. With --since
    snapshot the latest events of all that goes on come first, with an offset those of
    the log from there on.

    Exit 0 when the run has ended, 3 when its publisher was not heard for 3 s without having said
    so. Where nobody publishes yet, tail waits; --timeout-s says for how long.
    """
    from streamvis.events.client import Subscription
    from streamvis.events.envelope import Snapshot, encode
    from streamvis.events.follow import follow_all
    from streamvis.events.lines import line
    from streamvis.events.selection import check_families, check_source, is_of, start_of
    from streamvis.stages import event_codec
    from streamvis.transport.keys import client_keys

    if timeout_s is not None and not timeout_s <= LONGEST_S:  # nor nan
        raise UsageError(f"--timeout-s {timeout_s}: expected seconds, at most {LONGEST_S:g}")
    codec = event_codec()
    families = frozenset(family or [])
    check_families(families, codec)
    check_source(source)
    known = client_keys(keys) if keys else None
    addresses = list(dict.fromkeys(connect or [FEED]))
    begin = start_of(since, source)
    if len(addresses) > 1 and since not in ("now", "snapshot"):
        raise UsageError(
            f"--since {since}: expected now or snapshot with several feeds, since an offset or a "
            "cursor is one of a single log"
        )
    only = next(iter(families)) if len(families) == 1 else None  # of several, all come
    subscriptions = [
        Subscription(address, codec, source, only, since=begin, keys=known) for address in addresses
    ]
    for subscription in subscriptions:
        subscription.check_address()
    say(f"listening to {', '.join(addresses)}; Ctrl-C ends it")
    for event in follow_all(subscriptions, timeout_s, wait=wait):
        if isinstance(event, str):
            say(event)
            continue
        for one in event.what.events if isinstance(event.what, Snapshot) else (event,):
            if is_of(one, families):
                put(encode(one).decode() if json else line(one, codec))
        sys.stdout.flush()
    say("the run has ended" if len(addresses) == 1 else "all runs have ended")


@command(app)
def replay(
    log: Annotated[Path, Argument(help="events.db, or the directory that holds it.")],
    to: Annotated[str, Option(help="stdout, or the address of a feed to publish on.")] = "stdout",
    speed: Annotated[
        str, Option(help="Seconds of media time in a second, such as 1 or 10; or max.")
    ] = "1",
    source: Source = None,
    type: Annotated[
        list[str] | None, Option(help="Only this type or family, like track.end or track.")
    ] = None,
    wait_s: Annotated[
        float, Option(min=0, max=LONGEST_S, help="Wait so long for a subscriber of the feed.")
    ] = 10.0,
) -> None:
    """Replay the events of a log at the pace of its media time.

    They keep their ids, numbers and times. On a feed, --type takes families: a family without some
    of its events would look as if they had been lost.
    """
    from streamvis.events.log import LogReader
    from streamvis.events.playback import paced, publish, speed_of
    from streamvis.events.selection import absent_types
    from streamvis.stages import event_codec

    pace, types = speed_of(speed), type or []
    if to != "stdout" and any("." in one for one in types):
        raise UsageError(f"--type {' '.join(types)}: expected families with --to {to}")
    with LogReader(_log_in(log)) as reader:
        for note in absent_types(reader, source, types, event_codec()):
            say(note)
        rows = paced(reader.latest(source, types=types), pace)
        if to != "stdout":
            for note in publish(reader, rows, to, wait_s):
                say(note)
            return
        for row in rows:
            put(row.payload.decode())
            if pace is not None:
                sys.stdout.flush()


@command(app)
def vacuum(
    log: Annotated[Path, Argument(help="events.db, or the directory that holds it.")],
) -> None:
    """Return the space of evicted events to the disk, also while a run writes to the log."""
    from contextlib import nullcontext

    from streamvis.events.vacuum import is_rewritten, vacuum
    from streamvis.runtime.output import locked

    path = _log_in(log)
    with locked(path.parent) if is_rewritten(path) else nullcontext():
        before, after = vacuum(path)
    put(f"{path}: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB now")


@command(app)
def merge(
    out: Annotated[Path, Argument(help="The new log: a file NAME.db, or a new directory for it.")],
    logs: Annotated[
        list[Path], Argument(metavar="IN...", help="events.db, or directories that hold one.")
    ],
) -> None:
    """Merge the logs of several hubs into a new one, which all commands read like any other.

    No source may be in two of them. A log that a run still writes is read as it is now.
    """
    from streamvis.events.merge import merge

    path = out if out.suffix == ".db" else out / "events.db"
    merged = merge(path, [_log_in(log) for log in logs])
    if merged.open:
        say(f"without their end, as in the logs: {', '.join(merged.open)}")
    put(f"{path}: {merged.events} events of {len(merged.sources)} sources")


@command(app)
def export(
    log: Annotated[Path, Argument(help="events.db, or the directory that holds it.")],
    format: Annotated[Format, Option(help="What to write.")] = Format.jsonl,
    out: Annotated[
        Path | None, Option(help="File (mot: directory) to write; default: stdout.")
    ] = None,
    source: Source = None,
    type: Annotated[
        list[str] | None, Option(help="Only this type or family, like track.end or track.")
    ] = None,
    as_published: Annotated[
        bool,
        Option("--as-published", help="mot: tracks as first published, corrections left out."),
    ] = False,
) -> None:
    """Write a log as JSON lines, CSV or MOTChallenge text."""
    from streamvis.events import export as exports
    from streamvis.events.log import LogReader
    from streamvis.events.selection import absent_types
    from streamvis.runtime.output import make_directory
    from streamvis.stages import event_codec
    from streamvis.stages.track import mot
    from streamvis.stages.track.corrections import Corrections

    path = _log_in(log)
    if out is not None and is_same(out, path):
        raise UsageError(f"--out {out}: the events would replace the log; choose another file")
    with LogReader(path) as reader:
        for note in absent_types(reader, source, type or [], event_codec()):
            say(note)
    if format is Format.mot and type:
        raise UsageError("--format mot has the tracks alone: leave out --type")
    if format is not Format.mot and out is not None and out.is_dir():
        raise UsageError(
            f"--out {out} is a directory; expected a file, such as {out / 'events'}.{format}"
        )
    if format is Format.mot and out is not None:
        make_directory(out)
        for written in mot.write_tracks(path, out, source, as_published=as_published):
            say(f"wrote {written}")
        return
    types = ["track"] if format is Format.mot else type or []
    with LogReader(path) as reader:
        rows = reader.latest(source, types=types)
        if reader.has_older_runs():
            say(f"{path} holds several runs; the latest of them is exported")
        if format is Format.mot:
            known = Corrections() if as_published else mot.corrections_of(reader, source)
            sys.stdout.writelines(mot.mot_lines(rows, known))
        elif format is Format.csv and out is None:
            sys.stdout.writelines(exports.csv_lines(rows, event_codec()))
        elif format is Format.csv and out is not None:
            exports.write_csv(rows, out, event_codec())
        elif out is None:
            sys.stdout.writelines(row.decode() for row in exports.jsonl(rows))
        else:
            exports.write_jsonl(rows, out)


@command(app)
def schema(
    type: Annotated[
        list[str] | None, Option(help="Only this type or family, like track.end or track.")
    ] = None,
) -> None:
    """Print the JSON Schema (2020-12) of the events, those of installed packages included."""
    from streamvis.stages import event_codec

    put_json(event_codec().json_schema(*type or ()))
