"""`streamvis eval`: accuracy on real ground truth."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streamvis.cli.options import Device, Json, Precision, TrackerSettings
from streamvis.cli.output import put_json, reported_errors, say
from streamvis.cli.track import BLIND, LOOKS, Camera, Looks, Scores, ScoresAre, wanted

app = typer.Typer(
    help="Score detectors, embedders and trackers on ground truth.", no_args_is_help=True
)
Data = Annotated[
    list[Path],
    typer.Argument(help="MOTChallenge sequences, folders of them, or COCO folders (detect only)."),
]
Sequences = Annotated[
    list[Path], typer.Argument(help="MOTChallenge sequences with gt/gt.txt, or folders of them.")
]
Weights = Annotated[str, typer.Option(help="Of the detector: a shipped name, or a path.")]
ShortSide = Annotated[int | None, typer.Option(help="Pixels; default: as the weights say.")]
LOWEST_SCORE = 0.01  # detections below it are not ranked


class Flow(StrEnum):
    dis = "dis"
    farneback = "farneback"


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
        Path | None,
        typer.Option(
            help="A training file, or what `train detector` wrote: score only what it held out "
            "(COCO data)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score the detector: AP, height bands, best F1, miss rate, mask AP."""
    with reported_errors():
        from streamvis.cli import detection
        from streamvis.cli.detectors import name_of, open_detector
        from streamvis.cli.settings import configure
        from streamvis.config import MaskRcnn
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        sets = detection.datasets(data, hold_out)
        for one in sets:
            if one.note:
                say(f"streamvis: warning: {one.name}: {one.note}")
        given = {"weights": weights, "min_score": LOWEST_SCORE, "precision": precision.value}
        ours = configure(MaskRcnn, {**given, "short_side": short_side}, set_ or [])
        detectors = {name_of(weights, set_ or []): open_detector(ours, device)}
        if compare:
            other = configure(MaskRcnn, {"weights": compare, "min_score": LOWEST_SCORE}, [])
            name = name_of(compare, [])
            name = f"{name} (other)" if name in detectors else name
            detectors[name] = open_detector(other, device)
        for path in filter(None, (plot, sheet)):
            detection.check_writable(path)
        outcomes = [detection.score(one, detectors) for one in sets]
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
    space: Annotated[
        Space, typer.Option(help="ground: matched within 1 m on the ground as well.")
    ] = Space.image,
    weights: Weights = "person-lite",
    looks: Looks = LOOKS,
    camera: Camera = True,
    scores: ScoresAre = Scores.auto,
    set_: TrackerSettings = None,
    out: Annotated[Path | None, typer.Option(help="Write each sequence's tracks here.")] = None,
    timeline: Annotated[Path | None, typer.Option(help="Write who is who over time, PNG.")] = None,
    switches: Annotated[Path | None, typer.Option(help="Write the id switches, PNG.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace tracks that --out holds already.")
    ] = False,
    json: Json = False,
) -> None:
    """Score the tracker by TrackEval: HOTA, MOTA, IDF1 and their parts; Hz of the tracker alone.

    It is given what the pictures say of looks and of the camera's motion, where there are any.
    """
    with reported_errors():
        from streamvis.cli import mot as trial
        from streamvis.cli.detection import check_writable
        from streamvis.cli.settings import configure
        from streamvis.config import Jipda
        from streamvis.datasets import motchallenge
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        for path in filter(None, (timeline, switches)):
            check_writable(path)
        config = configure(Jipda, {"space": "auto"}, set_ or [])
        sequences = [one for path in data for one in motchallenge.read_sequences(path)]
        trial.check(sequences, detections is Detected.public, pictures=switches is not None)
        written = trial.results(out, sequences, overwrite=overwrite) if out else {}
        aids = [wanted(looks, camera, sequence.video, config) for sequence in sequences]
        outcomes = []
        for sequence, has in zip(sequences, aids, strict=True):
            say(f"{sequence.name}: {sequence.length} frames{'' if sequence.video else BLIND}")
            if detections is Detected.public:
                outcome = trial.follow_public(sequence, config, scores, has)
            else:
                outcome = trial.follow_own(sequence, config, weights, has)
            if out:
                motchallenge.write_results(written[sequence.name], outcome.followed.rows)
            outcomes.append(outcome)
        rows = trial.report(outcomes, space.value)
        if timeline or switches:
            traces = [outcome.trace(space.value) for outcome in outcomes]
        if timeline:
            trial.write_timeline(timeline, outcomes, traces)
        if switches:
            trial.write_switches(switches, outcomes, traces)
        if json:
            put_json(rows)
        else:
            trial.put(rows)


