"""`streamvis eval forecast`: forecasts of segmentations, beside copy-last and the oracle."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import SEGMENTER, Device, Json, SegmenterSettings
from streamvis.cli.output import begin, put_result, write_png
from streamvis.cli.progress import progress

FORECASTERS = ("street-forecast-0.2", "street-forecast-0.6")


def forecast(
    sequence: Annotated[
        Path,
        Argument(
            help="A video, a folder of pictures, or a folder with images/ and, of all or some of "
            "them, labels/."
        ),
    ],
    weights: Annotated[
        list[str] | None,
        Option(
            help="Forecasters: a shipped name, or a path; repeat it to compare. Default: "
            f"{' and '.join(FORECASTERS)}."
        ),
    ] = None,
    segmenter: Annotated[
        str, Option(help="Whose features are forecast, and whose classes are copied.")
    ] = SEGMENTER,
    fps: Annotated[float | None, Option(min=0.1, help="Rate of the pictures of a folder.")] = None,
    horizon: Annotated[
        list[float] | None,
        Option(min=0.01, help="Seconds ahead; repeatable. Default: as the weights say."),
    ] = None,
    set_: SegmenterSettings = None,
    device: Device = "cpu",
    sheet: Annotated[Path | None, Option(help="Write strips of pictures here, PNG.")] = None,
    json: Json = False,
) -> None:
    """Score forecasts of scenes: mIoU of all and of movable classes, beside two references of the
    same segmenter, copy-last and the oracle, which segments the future picture itself.

    Forecasts are compared with the labels where there are any, elsewhere with the oracle.
    """
    from streamvis.datasets.labelled_video import read_labelled_video
    from streamvis.runners import forecast_tables, forecasts
    from streamvis.runners.scene_networks import open_forecasters, open_segmenters
    from streamvis.runners.settings import segmenter_configs
    from streamvis.runners.sheets.scenes import forecast_sheet

    begin(sheet)
    configs = segmenter_configs([segmenter], set_ or [])
    ((name, network),) = open_segmenters(configs, device).items()
    video = read_labelled_video(sequence, fps, network.names)
    forecasters = open_forecasters(weights or list(FORECASTERS), network)
    horizons = forecasts.plan(forecasters, horizon or [])
    result = forecasts.evaluate(video, network, forecasters, horizons, progress)
    forecasts.check_scored(result, sequence)
    if sheet:
        write_png(sheet, forecast_sheet(result, name))
    put_result(result.report(name), forecast_tables.tables(result, name), json=json)
