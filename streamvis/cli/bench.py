"""`streamvis bench`: speed on this machine; ratios compare measurements of one run."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamvis.cli.options import Json
from streamvis.cli.output import put, put_json, put_table, reported_errors, say

if TYPE_CHECKING:
    from streamvis.benchmarks.tracker_accuracy import TrackerScores
    from streamvis.benchmarks.tracker_speed import (
        SpeedReport,
        StepPart,
        StepSize,
        TrackerPart,
        TrackerSize,
    )
    from streamvis.datasets import motchallenge

app = typer.Typer(help="Measure speed on this machine.", invoke_without_command=True)


@app.callback()
def bench(context: typer.Context, json: Json = False) -> None:
    """Measure speed on this machine: all of it, or one part."""
    if context.invoked_subcommand is None:
        with reported_errors():
            from streamvis.benchmarks import (
                actions,
                detector,
                embedder,
                hub,
                pipeline,
                tracker_speed,
            )

            parts: dict[str, Callable[[], Any]] = {
                "hub": hub.measure,
                "pipeline": pipeline.measure,
                "detector": detector.measure,
                "embedder": embedder.measure,
                "actions": actions.measure,
                "tracker": tracker_speed.measure,
            }
            _measure_and_put(parts, json)


@app.command()
def hub(json: Json = False) -> None:
    """Latency of a packet through the hub, and the packets per second that it can forward."""
    with reported_errors():
        from streamvis.benchmarks.hub import measure

        _measure_and_put({"hub": measure}, json)


@app.command()
def pipeline(
    source: Annotated[
        str | None, typer.Option(help="A video; without one, a synthetic scene.")
    ] = None,
    json: Json = False,
) -> None:
    """The whole pipeline against its detector alone, on the same pictures."""
    with reported_errors():
        from streamvis.benchmarks.pipeline import measure

        _measure_and_put({"pipeline": lambda: measure(source)}, json)


@app.command()
def detector(
    weights: Annotated[
        str, typer.Option(help="A shipped name, a path, or an architecture with random weights.")
    ] = "person-lite",
    source: Annotated[
        str | None, typer.Option(help="A video or pictures; without one, a synthetic scene.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="A YOLOX .onnx to compare with, on the same pictures.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Pictures for each contender.")] = 15,
    masks: Annotated[bool, typer.Option(help="Predict masks too.")] = True,
    json: Json = False,
) -> None:
    """One detector on each engine, side by side with others, and the time of its parts."""
    with reported_errors():
        from streamvis.benchmarks.detector import measure

        _measure_and_put(
            {"detector": lambda: measure(weights, source, against, rounds, masks)}, json
        )


@app.command()
def embedder(
    weights: Annotated[
        str, typer.Option(help="A shipped name, a path, or an architecture with random weights.")
    ] = "person-r18",
    people: Annotated[int, typer.Option(min=1, help="Crops of one frame.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Frames.")] = 25,
    json: Json = False,
) -> None:
    """Appearance embeddings of the people of one frame: crops, and the network on each engine."""
    with reported_errors():
        from streamvis.benchmarks.embedder import measure

        _measure_and_put({"embedder": lambda: measure(weights, people, rounds)}, json)


@app.command()
def actions(
    weights: Annotated[
        str, typer.Option(help="A shipped name or a path; random weights when it is neither.")
    ] = "fight-off",
    people: Annotated[int, typer.Option(min=1, help="Tracked people in the picture.")] = 10,
    per_second: Annotated[float, typer.Option(min=0.1, help="Samples of each track.")] = 5.0,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the scene.")] = 10.0,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    json: Json = False,
) -> None:
    """The action stage alone: its time over the length of the video."""
    with reported_errors():
        from streamvis.benchmarks.actions import measure

        _measure_and_put(
            {"actions": lambda: measure(weights, people, per_second, seconds, engine)}, json
        )


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
        speed = tracker_speed.measure()
        scores = tracker_accuracy.measure(_announced(sequences)) if sequences else None
        if json:
            import msgspec

            found = msgspec.to_builtins(speed)
            put_json({"tracker": {**found, "scores": scores, "note": tracker_accuracy.NOTE}})
            return
        _put_speed(speed)
        if scores:
            _put_scores(scores, tracker_accuracy.NOTE)


def _announced(sequences: "Sequence[motchallenge.Sequence]") -> "Iterator[motchallenge.Sequence]":
    for one in sequences:
        say(f"{one.name}: {one.length} frames")
        yield one


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread; in effect only before NumPy is imported."""
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


def _measure_and_put(parts: dict[str, Callable[[], Any]], json: bool) -> None:
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


def _put_speed(found: "SpeedReport") -> None:
    _put_sizes("The whole tracker, CPU ms a frame", found.tracker)
    _put_sizes("A step of JPDA, CPU ms, and times ours", found.jpda_step)
    for given_up in (found.tracker.given_up, found.jpda_step.given_up):
        for name, why in given_up.items():
            put(f"{name} was given up: {why}")
    for name, install in found.not_installed.items():
        put(f"{name} is not installed: {install}")


def _put_sizes(title: str, part: "TrackerPart | StepPart") -> None:
    sizes: Mapping[str, TrackerSize | StepSize] = part.sizes
    names = list(next(iter(sizes.values())).ms)
    rows = [
        [f"{people} × {at.detections}", *(_cell(at.ms[name], _ratio(at, name)) for name in names)]
        for people, at in sizes.items()
    ]
    growth = part.grows_as
    rows.append(
        ["grows as", *(f"people^{growth[name]:.2f}" if name in growth else "" for name in names)]
    )
    put_table(title, ("people × detections", *names), rows)


def _ratio(at: Any, name: str) -> float | None:
    ratios = getattr(at, "times_as_fast", None)
    return ratios.get(name) if ratios else None  # UNSET is false


def _cell(ms: float | None, ratio: float | None) -> str:
    shown = "–" if ms is None else f"{ms:.2f}"
    return shown if ratio is None else f"{shown} = {ratio:.0f} ×"


def _put_scores(rows: "Sequence[TrackerScores]", note: str) -> None:
    columns = rows[0].__struct_fields__
    table = [[getattr(row, key) for key in columns] for row in rows]
    table = [["" if value is None else value for value in row] for row in table]
    put_table("MOTChallenge's public detections", columns, table)
    put(note)
