"""Commands that look and do not touch: check, graph, probe, doctor."""

from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.options import Json, PipelinePath, PlacementPath
from streamvis.cli.output import put, put_json, put_table, reported_errors, say

if TYPE_CHECKING:
    from streamvis.config import Pipeline, Placement, WorkerSpec
    from streamvis.errors import DeviceError


def check(pipeline: PipelinePath = None, on: PlacementPath = None, json: Json = False) -> None:
    """Check a pipeline and, with --on, a placement; say what would run where on this machine."""
    with reported_errors():
        from streamvis import config

        loaded = config.load_pipeline(pipeline)
        placed = config.load_placement(on, loaded) if on else config.default_placement(loaded)
        devices, absent = _devices(loaded, placed)
        if json:
            found = {"hash": loaded.hash, "pipeline": loaded, "placement": placed}
            put_json({**found, "devices": devices})
        else:
            rows = [
                (", ".join(w.stages), _shown(w, device), w.replicas, w.batch, str(w.cores or "any"))
                for w, device in zip(placed.workers, devices, strict=True)
            ]
            put_table("", ("stages", "device", "replicas", "batch", "cores"), rows)
        if absent is not None:
            raise absent
        if not json:
            for worker, device in zip(placed.workers, devices, strict=True):
                if device != worker.device:
                    name = ", ".join(worker.stages)
                    put(f"{worker.device} is not there: {name} would fall back to the {device}")
            put(f"{pipeline or 'the default pipeline'} is sound (hash {loaded.hash})")


def _devices(
    pipeline: "Pipeline", placement: "Placement"
) -> tuple[list[str | None], "DeviceError | None"]:
    """Where each worker would run here, None for nowhere; the error that `run` would end with."""
    from streamvis.errors import DeviceError

    devices: list[str | None] = []
    absent = None
    for worker in placement.workers:
        device: str | None = worker.device
        networks = any(pipeline.stage(name).run.torch for name in worker.stages)
        if networks and worker.device != "cpu":  # or torch would be imported for nothing
            from streamvis.models.weights import check_device

            try:
                check_device(worker.device)
            except DeviceError as error:
                device = worker.fallback
                absent = absent or (error if device is None else None)
        devices.append(device)
    return devices, absent


def _shown(worker: "WorkerSpec", device: str | None) -> str:
    if device is None:
        return f"{worker.device} (not here: refused)"
    return device if device == worker.device else f"{worker.device} -> {device} (not here)"


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
    """Open a source and say what it is; of several, say so of each that can be opened."""
    with reported_errors():
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
        if json:
            put_json(found if len(specs) > 1 else found[0])
        else:
            tables = [msgspec.to_builtins(result).items() for result in found]
            rows = [[f"{k:>14}  {'-' if v is None else v}" for k, v in table] for table in tables]
            put("\n\n".join("\n".join(lines) for lines in rows))
        if failed is not None:
            raise typer.Exit(failed.exit_code)


def doctor(json: Json = False) -> None:
    """Say what this machine offers and what would stop streamvis from working well."""
    with reported_errors():
        from streamvis.doctor import examine

        report = examine()
        if json:
            put_json(report)
        else:
            width = max(map(len, report.facts))
            for name, state in report.facts.items():
                put(f"{name:>{width}}  {state}")
            for line in report.advice:
                put(f"{'advice':>{width}}  {line}")
        if report.broken:
            raise typer.Exit(1)
