"""`streamvis eval outliers`: out-of-distribution objects pasted into street scenes."""

from pathlib import Path
from typing import Annotated

from typer import Option

from streamvis.cli.options import SEGMENTER, Device, Json, Scenes, SegmenterSettings
from streamvis.cli.output import begin, put_result, write_png
from streamvis.cli.progress import progress


def outliers(
    data: Scenes,
    objects: Annotated[
        Path,
        Option(
            help="A folder of pictures of things that no street has: cut out (.png with alpha), "
            "or whole, and then their foreground is used."
        ),
    ],
    weights: Annotated[str, Option(help="A shipped name, or a path.")] = "street-outlier",
    against: Annotated[
        str | None,
        Option(help="A plain segmenter to compare with on the same pictures; '' for none."),
    ] = SEGMENTER,
    seed: Annotated[
        int, Option(min=0, help="Of the choice of objects and where they are pasted.")
    ] = 0,
    set_: SegmenterSettings = None,
    device: Device = "cpu",
    sheet: Annotated[
        Path | None, Option(help="Write the pictures with the lowest AP here, PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Score the detection of unknown objects: one of 0.7 to 10 % is pasted into each picture.

    AP, false positives where 95 % are found, AUROC over pixels; and mIoU without objects.
    """
    from streamvis.runners import outliers as runner
    from streamvis.runners.scene_networks import open_segmenters
    from streamvis.runners.segmentation import read_street_scenes
    from streamvis.runners.settings import segmenter_configs
    from streamvis.runners.sheets.scenes import outlier_sheet
    from streamvis.training.scenes.outlier_synthesis import read_objects

    begin(sheet)
    given = [weights, against] if against else [weights]
    scenes, things = read_street_scenes(data), read_objects(objects)
    networks = open_segmenters(segmenter_configs(given, set_ or []), device)
    results = runner.score(scenes, things, networks, seed, progress)
    if sheet:
        (name, network), *_ = networks.items()
        image = outlier_sheet(scenes, things, seed, results[name], network, name, progress)
        write_png(sheet, image)
    tables = runner.tables(scenes, results, len(things))
    put_result(runner.report(results, things, seed), tables, json=json)
