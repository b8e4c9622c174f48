"""`streamvis label`: people found in footage, as data to correct and to train on."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Device, Json
from streamvis.cli.output import PARTIAL, begin, put_result, say, write_png

# what person-lite's scores mean on PETS09-S2L1, TUD-Campus and Penn-Fudan
SURE = 0.85  # nine detections in ten above it are right
UNSURE = 0.3  # below it not one in twenty is a person
# what the mean score of person-lite and YOLOX-nano means on the first two
BOTH_SURE = 0.5  # 19 of 20 are right; one detector of two gives no more
BOTH_UNSURE = 0.25  # below, 1 in 20 is a person, on PETS09-S2L1 and TUD-Campus


def label(
    videos: Annotated[
        list[str] | None, Argument(help="Path, glob, directory or synthetic:; id=… names it.")
    ] = None,
    *,
    out: Annotated[Path, Option(help="Where annotations.json and images/ go.")],
    relabel: Annotated[
        list[Path] | None,
        Option(help="A labelled folder: its true labels stay, others are made anew; repeatable."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        Option(
            help="Who labels: a shipped name, a path, or a YOLO .onnx; default: person-lite. "
            "Several look at each picture in several views, and their scores are averaged."
        ),
    ] = None,
    mask_teacher: Annotated[
        Path | None,
        Option(help="pose_landmark_full.tflite of mediapipe: outlines where it is sure."),
    ] = None,
    every: Annotated[float, Option(min=0.001, help="Seconds from one picture to the next.")] = 1.0,
    most: Annotated[
        int | None, Option(min=1, help="Pictures in all; each source has its share.")
    ] = None,
    sure: Annotated[
        float | None,
        Option(min=0, max=1, help="Score from which it is a person: 0.85; of several: 0.5."),
    ] = None,
    unsure: Annotated[
        float | None,
        Option(min=0, max=1, help="Score from which it is ignored: 0.3; of several: 0.25."),
    ] = None,
    masks: Annotated[bool, Option(help="Outlines too, not only boxes.")] = True,
    sheet: Annotated[
        Path | None, Option(help="Write a PNG with 24 of the labelled pictures.")
    ] = None,
    device: Device = "cpu",
    overwrite: Annotated[
        bool,
        Option("--overwrite", help="Start anew, even over labels that were corrected by hand."),
    ] = False,
    json: Json = False,
) -> None:
    """Label footage in COCO layout; run the same command again to go on where it stopped."""
    from streamvis.errors import SourceError, UsageError
    from streamvis.runners import labelling
    from streamvis.runners.sheets.labels import label_sheet
    from streamvis.runtime.output import make_directory
    from streamvis.sources import resolve
    from streamvis.training.detector.annotation import LabelPlan
    from streamvis.training.detector.coco_folder import open_folder

    if not videos and not relabel:
        raise UsageError("nothing to label: expected footage, or --relabel FOLDER")
    names = [folder.resolve().name for folder in relabel or ()]
    if len(set(names)) < len(names):
        raise UsageError(
            f"--relabel: two folders have one name in {', '.join(names)}; expected different ones, "
            "which the names of their pictures begin with: rename one"
        )
    who = labelling.Labellers(tuple(weights or ["person-lite"]), mask_teacher, tuple(relabel or ()))
    likely, possible = (BOTH_SURE, BOTH_UNSURE) if who.fuse else (SURE, UNSURE)
    plan = LabelPlan(
        every=every,
        most=most,
        sure=likely if sure is None else sure,
        unsure=possible if unsure is None else unsure,
        masks=masks,
    )
    specs = resolve(videos) if videos else []
    make_directory(out)
    begin(sheet)
    detect = who.open(plan, device)
    origin = labelling.origin_of(videos or [], specs, who, plan)
    folder = open_folder(
        out, origin, read=relabel or (), overwrite=overwrite
    )  # last: it may empty what is there
    changes = labelling.relabel_all(who, folder, detect, plan)
    failed = labelling.label_all(
        specs, folder, detect, plan, on_failure=lambda error: say(f"streamvis: {error}")
    )
    counts = folder.counts()
    if sheet is not None:
        write_png(sheet, label_sheet(folder))
    result = {"sources": counts, "relabelled": changes}
    put_result(result, labelling.tables(counts, changes), json=json)
    if failed:
        raise typer.Exit(PARTIAL if failed < len(specs) else SourceError.exit_code)
