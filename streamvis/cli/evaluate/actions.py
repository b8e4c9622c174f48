"""`streamvis eval actions`: networks of actions on labelled clips."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.options import Device, Json, Precision
from streamvis.cli.output import check_writable, put, put_json, put_table, reported_errors

if TYPE_CHECKING:
    from streamvis.evaluation.classification import ClassificationScores
    from streamvis.runners.actions import ActionResult

SHOWN = ("top1", "mean_class", "auc", "ap")


class Flow(StrEnum):
    """Methods of optical flow."""

    dis = "dis"
    farneback = "farneback"


def actions(
    data: Annotated[
        Path,
        typer.Argument(
            help="A CSV (path,label,source[,start,end]), a folder with clips.csv or a folder for "
            "each action."
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="A shipped name, or a path; repeat it for a network of flow to compare with. "
            "Default: fight-off."
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="What `train actions` wrote: each fold is scored on what it held out."),
    ] = None,
    flow: Annotated[Flow, typer.Option(help="Optical flow, for networks that use it.")] = Flow.dis,
    device: Device = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of the networks.")] = Precision.auto,
    plot: Annotated[Path | None, typer.Option(help="Write the confusion matrix here, PNG.")] = None,
    json: Json = False,
) -> None:
    """Score networks of actions: top-1, mean class accuracy, AUC and AP of two classes, speed."""
    with reported_errors():
        from streamvis.errors import UsageError
        from streamvis.runners import actions as runner
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        if plot:
            check_writable(plot)
        if weights and folds:
            raise UsageError("--weights and --folds: give one; the folds have their own weights")
        if folds:
            result = runner.evaluate_folds(data, folds, device, precision.value, flow.value)
        else:
            given = weights or ["fight-off"]
            result = runner.evaluate(data, given, device, precision.value, flow.value)
        if plot:
            _plot(plot, result)
        if json:
            put_json(result.report())
        else:
            _put_tables(result)


def _put_tables(result: "ActionResult") -> None:
    """Print the scores as a table, and the speed beside that of RGB alone."""
    rows = []
    for name, scores in result.all.items():
        speed = result.per_s.get(name)
        shown = (_shown(result, name, key, scores) for key in SHOWN)
        rows.append([name, *shown, f"{speed:.1f}" if speed else "–"])
    title = f"{result.all['rgb'].clips} clips" + (
        f", mean ± spread over {len(result.folds)} folds" if result.folds else ""
    )
    put_table(title, ("streams", "top-1", "mean class", "AUC", "AP", "pictures/s"), rows)
    ratios = {name: result.per_s["rgb"] / s for name, s in result.per_s.items() if name != "rgb"}
    put("time beside rgb alone: " + ", ".join(f"{n} {r:.2f}×" for n, r in ratios.items()))


def _shown(result: "ActionResult", name: str, key: str, scores: "ClassificationScores") -> str:
    from streamvis.training.actions.cross_validation import spread

    if result.folds and (known := spread([getattr(f[name], key) for f in result.folds])):
        return f"{known[0]:.3f} ± {known[1]:.3f}"
    value = getattr(scores, key)
    return "–" if value is None else f"{value:.3f}"


def put_folds(folds: "Sequence[Mapping[str, ClassificationScores]]") -> None:
    """Print the scores of `train actions`, mean and spread over the folds, for each stream."""
    from streamvis.training.actions.cross_validation import spread

    for name in folds[0] if folds else ():
        each = {key: spread([getattr(fold[name], key) for fold in folds]) for key in SHOWN}
        texts = [f"{key} {known[0]:.3f} ± {known[1]:.3f}" for key, known in each.items() if known]
        put(f"{name}: {', '.join(texts)}")


def _plot(path: Path, result: "ActionResult") -> None:
    """Draw the confusion matrix of the best streams there are."""
    from streamvis.viz.plots import confusion

    name = "rgb+off" if "rgb+off" in result.all else "rgb"
    confusion(path, result.all[name].confusion, result.actions, title=name)
