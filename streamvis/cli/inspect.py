"""Commands that look and do not touch: check, graph, probe, doctor."""

from pathlib import Path
from typing import Annotated

import typer

from streamvis.cli.report import put, put_json, put_table, reported_errors

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PipelinePath = Annotated[
    Path | None,
    typer.Argument(help="A pipeline: a file, or the name of a shipped one (default: people)."),
]
On = Annotated[
    Path | None,
    typer.Option("--on", help="A placement, file or shipped name: which worker runs what, where."),
]


def check(pipeline: PipelinePath = None, on: On = None, json: Json = False) -> None:
    """Check a pipeline and, with --on, a placement; say what would run where."""
    with reported_errors():
        from streamvis import config

        loaded = config.load_pipeline(pipeline)
        placed = config.load_placement(on, loaded) if on else config.default_placement(loaded)
        if json:
            put_json({"hash": loaded.hash, "pipeline": loaded, "placement": placed})
            return
        rows = [
            (", ".join(w.stages), w.device, w.replicas, w.batch, str(w.cores or "any"))
            for w in placed.workers
        ]
        put_table("", ("stages", "device", "replicas", "batch", "cores"), rows)
        put(f"{pipeline or 'the default pipeline'} is sound (hash {loaded.hash})")


def graph(
    pipeline: PipelinePath = None,
    dot: Annotated[bool, typer.Option("--dot", help="Print Graphviz instead of text.")] = False,
) -> None:
    """Draw a pipeline: which stage feeds which, and what they read and write."""
    with reported_errors():
        from streamvis import config

        loaded = config.load_pipeline(pipeline)
        put(config.to_dot(loaded) if dot else config.to_text(loaded))


def probe(
    source: Annotated[str, typer.Argument(help="Path, glob, camera index, URL or synthetic:")],
    json: Json = False,
) -> None:
    """Open a source and say what it is."""
    with reported_errors():
        import msgspec

        from streamvis.sources import resolve
        from streamvis.sources.probe import probe as look

        found = [look(spec) for spec in resolve([source])]
        if json:
            put_json(found if len(found) > 1 else found[0])
            return
        for result in found:
            for key, value in msgspec.to_builtins(result).items():
                put(f"{key:>14}  {'-' if value is None else value}")


def doctor(json: Json = False) -> None:
    """Say what this machine offers and what would stop streamvis from working well."""
    with reported_errors():
        from streamvis.cli.machine import examine

        report = examine()
        if json:
            put_json(report)
        else:
            for name, state in report.facts.items():
                put(f"{name:>14}  {state}")
            for line in report.advice:
                put(f"{'advice':>14}  {line}")
        if report.broken:
            raise typer.Exit(1)
