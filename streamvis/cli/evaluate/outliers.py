"""`streamvis eval outliers`: out-of-distribution objects pasted into street scenes."""

from collections.abc import Mapping, Sequence
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
    from streamvis.runners.outliers import OutlierResult
    from streamvis.runners.segmentation import StreetScenes
    from streamvis.training.scenes.outlier_synthesis import OutlierObject


def outliers(
    data: Scenes,
    objects: Annotated[
        Path,
        typer.Option(
            help="A folder of pictures of things that no street has: cut out (.png with alpha), "
            "or whole, and then their foreground is used."
        ),
    ],
    weights: Annotated[str, typer.Option(help="A shipped name, or a path.")] = "street-outlier",
    against: Annotated[
        str | None,
        typer.Option(help="A plain segmenter to compare with on the same pictures; '' for none."),
    ] = SEGMENTER,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the choice of objects and where they are pasted.")
    ] = 0,
    set_: SegmenterSettings = None,
    device: Device = "cpu",
    sheet: Annotated[
        Path | None, typer.Option(help="Write the pictures with the lowest AP here, PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Score the detection of unknown objects: one of 0.7 to 10 % is pasted into each picture.

    AP, false positives where 95 % are found, AUROC over pixels; and mIoU without objects.
    """
    with reported_errors():
        from streamvis.cli.settings import segmenter_configs
        from streamvis.runners import outliers as runner
        from streamvis.runners.scene_networks import open_segmenters
        from streamvis.runners.segmentation import read_street_scenes
        from streamvis.runners.sheets.scenes import outlier_sheet
        from streamvis.runtime.processes import keep_memory
        from streamvis.training.scenes.outlier_synthesis import read_objects

        keep_memory()
        if sheet:
            check_writable(sheet)
        given = [weights, against] if against else [weights]
        scenes, things = read_street_scenes(data), read_objects(objects)
        networks = open_segmenters(segmenter_configs(given, set_ or []), device)
        results = runner.score(scenes, things, networks, seed, progress)
        if sheet:
            (name, network), *_ = networks.items()
            image = outlier_sheet(scenes, things, seed, results[name], network, name, progress)
            write_png(sheet, image)
        if json:
            put_json(runner.report(results, things, seed))
        else:
            _put_tables(scenes, results, things)


def _put_tables(
    scenes: "StreetScenes",
    results: "Mapping[str, OutlierResult]",
    objects: "Sequence[OutlierObject]",
) -> None:
    """Print the scores as a table."""
    from streamvis.runners.outliers import miou_difference
    from streamvis.viz.numbers import decimals

    rows = []
    for name, result in results.items():
        miou = decimals(result.plain.miou())
        over = {"labelled pixels": result.labelled, "all pixels": result.everywhere}
        if result.published.pictures:
            over["as published, in 8 bits"] = result.published
        for pixels, outliers_ in over.items():
            s = outliers_.scores()
            shares = map(decimals, (s.ap, s.fpr95, s.auroc, s.unknown))
            rows.append([name, pixels, *shares, miou])
            name = miou = ""  # only in the first row
    columns = ("weights", "over", "AP", "FPR95", "AUROC", "AP of chance", "mIoU without objects")
    title = f"{scenes.name}: {len(scenes.scenes)} pictures, {len(objects)} objects"
    put_table(title, columns, rows)
    difference = miou_difference(results)
    if difference is not None:
        name, *_, other = results
        put(f"mIoU of {name} less that of {other}: {100 * difference:+.1f} points")
