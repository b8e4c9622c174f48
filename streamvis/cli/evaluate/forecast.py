"""`streamvis eval forecast`: forecasts of segmentations, beside copy-last and the oracle."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import SEGMENTER, Device, Json, SegmenterSettings
from streamvis.cli.output import begin, put_result, write_png
from streamvis.cli.progress import progress

FORECASTERS = ("street-forecast-0.2", "street-forecast-0.6")


def forecast(
    sequences: Annotated[
        list[Path],
        Argument(
            help="Videos, folders of pictures, or folders with images/ and, of all or some of "
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
    sheet: Annotated[
        Path | None, Option(help="Write strips of pictures of the first sequence here, PNG.")
    ] = None,
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
    videos = [read_labelled_video(path, fps, network.names) for path in sequences]
    forecasters = open_forecasters(weights or list(FORECASTERS), network)
    horizons = forecasts.plan(forecasters, horizon or [])
    results = [forecasts.evaluate(one, network, forecasters, horizons, progress) for one in videos]
    for result, path in zip(results, sequences, strict=True):
        forecasts.check_scored(result, path)
    if sheet:
        write_png(sheet, forecast_sheet(results[0], name))
    report = {
        "films": [result.report(name) for result in results],
        "mean": forecast_tables.mean_gaps(results),
    }
    put_result(report, forecast_tables.tables(results, name), json=json)
