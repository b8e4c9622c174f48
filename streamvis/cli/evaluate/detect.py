"""`streamvis eval detect`: detectors on labelled pictures, side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.options import Data, DetectorWeights, Device, Json, Precision
from streamvis.cli.output import (
    check_writable,
    or_dash,
    put_json,
    put_table,
    reported_errors,
    say,
    write_png,
)
from streamvis.cli.progress import progress

if TYPE_CHECKING:
    from streamvis.runners.detection import DetectionResult
    from streamvis.runners.detectors import Detector

SHOWN = ("people", "ap50", "ap", "ap75", "f1", "threshold", "miss_rate", "mask_ap", "mask_ap50")
LOWEST_SCORE = 0.01  # detections below it are not ranked


def detect(
    data: Data,
    weights: DetectorWeights = "person-lite",
    compare: Annotated[
        str | None, typer.Option(help="Weights, or a YOLOX .onnx, to score on the same pictures.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value of our detector: short_side=576; repeatable."),
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(help="Pixels; default: as the weights say.")
    ] = None,
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
        from streamvis.runners import detection
        from streamvis.runners.sheets.detection import detection_sheet
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        sets = detection.read_datasets(data, hold_out)
        for one in sets:
            if one.note:
                say(f"streamvis: warning: {one.name}: {one.note}")
        detectors = _detectors(weights, compare, set_ or [], short_side, device, precision)
        for path in filter(None, (plot, sheet)):
            check_writable(path)
        results = [detection.score(one, detectors, progress) for one in sets]
        if plot:
            _plot(plot, results)
        if sheet:
            write_png(sheet, detection_sheet(results))
        if json:
            put_json({result.data.name: result.report() for result in results})
        else:
            put_results(results)


def _detectors(
    weights: str,
    compare: str | None,
    settings: Sequence[str],
    short_side: int | None,
    device: str,
    precision: Precision,
) -> "dict[str, Detector]":
    """Load our detector and the one to compare with, by name."""
    from streamvis.cli.settings import configure
    from streamvis.config import MaskRcnn
    from streamvis.runners.detectors import name_of, open_detector

    given = {"weights": weights, "min_score": LOWEST_SCORE, "precision": precision.value}
    ours = configure(MaskRcnn, {**given, "short_side": short_side}, settings)
    detectors = {name_of(weights, settings): open_detector(ours, device)}
    if compare:
        other = configure(MaskRcnn, {"weights": compare, "min_score": LOWEST_SCORE}, [])
        name = name_of(compare, [])
        name = f"{name} (other)" if name in detectors else name
        detectors[name] = open_detector(other, device)
    return detectors


def put_results(results: "Sequence[DetectionResult]") -> None:
    """Print the scores as tables."""
    from streamvis.runners.detection import COMPARED

    if any(result.other for result in results):
        put_table("", ("data", "detector", *COMPARED), [r for one in results for r in _rows(one)])
    else:
        rows = [[o.data.name, *(or_dash(getattr(o.ours, n)) for n in SHOWN)] for o in results]
        put_table("", ("data", *SHOWN), rows)
    rows = [
        [result.data.name, name, *map(or_dash, scores.ap_by_height.values())]
        for result in results
        for name, scores in result.scores.items()
    ]
    put_table("AP by height in pixels", ("data", "detector", *results[0].ours.ap_by_height), rows)


def _rows(result: "DetectionResult") -> Iterator[list[str]]:
    """Yield a row for each detector, and one for how much higher our scores are."""
    from streamvis.runners.detection import COMPARED

    for name, scores in result.scores.items():
        values = (getattr(scores, key) for key in COMPARED)
        yield [result.data.name, name, *("-" if v is None else f" {v:.3f}" for v in values)]
    if result.other:
        differences = map(result.difference, COMPARED)
        yield ["", "difference", *("-" if v is None else f"{v:+.3f}" for v in differences)]


def _plot(path: Path, results: "Sequence[DetectionResult]") -> None:
    """Write the precision-recall curves at IoU 0.5 of all data sets and detectors."""
    from streamvis.viz.plots import precision_recall

    recall = [i / 100 for i in range(101)]
    curves = {
        result.data.name: {name: (recall, s.curve) for name, s in result.scores.items()}
        for result in results
    }
    precision_recall(path, curves, title="Precision and recall at IoU 0.5")
    say(f"wrote {path}")
