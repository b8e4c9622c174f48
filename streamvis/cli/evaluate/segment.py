"""`streamvis eval segment`: segmenters on labelled street scenes."""

from pathlib import Path
from typing import Annotated

from typer import Option

from streamvis.cli.options import SEGMENTER, Device, Json, Scenes, SegmenterSettings
from streamvis.cli.output import begin, put_result, write_png
from streamvis.cli.progress import progress


def segment(
    data: Scenes,
    weights: Annotated[
        list[str] | None,
        Option(help="A shipped name, or a path; repeat it to compare. Default: street-seg."),
    ] = None,
    set_: SegmenterSettings = None,
    device: Device = "cpu",
    sheet: Annotated[
        Path | None, Option(help="Write the pictures with the lowest mIoU here, PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Score segmenters: IoU of each class, its mean, pixel accuracy, pictures per second."""
    from streamvis.runners import segmentation
    from streamvis.runners.scene_networks import open_segmenters
    from streamvis.runners.settings import segmenter_configs
    from streamvis.runners.sheets.scenes import segmentation_sheet

    begin(sheet)
    scenes = segmentation.read_street_scenes(data)
    networks = open_segmenters(segmenter_configs(weights or [SEGMENTER], set_ or []), device)
    results = segmentation.score(scenes, networks, progress)
    if sheet:
        name, result = next(iter(results.items()))
        write_png(sheet, segmentation_sheet(scenes, result, networks[name], name))
    report = {name: result.report() for name, result in results.items()}
    put_result(report, segmentation.tables(scenes, results), json=json)
