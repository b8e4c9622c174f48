"""Commands that look and do not touch: check, graph, probe, doctor."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Json, PipelinePath, PlacementPath
from streamvis.cli.output import put, put_result, say


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
    import msgspec

    from streamvis.errors import SourceError
    from streamvis.sources import resolve
    from streamvis.sources.probe import probe as look

    specs, found, failed = resolve([source]), [], None
    for spec in specs:
        try:
            found.append(look(spec))
        except SourceError as error:
            if len(specs) == 1:
                raise
            say(f"streamvis: {error}")
            failed = error
    tables = [msgspec.to_builtins(result).items() for result in found]
    rows = [[f"{k:>14}  {'-' if v is None else v}" for k, v in table] for table in tables]
    text = "\n\n".join("\n".join(lines) for lines in rows)
    put_result(found if len(specs) > 1 else found[0], [text], json=json)
    if failed is not None:
        raise typer.Exit(failed.exit_code)


def doctor(json: Json = False) -> None:
    """Say what this machine offers and what would stop streamvis from working well."""
    from streamvis.doctor import examine

    report = examine()
    width = max(map(len, report.facts))
    named = [*report.facts.items(), *(("advice", line) for line in report.advice)]
    put_result(report, (f"{name:>{width}}  {text}" for name, text in named), json=json)
    if report.broken:
        raise typer.Exit(1)
