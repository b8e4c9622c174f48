"""`streamvis events`: follow the feed, or take a log to other tools."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.report import put, reported_errors, say
from streamvis.errors import UsageError

if TYPE_CHECKING:
    from streamvis.events.schema import Event

app = typer.Typer(help="Follow or export events.", no_args_is_help=True)
Source = Annotated[str | None, typer.Option(help="Only events of this source.")]
LONGEST_S = 86400.0


class Format(StrEnum):
    jsonl = "jsonl"
    csv = "csv"
    mot = "mot"


@app.command()
def tail(
    connect: Annotated[str, typer.Option(help="The feed's address.")] = "tcp://127.0.0.1:5560",
    source: Source = None,
    family: Annotated[str | None, typer.Option(help="Only this family: track, source, hb.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    timeout_s: Annotated[
        float | None, typer.Option(min=0, help="Stop when not even a heartbeat came for so long.")
    ] = None,
) -> None:
    """Print events as they are published, until Ctrl-C."""
    with reported_errors():
        from streamvis.events import schema
        from streamvis.events.client import Subscription

        if timeout_s is not None and not timeout_s <= LONGEST_S:  # nor nan
            raise UsageError(f"--timeout-s {timeout_s}: expected seconds, at most {LONGEST_S:g}")
        subscription = Subscription(connect, source, family, timeout_s)
        say(f"listening to {connect}; Ctrl-C ends it")
        for event in subscription:
            put(schema.encode(event).decode() if json else line(event))
            sys.stdout.flush()
        say(f"nothing came for {timeout_s:g} s")


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
        if format is Format.mot and out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for written in exports.write_tracks(path, out, as_told=as_told):
                say(f"wrote {written}")
            return
        types = type or (["track"] if format is Format.mot else [])
        with LogReader(path) as reader:
            rows = reader.events(source, types=types)
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


def line(event: "Event") -> str:
    """An event for people."""
    seconds = event.time.media_us / 1e6
    track = getattr(event.what, "track", None)
    if track is None:
        return f"{seconds:10.3f}  {event.source}  {event.type:<12}  {_detail(event)}".rstrip()
    x1, y1, x2, y2 = track.box_px
    return (
        f"{seconds:10.3f}  {event.source}  {event.type:<12}  {track.id:<16} "
        f"{x1:7.1f} {y1:7.1f} {x2:7.1f} {y2:7.1f}  p={track.p_exist:.2f}"
    )


def _detail(event: "Event") -> str:
    from streamvis.events import schema
    from streamvis.events.schema import Lost, SourceGap, TrackMerge, TrackSplit

    match event.what:
        case schema.ActionBegin(action) | schema.ActionUpdate(action):
            return f"{action.track or 'frame':<16} {action.label} p={action.p:.2f}"
        case schema.ActionEnd(action):
            return f"{action.track or 'frame':<16} {action.label} ({action.reason})"
        case schema.SceneUpdate(scene):
            unknown = f"; unknown {scene.unknown.share:.1%}" if scene.unknown else ""
            return _largest(scene.classes) + unknown
        case schema.UnknownBegin(unknown) | schema.UnknownEnd(unknown):
            x1, y1, x2, y2 = unknown.box_px
            reason = f" ({unknown.reason})" if isinstance(unknown, schema.EndedSighting) else ""
            return f"{x1:7.1f} {y1:7.1f} {x2:7.1f} {y2:7.1f}  p={unknown.p:.2f}{reason}"
        case schema.ForecastSegmentation(forecast):
            zones = "".join(f"; {zone.zone} p={zone.p:.2f}" for zone in forecast.zones)
            return f"in {forecast.horizon_us / 1e6:g} s: {_largest(forecast.classes)}{zones}"
        case schema.ForecastScored(score):
            return f"made {score.horizon_us / 1e6:g} s ago: mIoU {score.miou:.2f}"
        case Lost(topic, first, last):
            return f"{topic} {first}..{last} never came; the log has them"
        case TrackMerge(merge):
            return f"{merge.gone} is {merge.kept}"
        case TrackSplit(splits):
            return ", ".join(
                f"{split.id} was {split.other} from {split.since_us / 1e6:.3f} s on"
                for split in splits
            )
        case SourceGap(stream=gap):
            return f"{gap.reason}, pictures {gap.first}..{gap.last}"
        case _:
            return getattr(getattr(event.what, "stream", None), "reason", "")


def _largest(classes: dict[str, float]) -> str:
    """The three classes with most of the picture."""
    first = sorted(classes.items(), key=lambda pair: -pair[1])[:3]
    return ", ".join(f"{label} {share:.0%}" for label, share in first)
