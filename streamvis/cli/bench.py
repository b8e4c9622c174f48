"""`streamvis bench`: speed on this machine; ratios compare measurements of one run."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from streamvis.cli.options import Data, Device, Json, PipelinePath, PlacementPath, Settings
from streamvis.cli.output import begin, command, put_result, reported_errors, say
from streamvis.errors import UsageError

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
    """Measure speed on this machine: one part, or those that need no more than this machine.

    Without a part: all but `streams`, `cluster`, `web` and `peers`.
    """
    if context.invoked_subcommand is None:
        from streamvis.benchmarks import (
            actions,
            decode,
            detector,
            embedder,
            feed,
            hub,
            pipeline,
            pose,
            tracker_speed,
            transport,
            zones,
        )

        parts = {
            "hub": hub,
            "transport": transport,
            "decode": decode,
            "feed": feed,
            "pipeline": pipeline,
            "detector": detector,
            "embedder": embedder,
            "actions": actions,
            "pose": pose,
            "tracker": tracker_speed,
            "zones": zones,
        }
        _measure({name: part.measure for name, part in parts.items()}, json)


@command(app)
def hub(json: Json = False) -> None:
    """Latency of a packet through the hub, and the packets per second that it can forward."""
    from streamvis.benchmarks.hub import measure

    _measure({"hub": measure}, json)


@command(app)
def transport(
    seconds: Annotated[float, Option(min=2, help="Of each measurement.")] = 4.0,
    rounds: Annotated[int, Option(min=1, help="Measurements of each; they alternate.")] = 3,
    json: Json = False,
) -> None:
    """Pictures of 1920×1080 into another process: ours beside NetGear, imagezmq and memcpy."""
    from streamvis.benchmarks.transport import measure

    _measure({"transport": lambda: measure(seconds, rounds)}, json)


@command(app)
def decode(
    source: Annotated[
        str | None, Option(help="A video file; without one, a clip of 1920×1080.")
    ] = None,
    rounds: Annotated[int, Option(min=1, help="Runs of each; they alternate.")] = 3,
    json: Json = False,
) -> None:
    """Decoding to RGB, alone and into shared memory, beside `ffmpeg -f null`."""
    from streamvis.benchmarks.decode import measure

    _measure({"decode": lambda: measure(source, rounds)}, json)


@command(app)
def feed(json: Json = False) -> None:
    """Events per second through log and feed, beside a bare socket and a bare table."""
    from streamvis.benchmarks.feed import measure

    _measure({"feed": measure}, json)


@command(app)
def pipeline(
    pipeline: PipelinePath = None,
    source: Annotated[str | None, Option(help="A video; without one, a synthetic scene.")] = None,
    on: PlacementPath = None,
    set_: Settings = None,
    profile: Annotated[
        bool, Option("--profile", help="CPU time of each process and stage, instead.")
    ] = False,
    flame: Annotated[
        Path | None, Option(help="Write a flame graph of all processes, SVG, by py-spy.")
    ] = None,
    json: Json = False,
) -> None:
    """The whole pipeline against its detector alone, on the same pictures."""
    from streamvis import config
    from streamvis.benchmarks import flame_graph, pipeline_profile, profile_tables
    from streamvis.benchmarks.pipeline import measure
    from streamvis.cli.run import load

    begin(flame)
    if flame is not None:
        flame_graph.spy_path()  # or the error would come after minutes
    loaded = load(pipeline, set_ or [], annotate=False)
    placed = config.load_placement(on, loaded) if on else None
    if profile:
        say("measuring pipeline …")
        found = pipeline_profile.measure(source, loaded, placed)
        put_result({"profile": found}, profile_tables.tables(found), json=json)
    elif flame is None:
        _measure({"pipeline": lambda: measure(source, loaded, placed)}, json)
    if flame is not None:
        say("drawing …")
        placed = placed or config.default_placement(loaded, sources=1)
        flame_graph.draw(flame, source, config.without_feed(loaded), placed)
        say(f"wrote {flame}")


@command(app)
def streams(
    pipeline: PipelinePath = None,
    cameras: Annotated[
        str, Option(help="How many cameras: numbers, one after the other.")
    ] = "1,2,4,8,16,32",
    busy: Annotated[
        int | None, Option(min=0, help="How many of them show people; without it, all.")
    ] = None,
    fps: Annotated[float, Option(min=0.1, max=120, help="Frame rate of each camera.")] = 5.0,
    size: Annotated[str, Option(help="Width and height of the pictures.")] = "640x360",
    source: Annotated[
        str | None, Option(help="A video that the cameras show; without one, a synthetic scene.")
    ] = None,
    on: PlacementPath = None,
    set_: Settings = None,
    slow: Annotated[
        float,
        Option(
            min=1, help="Show pictures so many times slower, to measure what many cameras need."
        ),
    ] = 1.0,
    seconds: Annotated[float, Option(min=2, help="Of each measurement.")] = 30.0,
    json: Json = False,
) -> None:
    """Many cameras at once: frames/s, age, fairness, drops, and what the CPU time goes to."""
    from streamvis import config
    from streamvis.benchmarks import stream_tables
    from streamvis.benchmarks.streams import Cameras, measure
    from streamvis.cli.run import load

    counts = stream_tables.counts_of(cameras)
    shown = Cameras(source=source, fps=fps, size=stream_tables.size_of(size), busy=busy, slow=slow)
    loaded = load(pipeline, set_ or [], annotate=False)
    placed = config.load_placement(on, loaded) if on else None
    report = measure(counts, shown, loaded, placed, seconds, say)
    put_result({"streams": report}, stream_tables.tables(report), json=json)


@command(app)
def cluster(
    cameras: Annotated[str, Option(help="How many cameras: numbers.")] = "1,10,100,300",
    gpus: Annotated[str, Option(help="How many GPUs, four on a node: numbers.")] = "1,4,16",
    hubs: Annotated[int, Option(min=1, max=64, help="That share cameras and GPUs.")] = 1,
    fps: Annotated[float, Option(min=0.1, max=60, help="Frame rate of each camera.")] = 5.0,
    seconds: Annotated[float, Option(min=1, help="That are simulated.")] = 20.0,
    gpu_ms: Annotated[float, Option(min=0.01, help="Of a GPU for each frame.")] = 3.2,
    hop_us: Annotated[float, Option(min=1, help="Of the hub for each frame and stage.")] = 45.0,
    limit: Annotated[bool, Option("--limit", help="Find the most cameras of one hub.")] = False,
    lost_s: Annotated[
        float, Option(min=0, help="Of the last cameras and GPUs, lose a node for so long.")
    ] = 0.0,
    real: Annotated[
        str, Option(help="Run so many real cameras too, with workers that sleep: numbers.")
    ] = "",
    charts: Annotated[Path | None, Option(help="A directory for charts, PNG.")] = None,
    seed: int = 0,
    json: Json = False,
) -> None:
    """Cameras on a cluster, in virtual time: the hub's own code, with simulated workers and links.

    Nothing but the hub's code runs: what stages and links take is assumed, or measured elsewhere.
    """
    from streamvis.benchmarks import cluster as benchmark
    from streamvis.benchmarks import cluster_tables
    from streamvis.benchmarks.simulated_cluster import Costs

    counts, sizes = cluster_tables.counts_of(cameras), cluster_tables.counts_of(gpus, "--gpus")
    numbers = cluster_tables.counts_of(real, "--real") if real else []
    costs = Costs(detect_ms=gpu_ms, hop_us=hop_us)
    begin(charts / cluster_tables.CHART if charts is not None else None)
    for count in counts:
        for size in sizes:
            benchmark.check(count, size, hubs)
    report = benchmark.ClusterReport(
        costs=costs,
        fps=fps,
        seconds=seconds,
        loads=benchmark.measure(
            counts, sizes, costs, hubs=hubs, fps=fps, seconds=seconds, seed=seed, say=say
        ),
    )
    if limit:
        say("finding the most cameras of one hub …")
        report.cameras_per_hub = benchmark.camera_limit(costs, fps=fps, seed=seed)
    if lost_s:
        say(f"losing a node for {lost_s:g} s …")
        report.lost = benchmark.lost_node(
            *(counts[-1], sizes[-1], costs), lost_s=lost_s, hubs=hubs, fps=fps, seed=seed
        )
    if numbers:
        report.real = benchmark.compare(numbers, fps=fps, seed=seed, say=say)
    if charts is not None:
        for path in cluster_tables.draw(report, charts):
            say(f"wrote {path}")
    put_result({"cluster": report}, cluster_tables.tables(report), json=json)


@command(app)
def detector(
    weights: Weights = "person-lite",
    source: Annotated[
        str | None, Option(help="A video or pictures; without one, a synthetic scene.")
    ] = None,
    against: Annotated[
        Path | None, Option(help="A YOLO .onnx to compare with, on the same pictures.")
    ] = None,
    rounds: Annotated[int, Option(min=1, help="Pictures for each contender.")] = 15,
    masks: Annotated[bool, Option(help="Predict masks too.")] = True,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """One detector on each engine, side by side with others, and the time of its parts.

    On a GPU: frames per second by batch, and the shares of uploads, computation and downloads.
    """
    from streamvis.benchmarks import gpu_detector
    from streamvis.benchmarks.detector import measure

    if device == "cpu":
        _measure({"detector": lambda: measure(weights, source, against, rounds, masks)}, json)
        return
    if against is not None:
        raise UsageError("--against compares on the CPU; leave it out, or --device")
    _measure(
        {"detector": lambda: gpu_detector.measure(weights, source, device, rounds, masks)}, json
    )


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
def pose(
    weights: Weights = "pose-lite",
    people: Annotated[int, Option(min=1, help="People of one frame.")] = 10,
    rounds: Annotated[int, Option(min=1, help="Frames.")] = 25,
    json: Json = False,
) -> None:
    """Keypoints, for each person: crops, the network on each engine, decoding."""
    from streamvis.benchmarks.pose import measure

    _measure({"pose": lambda: measure(weights, people, rounds)}, json)


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
def peers(
    data: Data,
    weights: Annotated[
        Path,
        Option(help="YOLOX-nano as .onnx, for all but the first pipeline.", show_default=False),
    ],
    also: Annotated[
        list[str] | None,
        Option(help="One more pipeline, a file or the name of a shipped one; repeatable."),
    ] = None,
    repeats: Annotated[int, Option(min=1, help="Runs of each; they alternate.")] = 3,
    json: Json = False,
) -> None:
    """Our pipelines beside loops of OpenCV, YOLOX-nano and ByteTrack: speed, CPU time, accuracy."""
    from streamvis.benchmarks import peer_comparison, peer_loops
    from streamvis.datasets import motchallenge

    sequences = [one for path in data for one in motchallenge.read_sequences(path)]
    report = peer_comparison.measure(
        sequences,
        weights,
        pipelines=(*peer_comparison.PIPELINES, *(also or [])),
        loops=peer_loops.LOOPS,
        repeats=repeats,
        say=say,
    )
    put_result({"peers": report}, peer_comparison.tables(report), json=json)


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
