"""`streamvis bench`: ratios of things measured side by side in one run."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from streamvis.cli.output import put, put_json, reported_errors, say

app = typer.Typer(help="Measure speed on this machine.", invoke_without_command=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def bench(context: typer.Context, json: Json = False) -> None:
    """Measure speed on this machine: all of it, or one part."""
    if context.invoked_subcommand is None:
        parts = {
            "hub": _hub,
            "pipeline": _pipeline,
            "detector": _detector,
            "embedder": _embedder,
            "actions": _actions,
            "tracker": _tracker,
        }
        _report(parts, json)


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


@app.command()
def embedder(
    weights: Annotated[
        str, typer.Option(help="A shipped name, a path, or an architecture with random weights.")
    ] = "person-r18",
    people: Annotated[int, typer.Option(min=1, help="Crops of one frame.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Frames.")] = 25,
    json: Json = False,
) -> None:
    """What it takes to look at the people of one frame: cutting, and the network on each engine."""
    _report({"embedder": lambda: _embedder(weights, people, rounds)}, json)


@app.command()
def actions(
    weights: Annotated[
        str, typer.Option(help="A shipped name or a path; random weights when it is neither.")
    ] = "fight-off",
    people: Annotated[int, typer.Option(min=1, help="Tracked people in the picture.")] = 10,
    per_second: Annotated[float, typer.Option(min=0.1, help="Looks at each of them.")] = 5.0,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the scene.")] = 10.0,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    json: Json = False,
) -> None:
    """Whether people are watched in real time: the stage that names actions, alone."""
    _report({"actions": lambda: _actions(weights, people, per_second, seconds, engine)}, json)


@app.command()
def tracker(
    data: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR]…", help="MOTChallenge sequences, to score all on."),
    ] = None,
    json: Json = False,
) -> None:
    """Our tracker beside Stone-Soup, Norfair, SORT and ByteTrack: time, and scores on DIRs."""
    with reported_errors(), _one_thread():
        from streamvis.benchmarks import tracker_accuracy, tracker_speed

        sequences = tracker_accuracy.read(data or [])
        say("measuring tracker …")
        found = tracker_speed.measure()
        scores = tracker_accuracy.measure(sequences) if sequences else None
        if json:
            put_json({"tracker": {**found, "scores": scores, "note": tracker_accuracy.NOTE}})
            return
        tracker_speed.put_speed(found)
        if scores:
            tracker_accuracy.put_scores(scores)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Linear algebra on one thread, where NumPy is yet to be imported: it asks then."""
    from streamvis.runtime.processes import THREADS

    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
    from streamvis.benchmarks.hub import measure_hub

    return measure_hub()


def _pipeline(source: str | None = None) -> Any:
    from streamvis.benchmarks.pipeline import pipeline as measure

    return measure(source)


def _detector(
    weights: str = "person-lite",
    source: str | None = None,
    against: Path | None = None,
    rounds: int = 15,
    masks: bool = True,
) -> Any:
    from streamvis.benchmarks.detector import detector as race

    return race(weights, source, against, rounds, masks)


def _tracker() -> Any:
    from streamvis.benchmarks.tracker_speed import measure

    return measure()


def _embedder(weights: str = "person-r18", people: int = 32, rounds: int = 25) -> Any:
    from streamvis.benchmarks.embedder import embedder as measure

    return measure(weights, people, rounds)


def _actions(
    weights: str = "fight-off",
    people: int = 10,
    per_second: float = 5.0,
    seconds: float = 10.0,
    engine: str = "auto",
) -> Any:
    from streamvis.benchmarks.actions import actions as measure

    return measure(weights, people, per_second, seconds, engine)
