"""`streamvis eval`: accuracy on real ground truth."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamvis.cli.report import put_json, put_table, reported_errors, say

if TYPE_CHECKING:
    from streamvis.evaluation.motchallenge import Rows, Sequence

app = typer.Typer(help="Score detectors and trackers on ground truth.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Data = Annotated[
    list[Path],
    typer.Argument(help="MOTChallenge sequences, folders of them, or COCO folders (detect only)."),
]
Weights = Annotated[str, typer.Option(help="A shipped name, or a path.")]
ShortSide = Annotated[int | None, typer.Option(help="Pixels; default: as the weights say.")]
Device = Annotated[str, typer.Option(help="cpu, cuda:0, …")]
MOT = (
    "name",
    "hota",
    "mota",
    "idf1",
    "deta",
    "assa",
    "motp",
    "idsw",
    "frag",
    "mt",
    "ml",
    "fp",
    "fn",
)
LOWEST_SCORE = 0.01  # detections below it are not ranked


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Detected(StrEnum):
    own = "own"
    public = "public"


class Space(StrEnum):
    image = "image"
    ground = "ground"


@app.command()
def detect(
    data: Data,
    weights: Weights = "person-lite",
    compare: Annotated[
        str | None, typer.Option(help="Weights, or a YOLOX .onnx, to score on the same pictures.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value of our detector: short_side=576; repeatable."),
    ] = None,
    short_side: ShortSide = None,
    device: Device = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of the dense parts.")] = Precision.auto,
    plot: Annotated[Path | None, typer.Option(help="Write precision-recall curves here.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the worst mistakes here, PNG.")] = None,
    hold_out: Annotated[
        Path | None, typer.Option(help="A training file: score only what it held out (COCO data).")
    ] = None,
    json: Json = False,
) -> None:
    """Score the detector: AP, height bands, best F1, miss rate, mask AP."""
    with reported_errors():
        from streamvis.cli import detection
        from streamvis.cli.detectors import configure, name_of, open_detector
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        given = {"weights": weights, "min_score": LOWEST_SCORE, "precision": precision.value}
        ours = configure({**given, "short_side": short_side}, set_ or [])
        detectors = {name_of(weights, set_ or []): open_detector(ours, device)}
        if compare:
            other = configure({"weights": compare, "min_score": LOWEST_SCORE}, [])
            name = name_of(compare, [])
            name = f"{name} (other)" if name in detectors else name
            detectors[name] = open_detector(other, device)
        for path in filter(None, (plot, sheet)):
            detection.check_writable(path)
        outcomes = [detection.score(one, detectors) for one in detection.datasets(data, hold_out)]
        if plot:
            detection.plot(plot, outcomes)
        if sheet:
            detection.write_sheet(sheet, outcomes)
        if json:
            put_json({outcome.data.name: outcome.report() for outcome in outcomes})
        else:
            detection.put(outcomes)


@app.command()
def mot(
    data: Data,
    detections: Annotated[Detected, typer.Option(help="Our detector, or det/det.txt.")] = (
        Detected.own
    ),
    space: Annotated[Space, typer.Option(help="Match boxes, or metres on the ground.")] = (
        Space.image
    ),
    weights: Weights = "person-lite",
    out: Annotated[Path | None, typer.Option(help="Write each sequence's tracks here.")] = None,
    json: Json = False,
) -> None:
    """Score the tracker: HOTA, MOTA, IDF1 and their parts, by TrackEval."""
    with reported_errors():
        from streamvis.evaluation import mot as scoring
        from streamvis.evaluation import motchallenge
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        pairs = []
        for sequence in [s for path in data for s in motchallenge.read_sequences(path)]:
            say(f"{sequence.name}: {sequence.length} frames")
            public = detections is Detected.public
            rows = _track_public(sequence) if public else _track_pixels(sequence, weights)
            if out:
                motchallenge.write_results(out / f"{sequence.name}.txt", rows)
            pairs.append((sequence, rows))
        results = scoring.evaluate_all(pairs, space.value)
        if json:
            put_json(results)
        else:
            put_table("", MOT, [[getattr(r, name) for name in MOT] for r in results])


def _track_pixels(sequence: "Sequence", weights: str) -> "Rows":
    from streamvis import config
    from streamvis.build import build_stage
    from streamvis.messages import Packet, Tracks
    from streamvis.runtime import inline
    from streamvis.sources import resolve

    stages = config.default_pipeline().stages[:2]
    detect = config.MaskRcnn(weights=weights, masks=False)
    pipeline = config.Pipeline([config.StageSpec("detect", detect), stages[1]])
    found: list[tuple[int, Tracks]] = []

    def keep(packet: Packet) -> None:
        if (tracks := packet.part(Tracks)) is not None:
            found.append((packet.frame.n + 1, tracks))

    inline.run(pipeline, resolve([str(sequence.folder)]), build=build_stage, on_packet=keep)
    return _rows(found)


def _track_public(sequence: "Sequence") -> "Rows":
    from streamvis.config import Jipda
    from streamvis.errors import DataError
    from streamvis.evaluation.detection import detections_of
    from streamvis.geometry import read_ground_plane
    from streamvis.messages import Frame, Packet, SourceInfo
    from streamvis.stages.track import TrackStage

    if sequence.detections is None:
        raise DataError(f"{sequence.folder} has no det/det.txt")
    plane = read_ground_plane(sequence.ground_plane) if sequence.ground_plane else None
    width, height = sequence.width, sequence.height
    stage = TrackStage(Jipda())
    info = SourceInfo(
        id="public",
        label=sequence.name,
        width=width,
        height=height,
        fps=sequence.fps,
        live=False,
        ground_plane=plane,
    )
    stage.begin(info, None)
    found = []
    for n, part in enumerate(
        detections_of(_as_probabilities(sequence.detections), sequence.length)
    ):
        media_us = round(n * 1e6 / sequence.fps)
        frame = Frame(source="public", seq=n, n=n, media_us=media_us, width=width, height=height)
        (tracks,) = stage([Packet(frame=frame, parts=[part])])
        found.append((n + 1, tracks))
    return _rows(found)


def _as_probabilities(rows: "Rows") -> "Rows":
    """Public scores are on any scale: their ranks in the sequence, best 1, stand in for them."""
    from dataclasses import replace

    import numpy as np

    if len(rows) == 0 or (rows.scores.min() >= 0 and rows.scores.max() <= 1):
        return rows
    order = np.argsort(np.argsort(rows.scores, kind="stable"), kind="stable")
    return replace(rows, scores=0.5 + 0.5 * (order + 1) / len(rows))


def _rows(found: "list[tuple[int, Any]]") -> "Rows":
    import numpy as np

    from streamvis.evaluation import motchallenge

    counts = [len(tracks.ids) for _, tracks in found]
    empty = [np.zeros((0, 4))]
    return motchallenge.rows(
        frames=np.repeat([n for n, _ in found], counts),
        ids=np.concatenate([np.zeros(0), *(t.ids for _, t in found)]),
        boxes=np.concatenate(empty + [t.boxes for _, t in found]),
        scores=np.concatenate([np.zeros(0), *(t.existence for _, t in found)]),
        world=np.concatenate([np.zeros((0, 2)), *(t.ground for _, t in found)]),
    )
