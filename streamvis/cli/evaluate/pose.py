"""`streamvis eval pose`: pose networks on people whose keypoints are labelled."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import Device, Json, Precision
from streamvis.cli.output import begin, put_result, say, write_png
from streamvis.cli.progress import progress


class Part(StrEnum):
    """Which pictures of a folder are scored."""

    all = "all"
    measured = "measured"
    tuned = "tuned"


def pose(
    data: Annotated[
        list[Path],
        Argument(help="Folders with annotations.json, with COCO's keypoints, and images/."),
    ],
    weights: Annotated[
        list[str] | None,
        Option(help="A shipped name, or a path; repeat it to compare. Default: pose-lite."),
    ] = None,
    teacher: Annotated[
        Path | None,
        Option(help="pose_landmark_full.tflite of mediapipe, to be scored as well."),
    ] = None,
    part: Annotated[
        Part,
        Option(
            help="Pictures to score: all, those that `train pose` never sees (measured: two "
            "thirds), or the rest of them (tuned)."
        ),
    ] = Part.all,
    device: Device = "cpu",
    precision: Annotated[Precision, Option(help="Of the network.")] = Precision.auto,
    sheet: Annotated[
        Path | None, Option(help="Write the best and the worst people here, PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Score pose networks: OKS AP and AR, PCKh, each keypoint; boxes are those of the labels."""
    from streamvis.runners import pose as runner
    from streamvis.runners.sheets.pose import pose_sheet

    begin(sheet)
    people = runner.read(data, part.value)
    given = ["pose-lite"] if weights is None and teacher is None else weights or []
    estimators: dict[str, runner.Estimator] = {
        Path(name).stem: runner.NetworkEstimator(name, device, precision.value, "auto")
        for name in given
    }
    if teacher is not None:
        estimators["teacher, one view"] = runner.TeacherEstimator(teacher, 1)
        estimators["teacher, four views"] = runner.TeacherEstimator(teacher, 4)
    results = {}
    for name, estimator in estimators.items():
        say(f"{name}: {len(people)} people")
        results[name] = runner.score(people, estimator, progress)
    if sheet:
        name, result = next(iter(results.items()))
        write_png(sheet, pose_sheet(result, name))
    put_result(runner.report(results), runner.tables(results), json=json)
