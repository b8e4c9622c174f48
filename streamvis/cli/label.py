"""`streamvis label`: people found in footage, as data to correct and to train on."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Device, Json
from streamvis.cli.output import PARTIAL, begin, put_result, say

# what person-lite's scores mean on PETS09-S2L1, TUD-Campus and Penn-Fudan
SURE = 0.85  # nine detections in ten above it are right
UNSURE = 0.3  # below it not one in twenty is a person


def label(
    videos: Annotated[
        list[str], Argument(help="Path, glob, directory or synthetic:; id=… names it.")
    ],
    out: Annotated[Path, Option(help="Where annotations.json and images/ go.")],
    weights: Annotated[
        str, Option(help="Who labels: a shipped name, a path, or a YOLOX .onnx.")
    ] = "person-lite",
    every: Annotated[float, Option(min=0.001, help="Seconds from one picture to the next.")] = 1.0,
    most: Annotated[
        int | None, Option(min=1, help="Pictures in all; each source has its share.")
    ] = None,
    sure: Annotated[
        float, Option(min=0, max=1, help="Score from which a detection is a person.")
    ] = SURE,
    unsure: Annotated[
        float, Option(min=0, max=1, help="Score from which it is a region to ignore.")
    ] = UNSURE,
    masks: Annotated[bool, Option(help="Outlines too, not only boxes.")] = True,
    device: Device = "cpu",
    overwrite: Annotated[
        bool,
        Option("--overwrite", help="Start anew, even over labels that were corrected by hand."),
    ] = False,
    json: Json = False,
) -> None:
    """Label footage in COCO layout; run the same command again to go on where it stopped."""
    from streamvis.config import MaskRcnn
    from streamvis.errors import SourceError
    from streamvis.runners import labelling
    from streamvis.runners.detectors import open_detector
    from streamvis.runtime.output import make_directory
    from streamvis.sources import resolve
    from streamvis.training.detector.annotation import LabelPlan
    from streamvis.training.detector.coco_folder import open_folder

    plan = LabelPlan(every=every, most=most, sure=sure, unsure=unsure, masks=masks)
    specs = resolve(videos)
    origin = labelling.origin_of(videos, specs, weights, plan)
    make_directory(out)
    begin()
    detect = open_detector(MaskRcnn(weights=weights, min_score=unsure, masks=masks), device)
    folder = open_folder(out, origin, overwrite=overwrite)  # last: it may empty what is there
    failed = labelling.label_all(
        specs, folder, detect, plan, on_failure=lambda error: say(f"streamvis: {error}")
    )
    counts = folder.counts()
    put_result(counts, [labelling.table(counts)], json=json)
    if failed:
        raise typer.Exit(PARTIAL if failed < len(specs) else SourceError.exit_code)
