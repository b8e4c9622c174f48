"""`streamvis bench`: speed on this machine; ratios compare measurements of one run."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from streamvis.cli.options import Json
from streamvis.cli.output import command, put_result, reported_errors, say

if TYPE_CHECKING:
    from streamvis.datasets.motchallenge import Sequence

app = typer.Typer(help="Measure speed on this machine.", invoke_without_command=True)
Measures = Mapping[str, Callable[[], Any]]  # by name
Weights = Annotated[
    str, Option(help="A shipped name, a path, or an architecture with random weights.")
]


@app.callback()
@reported_errors()
def bench(context: typer.Context, json: Json = False) -> None:
    """Measure speed on this machine: all but `web`, which needs a browser, or one part."""
    if context.invoked_subcommand is None:
        from streamvis.benchmarks import (
            actions,
            detector,
            embedder,
            feed,
            hub,
            pipeline,
            tracker_speed,
            zones,
        )

        parts = (hub, feed, pipeline, detector, embedder, actions, tracker_speed, zones)
        names = ("hub", "feed", "pipeline", "detector", "embedder", "actions", "tracker", "zones")
        _measure({name: one.measure for name, one in zip(names, parts, strict=True)}, json)


@command(app)
def hub(json: Json = False) -> None:
    """Latency of a packet through the hub, and the packets per second that it can forward."""
    from streamvis.benchmarks.hub import measure

    _measure({"hub": measure}, json)


@command(app)
def feed(json: Json = False) -> None:
    """Events per second through log and feed, beside a bare socket and a bare table."""
    from streamvis.benchmarks.feed import measure

    _measure({"feed": measure}, json)


@command(app)
def pipeline(
    source: Annotated[str | None, Option(help="A video; without one, a synthetic scene.")] = None,
    json: Json = False,
) -> None:
    """The whole pipeline against its detector alone, on the same pictures."""
    from streamvis.benchmarks.pipeline import measure

    _measure({"pipeline": lambda: measure(source)}, json)


@command(app)
def detector(
    weights: Weights = "person-lite",
    source: Annotated[
        str | None, Option(help="A video or pictures; without one, a synthetic scene.")
    ] = None,
    against: Annotated[
        Path | None, Option(help="A YOLOX .onnx to compare with, on the same pictures.")
    ] = None,
    rounds: Annotated[int, Option(min=1, help="Pictures for each contender.")] = 15,
    masks: Annotated[bool, Option(help="Predict masks too.")] = True,
    json: Json = False,
) -> None:
    """One detector on each engine, side by side with others, and the time of its parts."""
    from streamvis.benchmarks.detector import measure

    _measure({"detector": lambda: measure(weights, source, against, rounds, masks)}, json)


@command(app)
def embedder(
    weights: Weights = "person-r18",
    people: Annotated[int, Option(min=1, help="Crops of one frame.")] = 32,
    rounds: Annotated[int, Option(min=1, help="Frames.")] = 25,
    json: Json = False,
) -> None:
    """Appearance embeddings of the people of one frame: crops, and the network on each engine."""
    from streamvis.benchmarks.embedder import measure

    _measure({"embedder": lambda: measure(weights, people, rounds)}, json)


@command(app)
def actions(
    weights: Annotated[
        str, Option(help="A shipped name or a path; random weights when it is neither.")
    ] = "fight-off",
    people: Annotated[int, Option(min=1, help="Tracked people in the picture.")] = 10,
    per_second: Annotated[float, Option(min=0.1, help="Samples of each track.")] = 5.0,
    seconds: Annotated[float, Option(min=1, help="Length of the scene.")] = 10.0,
    engine: Annotated[str, Option(help="auto, torch or openvino.")] = "auto",
    json: Json = False,
) -> None:
    """The action stage alone: its time over the length of the video."""
    from streamvis.benchmarks.actions import measure

    _measure({"actions": lambda: measure(weights, people, per_second, seconds, engine)}, json)


@command(app)
def zones(
    people: Annotated[int, Option(min=5, help="People in the picture.")] = 50,
    count: Annotated[int, Option("--zones", min=4, max=1000, help="Zones.")] = 20,
    frames: Annotated[int, Option(min=50, help="Frames.")] = 750,
    json: Json = False,
) -> None:
    """The stage that counts: CPU time of a frame, and the replay of a log over real time."""
    from streamvis.benchmarks.zones import measure

    _measure({"zones": lambda: measure(frames, people, count)}, json)


@command(app)
def tracker(
    data: Annotated[
        list[Path] | None,
        Argument(metavar="[DIR]…", help="MOTChallenge sequences, to score all on."),
    ] = None,
    json: Json = False,
) -> None:
    """Our tracker beside Stone-Soup, Norfair, SORT and ByteTrack: time, and scores on DIRs."""
    from streamvis.benchmarks.one_thread import one_thread

    with one_thread():
        from streamvis.benchmarks import tracker_accuracy, tracker_speed, tracker_tables

        sequences = tracker_accuracy.read(data or [])
        say("measuring tracker …")
        speed = tracker_speed.measure()
        scores = tracker_accuracy.measure(_announced(sequences)) if sequences else None
        report = {"tracker": tracker_tables.report(speed, scores)}
        put_result(report, tracker_tables.tables(speed, scores), json=json)


@command(app)
def web(
    seconds: Annotated[float, Option(min=5, help="Of painted pictures.")] = 30.0,
    json: Json = False,
) -> None:
    """Live pictures in Chromium: capture to painted, and what viewers cost the decode process."""
    from streamvis.benchmarks.web import measure

    _measure({"web": lambda: measure(seconds)}, json)


def _announced(sequences: "Iterable[Sequence]") -> "Iterator[Sequence]":
    for one in sequences:
        say(f"{one.name}: {one.length} frames")
        yield one


def _measure(measures: Measures, json: bool) -> None:
    import msgspec

    from streamvis.benchmarks.report_lines import lines_of

    results = {}
    for name, measure in measures.items():
        say(f"measuring {name} …")
        results[name] = msgspec.to_builtins(measure())
    put_result(results, lines_of(results), json=json)
