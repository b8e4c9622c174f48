"""`streamvis eval detect`: detectors on labelled pictures, side by side."""

from pathlib import Path
from typing import Annotated

from typer import Option

from streamvis.cli.options import Data, DetectorPrecision, DetectorWeights, Device, Json, Mistakes
from streamvis.cli.output import begin, put_result, say, write_png
from streamvis.cli.progress import progress


def detect(
    data: Data,
    weights: DetectorWeights = "person-lite",
    compare: Annotated[
        str | None, Option(help="Weights, or a YOLO .onnx, to score on the same pictures.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        Option("--set", help="key=value of our detector: short_side=576; repeatable."),
    ] = None,
    short_side: Annotated[int | None, Option(help="Pixels; default: as the weights say.")] = None,
    device: Device = "cpu",
    precision: Annotated[
        DetectorPrecision, Option(help="Of the dense parts.")
    ] = DetectorPrecision.auto,
    plot: Annotated[Path | None, Option(help="Write precision-recall curves here.")] = None,
    sheet: Mistakes = None,
    hold_out: Annotated[
        Path | None,
        Option(
            help="A training file, or what `train detector` wrote: score only what it held out "
            "(COCO data)."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score the detector: AP, height bands, best F1, miss rate, mask AP."""
    from streamvis.runners import detection
    from streamvis.runners.settings import open_detectors
    from streamvis.runners.sheets.detection import detection_sheet, plot_curves

    begin(plot, sheet)
    sets = detection.read_datasets(data, hold_out)
    for one in sets:
        if one.note:
            say(f"streamvis: warning: {one.name}: {one.note}")
    fields = {"weights": weights, "short_side": short_side, "precision": precision.value}
    detectors = open_detectors(fields, set_ or [], compare, device)
    results = [detection.score(one, detectors, progress) for one in sets]
    if plot:
        plot_curves(plot, results)
        say(f"wrote {plot}")
    if sheet:
        write_png(sheet, detection_sheet(results))
    report = {result.data.name: result.report() for result in results}
    put_result(report, detection.tables(results), json=json)