@app.command()
def reid(
    data: Sequences,
    weights: Annotated[
        str, typer.Option(help="A shipped name, a path, or a re-identification .onnx.")
    ] = "person-r18",
    apart: Annotated[
        float, typer.Option(min=0, help="Seconds from a look to those that should match it.")
    ] = 2.0,
    every: Annotated[
        int, typer.Option(min=1, help="Look at every so manieth frame; 1 for the shortest lags.")
    ] = 10,
    min_visibility: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out who is hidden more; of MOT16 truth.")
    ] = 0.5,
    device: Device = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of the network.")] = Precision.auto,
    plot: Annotated[Path | None, typer.Option(help="Write AUC by time lag here, PNG.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the worst mistakes here, PNG.")] = None,
    json: Json = False,
) -> None:
    """Score how well people are known again by their looks: rank-1, mAP, AUC by time lag."""
    with reported_errors():
        from streamvis.cli import reid as trial
        from streamvis.cli.detection import check_writable
        from streamvis.cli.detectors import name_of
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        for path in filter(None, (plot, sheet)):
            check_writable(path)
        found = trial.sequences(data)
        embedder = trial.open_embedder(weights, device, precision.value)
        outcomes = []
        for one in found:
            say(f"{one.name}: {one.length} frames")
            outcomes.append(
                trial.score(
                    one, embedder, every=every, apart_s=apart, min_visibility=min_visibility
                )
            )
        if plot:
            trial.plot(plot, outcomes, name_of(weights, []))
        if sheet:
            trial.write_sheet(sheet, outcomes, name_of(weights, []))
        if json:
            put_json(trial.report(outcomes))
        else:
            trial.put(outcomes, apart)


@app.command()
def actions(
    data: Annotated[
        Path,
        typer.Argument(
            help="A CSV (path,label,source[,start,end]), a folder with clips.csv or a folder for "
            "each action."
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="A shipped name, or a path; repeat it for a network of flow to compare with. "
            "Default: fight-off."
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="What `train actions` wrote: each fold is scored on what it held out."),
    ] = None,
    flow: Annotated[
        Flow, typer.Option(help="Optical flow, for networks that look at it.")
    ] = Flow.dis,
    device: Device = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of the networks.")] = Precision.auto,
    plot: Annotated[Path | None, typer.Option(help="Write the confusion matrix here, PNG.")] = None,
    json: Json = False,
) -> None:
    """Score networks of actions: top-1, mean class accuracy, AUC and AP of two classes, speed."""
    with reported_errors():
        from streamvis.cli import actions as trial
        from streamvis.cli.detection import check_writable
        from streamvis.errors import UsageError
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        if plot:
            check_writable(plot)
        if weights and folds:
            raise UsageError("--weights and --folds: the folds have weights of their own")
        if folds:
            outcome = trial.evaluate_folds(data, folds, device, precision.value, flow.value)
        else:
            given = weights or ["fight-off"]
            outcome = trial.evaluate(data, given, device, precision.value, flow.value)
        if plot:
            trial.plot(plot, outcome)
        if json:
            put_json(trial.report(outcome))
        else:
            trial.put_outcome(outcome)
