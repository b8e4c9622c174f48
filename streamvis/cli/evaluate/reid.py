"""`streamvis eval reid`: embedders on the people of MOTChallenge sequences."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.options import Device, Json, Precision
from streamvis.cli.output import (
    check_writable,
    or_dash,
    put_json,
    put_table,
    reported_errors,
    say,
    write_png,
)

if TYPE_CHECKING:
    from streamvis.runners.reid import ReidResult


def reid(
    data: Annotated[
        list[Path],
        typer.Argument(help="MOTChallenge sequences with gt/gt.txt, or folders of them."),
    ],
    weights: Annotated[
        str, typer.Option(help="A shipped name, a path, or a re-identification .onnx.")
    ] = "person-r18",
    apart: Annotated[
        float, typer.Option(min=0, help="Least seconds between a query and its matches.")
    ] = 2.0,
    every: Annotated[
        int, typer.Option(min=1, help="Take one frame of so many; 1 for the shortest lags.")
    ] = 10,
    min_visibility: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave out people who are hidden more (MOT16 truth)."),
    ] = 0.5,
    device: Device = "cpu",
    precision: Annotated[Precision, typer.Option(help="Of the network.")] = Precision.auto,
    plot: Annotated[Path | None, typer.Option(help="Write AUC by time lag here, PNG.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write the worst mistakes here, PNG.")] = None,
    json: Json = False,
) -> None:
    """Score re-identification by appearance: rank-1, mAP, AUC by time lag."""
    with reported_errors():
        from streamvis.runners import reid as runner
        from streamvis.runners.detectors import name_of
        from streamvis.runners.sheets.reid import reid_sheet
        from streamvis.runtime.processes import keep_memory

        keep_memory()
        for path in filter(None, (plot, sheet)):
            check_writable(path)
        found = runner.read_sequences(data)
        embedder = runner.open_embedder(weights, device, precision.value)
        results = []
        for one in found:
            say(f"{one.name}: {one.length} frames")
            results.append(
                runner.score(
                    one, embedder, every=every, apart_s=apart, min_visibility=min_visibility
                )
            )
        if plot:
            _plot(plot, results, name_of(weights, []))
        if sheet:
            write_png(sheet, reid_sheet(results, name_of(weights, [])))
        if json:
            put_json(runner.report(results))
        else:
            _put_tables(results, apart)


def _put_tables(results: "Sequence[ReidResult]", apart_s: float) -> None:
    """Print the scores as tables."""
    from streamvis.evaluation.reid import LAGS

    columns = ("data", "crops", "people", "queries", "rank-1", "rank-5", "mAP")
    rows: list[list[object]] = []
    for one in results:
        s = one.scores
        shares = map(or_dash, (s.rank1, s.rank5, s.map))
        rows.append([one.sequence.name, s.looks, s.people, s.queries, *shares])
    put_table(f"The same person again, {apart_s:g} s apart or more", columns, rows)
    rows = [[o.sequence.name, *map(or_dash, o.scores.auc.values())] for o in results]
    put_table("Same or different: AUC by time between frames, up to", ("data", *LAGS), rows)


def _plot(path: Path, results: "Sequence[ReidResult]", name: str) -> None:
    """Write the area under the curve by time lag of all sequences."""
    from streamvis.evaluation.reid import LAGS
    from streamvis.viz.plots import over_categories

    series = {
        one.sequence.name: [float("nan") if v is None else v for v in one.scores.auc.values()]
        for one in results
    }
    title = f"{name}: same or different?"
    over_categories(path, LAGS, series, title=title, x="time between frames, up to", y="AUC")
    say(f"wrote {path}")
