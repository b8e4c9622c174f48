"""`streamvis eval forecast`: forecasts of segmentations, beside copy-last and the oracle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.options import SEGMENTER, Device, Json, SegmenterSettings
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
    from streamvis.datasets.classes import Classes
    from streamvis.runners.forecasts import ForecastResult, Horizon

FORECASTERS = ("street-forecast-0.2", "street-forecast-0.6")


def forecast(
    sequence: Annotated[
        Path,
        typer.Argument(
            help="A video, a folder of pictures, or a folder with images/ and, of all or some of "
            "them, labels/."
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Forecasters: a shipped name, or a path; repeat it to compare. Default: "
            f"{' and '.join(FORECASTERS)}."
        ),
    ] = None,
    segmenter: Annotated[
        str, typer.Option(help="Whose features are forecast, and whose classes are copied.")
    ] = SEGMENTER,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Rate of the pictures of a folder.")
    ] = None,
    horizon: Annotated[
        list[float] | None,
        typer.Option(min=0.01, help="Seconds ahead; repeatable. Default: as the weights say."),
    ] = None,
    set_: SegmenterSettings = None,
    device: Device = "cpu",
    sheet: Annotated[Path | None, typer.Option(help="Write strips of pictures here, PNG.")] = None,
    json: Json = False,
) -> None:
    """Score forecasts of scenes: mIoU of all and of movable classes, beside two references of the
    same segmenter, copy-last and the oracle, which segments the future picture itself.

    Forecasts are compared with the labels where there are any, elsewhere with the oracle.
    """
    with reported_errors():
        from streamvis.cli.settings import segmenter_configs
        from streamvis.datasets.labelled_video import read_labelled_video
        from streamvis.errors import DataError
        from streamvis.runners import forecasts
        from streamvis.runners.scene_networks import open_forecasters, open_segmenters
        from streamvis.runners.sheets.scenes import forecast_sheet
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        if sheet:
            check_writable(sheet)
        ((name, network),) = open_segmenters(
            segmenter_configs([segmenter], set_ or []), device
        ).items()
        video = read_labelled_video(sequence, fps, network.names)
        forecasters = open_forecasters(weights or list(FORECASTERS), network)
        horizons = forecasts.plan(forecasters, horizon or [])
        result = forecasts.evaluate(video, network, forecasters, horizons, progress)
        if not any(one.confusions for one in result.horizons):
            nearest = f"{horizons[0].us / 1e6:g} s and the past frames that a forecaster needs"
            raise DataError(f"{sequence}: too short for any forecast; expected more than {nearest}")
        if sheet:
            write_png(sheet, forecast_sheet(result, name))
        if json:
            put_json(result.report(name))
        else:
            put_result(result, name)


def put_result(result: "ForecastResult", segmenter: str) -> None:
    """Print the scores and the costs as tables and lines."""
    from streamvis.viz.numbers import decimals

    for horizon in result.horizons:
        _put_horizon(horizon, result.video.classes, segmenter)
    found = result.report(segmenter)
    put(f"{segmenter}: {decimals(found['segmentation_ms'])} ms to segment a picture")
    for name, ms in found["forecast_ms"].items():
        share = decimals(found["forecast_of_segmentation"][name])
        put(f"{name}: {decimals(ms)} ms to forecast one, {share} of that")


def _put_horizon(horizon: "Horizon", classes: "Classes", segmenter: str) -> None:
    from streamvis.runners.forecasts import COPY, LABELS, gaps_closed
    from streamvis.viz.numbers import decimals

    columns = ("method", "mIoU", "gap closed", "movable mIoU", "gap closed")
    if not horizon.confusions:
        put(f"{horizon.us / 1e6:g} s ahead: the video is too short for any forecast")
    for kind, confusions in horizon.confusions.items():
        truth = "their labels" if kind == LABELS else f"the classes of {segmenter} (oracle)"
        rows = []
        for method, confusion in confusions.items():
            gap, movable = gaps_closed(confusions, method, classes)
            shown = (confusion.miou(), gap, confusion.miou(classes.movable), movable)
            rows.append([method, *map(decimals, shown)])
        pictures = confusions[COPY].pictures
        title = f"{horizon.us / 1e6:g} s ahead: {pictures} pictures, against {truth}"
        put_table(title, columns, rows)
    for label, direct in horizon.same.items():
        put(f"{label}: equals {direct} by construction (the same motion for the same time)")
    for name, one in horizon.reliability.items():
        if unsure := one.unsure():
            put(
                f"{name}: where it forecast movable classes with a probability of 0.1 to 0.9, "
                f"{unsure.told:.2f} on average, they came in {unsure.came:.2f} of places"
            )
