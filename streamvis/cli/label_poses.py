"""`streamvis label-poses`: keypoints of people whose boxes are known, as data to train on."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import Json
from streamvis.cli.output import begin, put_result, write_png

# of points with a probability above it, 9 of 10 are right on COCO pictures that did not choose it
SURE = 0.8


def label_poses(
    data: Annotated[
        list[Path],
        Argument(
            exists=True,
            file_okay=False,
            help="Folders with annotations.json in COCO layout, or of streamvis track-clips.",
        ),
    ],
    *,
    teacher: Annotated[Path, Option(help="pose_landmark_full.tflite of mediapipe 0.10.9.")],
    out: Annotated[Path, Option(help="Where annotations.json and images/ go.")],
    sure: Annotated[
        float, Option(min=0, max=1, help="Probability from which a point is labelled.")
    ] = SURE,
    least_px: Annotated[
        float, Option(min=1, help="Pixels; people whose box is smaller both ways are left out.")
    ] = 48.0,
    every: Annotated[
        float, Option(min=0.001, help="Seconds from one picture of a clip to the next.")
    ] = 0.1,
    sheet: Annotated[
        Path | None, Option(help="Write a PNG with 48 of the labelled people.")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Start anew.")] = False,
    json: Json = False,
) -> None:
    """Label keypoints in COCO layout; run the same command again to go on where it stopped."""
    from streamvis.runners import pose_labelling
    from streamvis.runners.sheets.poses import pose_sheet
    from streamvis.runtime.output import make_directory
    from streamvis.training.detector.pose_teacher import PoseTeacher
    from streamvis.training.pose.label_poses import PosePlan

    plan = PosePlan(sure=sure, least_px=least_px, every=every)
    network = PoseTeacher(teacher)
    make_directory(out)
    begin(sheet)
    folder = pose_labelling.open_labels(data, out, teacher, plan, overwrite=overwrite)
    counts = pose_labelling.label_poses(data, folder, network, plan)
    if sheet is not None:
        write_png(sheet, pose_sheet(folder))
    put_result(counts, pose_labelling.tables(counts), json=json)
