"""`streamvis eval segment`, `outliers` and `forecast`: scenes, held against their labels."""

from pathlib import Path
from typing import Annotated

import typer

from streamvis.cli.options import Device, Json
from streamvis.cli.output import put_json, reported_errors
from streamvis.errors import DataError

SEGMENTER, OUTLIERS = "street-seg", "street-outlier"
FORECASTERS = ("street-forecast-0.2", "street-forecast-0.6")
Scenes = Annotated[
    Path,
    typer.Argument(
        help="Labelled pictures: images/ with labels/, a folder beside its …annot (CamVid), or "
        "leftImg8bit/ with gtFine/ (Cityscapes; all of it, or one split)."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="key=value of the segmenter: engine=torch, precision=fp32, lines=540."
    ),
]


def segment(
    data: Scenes,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A shipped name, or a path; repeat it to compare. Default: street-seg."),
    ] = None,
    set_: Set = None,
    device: Device = "cpu",
    sheet: Annotated[
        Path | None, typer.Option(help="Write the pictures read worst here, PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Score segmenters: IoU of each class, its mean, pixels that are right, pictures a second."""
    with reported_errors():
        from streamvis.cli import segmentation as trial
        from streamvis.cli.detection import check_writable
        from streamvis.cli.scene_networks import named, open_segmenters
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        if sheet:
            check_writable(sheet)
        data_ = trial.streets(data)
        given = weights or [SEGMENTER]
        networks = dict(zip(named(given), open_segmenters(given, set_ or [], device), strict=True))
        outcomes = trial.score(data_, networks)
        if sheet:
            name, outcome = next(iter(outcomes.items()))
            trial.write_sheet(sheet, data_, outcome, networks[name], name)
        if json:
            put_json({name: outcome.report() for name, outcome in outcomes.items()})
        else:
            trial.put_outcomes(data_, outcomes)


def outliers(
    data: Scenes,
    objects: Annotated[
        Path,
        typer.Option(
            help="A folder of pictures of things that no street has: cut out (.png with alpha), "
            "or whole, and then their foreground is used."
        ),
    ],
    weights: Annotated[str, typer.Option(help="A shipped name, or a path.")] = OUTLIERS,
    against: Annotated[
        str | None,
        typer.Option(help="A plain segmenter to compare with on the same pictures; '' for none."),
    ] = SEGMENTER,
    seed: Annotated[int, typer.Option(min=0, help="Of which object comes where.")] = 0,
    set_: Set = None,
    device: Device = "cpu",
    sheet: Annotated[
        Path | None, typer.Option(help="Write the pictures told worst here, PNG.")
    ] = None,
    json: Json = False,
) -> None:
    """Score how well unknown things are told: each picture gets one, of 0.7 to 10 % of it.

    AP, false positives where 95 % are found, AUROC over pixels; and mIoU without them.
    """
    with reported_errors():
        from streamvis.cli import outliers as trial
        from streamvis.cli.detection import check_writable
        from streamvis.cli.scene_networks import named, open_segmenters
        from streamvis.cli.segmentation import streets
        from streamvis.runtime.processes import keep_memory
        from streamvis.training.scenes.outlier_synthesis import read_objects

        keep_memory()
        if sheet:
            check_writable(sheet)
        given = [weights, against] if against else [weights]
        data_, things = streets(data), read_objects(objects)
        networks = dict(zip(named(given), open_segmenters(given, set_ or [], device), strict=True))
        found = trial.score(data_, things, networks, seed)
        if sheet:
            (name, network), *_ = networks.items()
            trial.write_sheet(sheet, data_, things, seed, found[name], network, name)
        if json:
            put_json(trial.report(found, things, seed))
        else:
            trial.put_outcomes(data_, found, things)


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
        str, typer.Option(help="Whose features are forecast, and whose labels are copied.")
    ] = SEGMENTER,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Rate of the pictures of a folder.")
    ] = None,
    horizon: Annotated[
        list[float] | None,
        typer.Option(min=0.01, help="Seconds ahead; repeatable. Default: as the weights say."),
    ] = None,
    set_: Set = None,
    device: Device = "cpu",
    sheet: Annotated[Path | None, typer.Option(help="Write strips of pictures here, PNG.")] = None,
    json: Json = False,
) -> None:
    """Score forecasts of scenes: mIoU of all classes and of what moves, beside copying the last
    labels and seeing the future, all by the same segmenter.

    Pictures with labels are held against these, others against what the segmenter says of them.
    """
    with reported_errors():
        from streamvis.cli import forecast_report, forecasts
        from streamvis.cli.detection import check_writable
        from streamvis.cli.films import film
        from streamvis.cli.scene_networks import named, open_forecasters, open_segmenters
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        if sheet:
            check_writable(sheet)
        ((network,), (name,)) = open_segmenters([segmenter], set_ or [], device), named([segmenter])
        shots = film(sequence, fps, network.names)
        given = open_forecasters(weights or list(FORECASTERS), network)
        horizons = forecasts.plan(given, horizon or [])
        outcome = forecasts.evaluate(shots, network, given, horizons)
        if not any(one.tallies for one in outcome.horizons):
            nearest = f"{horizons[0].us / 1e6:g} s and the pictures that a forecaster goes on from"
            raise DataError(f"{sequence}: too short for any forecast; expected more than {nearest}")
        if sheet:
            forecast_report.write_sheet(sheet, outcome, name)
        if json:
            put_json(forecast_report.report(outcome, name))
        else:
            forecast_report.put_outcome(outcome, name)
