"""Commands that look and do not touch: check, graph, probe, doctor."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Json, PipelinePath, PlacementPath
from streamvis.cli.output import put, put_result, say

if TYPE_CHECKING:
    from streamvis.sources.probe import Probe


def check(
    pipeline: PipelinePath = None,
    on: PlacementPath = None,
    sources: Annotated[Path | None, Option(help="A sources file; nothing is connected.")] = None,
    json: Json = False,
) -> None:
    """Check a pipeline, a placement (--on) and a sources file; say what would run where."""
    from streamvis import config
    from streamvis.runners.placements import costs, devices_of, examine_files, fallbacks, table

    loaded = config.load_pipeline(pipeline)
    placed = config.load_placement(on, loaded) if on else config.default_placement(loaded)
    specs = config.load_site(sources).specs() if sources else []
    config.check_zones(loaded, specs)
    files = examine_files(loaded)
    devices, absent = devices_of(loaded, placed)
    found = {"hash": loaded.hash, "pipeline": loaded, "placement": placed, "devices": devices}
    if files:
        found["files"] = files
    if sources:
        found["sources"] = {spec.id: spec.label for spec in specs}
    put_result(found, [table(placed, devices)], json=json)
    if absent is not None:
        raise absent
    if not json:
        for line in [*files.values(), *costs(loaded), *fallbacks(placed, devices)]:
            put(line)
        put(f"{pipeline or 'the default pipeline'} is sound (hash {loaded.hash})")
        for spec in specs:
            put(f"source '{spec.id}': {spec.label}")


def graph(
    pipeline: PipelinePath = None,
    dot: Annotated[bool, Option("--dot", help="Print Graphviz instead of text.")] = False,
) -> None:
    """Draw a pipeline: which stage feeds which, and what they read and write."""
    from streamvis import config

    loaded = config.load_pipeline(pipeline)
    put(config.to_dot(loaded) if dot else config.to_text(loaded))


def probe(
    source: Annotated[str, Argument(help="Path, glob, camera index, URL or synthetic:")],
    json: Json = False,
) -> None:
    """Open a source and say what it is; of several, say so of each that can be opened."""
    from streamvis.errors import SourceError
    from streamvis.sources import Unusable, resolve
    from streamvis.sources.probe import probe as look

    unusable: list[Unusable] = []
    specs = resolve([source], unusable=unusable)
    failed = [error for _, error in unusable]
    found = []
    for spec in specs:
        try:
            found.append(look(spec))
        except SourceError as error:
            failed.append(error)
    several = len(specs) + len(unusable) > 1
    if failed and not several:
        raise failed[0]
    for each in failed:
        say(f"streamvis: {each}")
    text = "\n\n".join("\n".join(_facts(result)) for result in found)
    put_result(found if several else found[0], [text], json=json)
    if failed:
        raise typer.Exit(failed[0].exit_code)


def _facts(result: "Probe") -> Iterator[str]:
    """Yield a line for each property, those of the container after those of the source."""
    import msgspec

    from streamvis.batch.results import printable

    found = msgspec.to_builtins(result)
    container = found.pop("stream", None) or {}
    for name, value in (found | container | found).items():
        match value:
            case None | []:
                text = "-"
            case bool():
                text = "yes" if value else "no"
            case float():
                text = f"{round(value, 3):g}" if abs(value) < 1000 else f"{value:.1f}"
            case _:
                text = ", ".join(value) if isinstance(value, list) else printable(str(value))
        yield f"{name:>15}  {text}"


def doctor(json: Json = False) -> None:
    """Say what this machine offers and what would stop streamvis from working well."""
    from streamvis.doctor import examine

    report = examine()
    width = max(map(len, report.facts))
    named = [*report.facts.items(), *(("advice", line) for line in report.advice)]
    put_result(report, (f"{name:>{width}}  {text}" for name, text in named), json=json)
    if report.broken:
        raise typer.Exit(1)
