"""`streamvis eval actions`: networks of actions on labelled clips."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import Device, Json, Precision
from streamvis.cli.output import begin, put_result


class Flow(StrEnum):
    """Methods of optical flow."""

    dis = "dis"
    farneback = "farneback"


def actions(
    data: Annotated[
        Path,
        Argument(
            help="A CSV (path,label,source[,start,end]), a folder with clips.csv or a folder for "
            "each action."
        ),
    ],
    weights: Annotated[
        list[str] | None,
        Option(
            help="A shipped name, or a path; repeat it for a network of flow to compare with. "
            "Default: fight-off."
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        Option(help="What `train actions` wrote: each fold is scored on what it held out."),
    ] = None,
    flow: Annotated[Flow, Option(help="Optical flow, for networks that use it.")] = Flow.dis,
    device: Device = "cpu",
    precision: Annotated[Precision, Option(help="Of the networks.")] = Precision.auto,
    plot: Annotated[Path | None, Option(help="Write the confusion matrix here, PNG.")] = None,
    json: Json = False,
) -> None:
    """Score networks of actions: top-1, mean class accuracy, AUC and AP of two classes, speed."""
    from streamvis.errors import UsageError
    from streamvis.runners import action_tables
    from streamvis.runners import actions as runner
    from streamvis.viz.plots import confusion

    begin(plot)
    if weights and folds:
        raise UsageError("--weights and --folds: give one; the folds have their own weights")
    if folds:
        result = runner.evaluate_folds(data, folds, device, precision.value, flow.value)
    else:
        given = weights or ["fight-off"]
        result = runner.evaluate(data, given, device, precision.value, flow.value)
    if plot:
        confusion(plot, result.all[result.best].confusion, result.actions, title=result.best)
    put_result(result.report(), action_tables.tables(result), json=json)
