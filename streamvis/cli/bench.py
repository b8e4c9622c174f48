"""`streamvis bench`: ratios of things measured side by side in one run."""

from collections.abc import Callable, Iterator
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
    weights: Annotated[
        str, typer.Option(help="A shipped name, a path, or an architecture with random weights.")
    ] = "person-lite",
    source: Annotated[
        str | None, typer.Option(help="A video or pictures; without one, a synthetic scene.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="A YOLOX .onnx to race against, on the same pictures.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Pictures for each contender.")] = 15,
    masks: Annotated[bool, typer.Option(help="Draw masks too.")] = True,
    json: Json = False,
) -> None:
    """One detector on each engine, side by side with others, and the time of its parts."""
    _report({"detector": lambda: _detector(weights, source, against, rounds, masks)}, json)


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
            for key, value in _flat(values):
                put(f"  {key:<44} {value}")


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}: ")
        else:
            yield above + key, value


def _hub() -> Any:
    from streamvis.runtime.bench import measure_hub

    return measure_hub()


def _pipeline(source: str | None = None) -> Any:
    from streamvis.cli.measure import pipeline as measure

    return measure(source)


def _detector(
    weights: str = "person-lite",
    source: str | None = None,
    against: Path | None = None,
    rounds: int = 15,
    masks: bool = True,
) -> Any:
    from streamvis.cli.race import detector as race

    return race(weights, source, against, rounds, masks)
