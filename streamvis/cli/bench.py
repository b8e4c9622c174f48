"""`streamvis bench`: ratios of things measured side by side in one run."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from streamvis.cli.report import put, put_json, reported_errors, say

app = typer.Typer(help="Measure speed on this machine.", invoke_without_command=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def bench(context: typer.Context, json: Json = False) -> None:
    """Measure speed on this machine: all of it, or one part."""
    if context.invoked_subcommand is None:
        _report({"hub": _hub, "pipeline": _pipeline, "detector": _detector}, json)


@app.command()
def hub(json: Json = False) -> None:
    """A descriptor's way through the hub, and how many the hub can pass on."""
    _report({"hub": _hub}, json)


@app.command()
def pipeline(
    source: Annotated[
        str | None, typer.Option(help="A video; without one, a synthetic scene.")
    ] = None,
    json: Json = False,
) -> None:
    """The whole pipeline against its detector alone, on the same pictures."""
    _report({"pipeline": lambda: _pipeline(source)}, json)


@app.command()
def detector(
    weights: Annotated[str, typer.Option(help="A shipped name, or a path.")] = "person-lite",
    image: Annotated[Path | None, typer.Option(help="A picture; without one, noise.")] = None,
    json: Json = False,
) -> None:
    """The detector and its parts, at 768×576."""
    _report({"detector": lambda: _detector(weights, image)}, json)


def _report(parts: dict[str, Callable[[], Any]], json: bool) -> None:
    with reported_errors():
        import msgspec

        results = {}
        for name, measure in parts.items():
            say(f"measuring {name} …")
            results[name] = msgspec.to_builtins(measure())
        if json:
            put_json(results)
            return
        for name, values in results.items():
            put(name)
            for key, value in values.items():
                put(f"  {key:<28} {value}")


def _hub() -> Any:
    from streamvis.runtime.bench import measure_hub

    return measure_hub()


def _pipeline(source: str | None = None) -> Any:
    from streamvis.cli.measure import pipeline as measure

    return measure(source)


def _detector(weights: str = "person-lite", image: Path | None = None) -> Any:
    from streamvis.cli.measure import detector as measure

    return measure(weights, image)
