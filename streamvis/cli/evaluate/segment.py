"""`streamvis eval segment`: segmenters on labelled street scenes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.options import SEGMENTER, Device, Json, Scenes, SegmenterSettings
from streamvis.cli.output import (
    check_writable,
    put,
    put_json,
    put_table,
    reported_errors,
    write_png,
)
from streamvis.cli.progress import progress

if TYPE_CHECKING:
    from streamvis.runners.segmentation import SegmentationResult, StreetScenes


def segment(
    data: Scenes,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A shipped name, or a path; repeat it to compare. Default: street-seg."),
    ] = None,
    set_: SegmenterSettings = None,
    device: Device = "cpu",
    sheet: Annotated[
        Path | None, typer.Option(help="Write the pictures with the lowest mIoU here, PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Score segmenters: IoU of each class, its mean, pixel accuracy, pictures per second."""
    with reported_errors():
        from streamvis.cli.settings import segmenter_configs
        from streamvis.runners import segmentation
        from streamvis.runners.scene_networks import open_segmenters
        from streamvis.runners.sheets.scenes import segmentation_sheet
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        if sheet:
            check_writable(sheet)
        scenes = segmentation.read_street_scenes(data)
        networks = open_segmenters(segmenter_configs(weights or [SEGMENTER], set_ or []), device)
        results = segmentation.score(scenes, networks, progress)
        if sheet:
            name, result = next(iter(results.items()))
            write_png(sheet, segmentation_sheet(scenes, result, networks[name], name))
        if json:
            put_json({name: result.report() for name, result in results.items()})
        else:
            _put_tables(scenes, results)


def _put_tables(scenes: "StreetScenes", results: "Mapping[str, SegmentationResult]") -> None:
    """Print the scores as tables."""
    from streamvis.viz.numbers import decimals

    first = next(iter(results.values())).scores
    rows = [
        [name, s.miou, s.movable_miou, s.accuracy, s.class_accuracy, report["per_s"]]
        for name, report, s in ((n, r.report(), r.scores) for n, r in results.items())
    ]
    columns = (
        "weights",
        "mIoU",
        "movable mIoU",
        "pixel accuracy",
        "mean class accuracy",
        "pictures/s",
    )
    title = f"{scenes.name}: {first.pictures} pictures, {scenes.classes.name}"
    put_table(title, columns, [list(map(decimals, row)) for row in rows])
    by_class = [
        [name, *(decimals(r.scores.per_class[name]) for r in results.values())]
        for name in scenes.classes.names
    ]
    put_table("IoU", ("class", *results), by_class)
    for name, result in results.items():
        if result.scores.skipped:
            absent = ", ".join(result.scores.skipped)
            put(f"{name}: neither labelled nor predicted, left out of the mean: {absent}")
