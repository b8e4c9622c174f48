"""`streamvis eval reid`: embedders on the people of MOTChallenge sequences."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import Device, Json, Mistakes, Precision
from streamvis.cli.output import begin, put_result, say, write_png


def reid(
    data: Annotated[
        list[Path], Argument(help="MOTChallenge sequences with gt/gt.txt, or folders of them.")
    ],
    weights: Annotated[
        str, Option(help="A shipped name, a path, or a re-identification .onnx.")
    ] = "person-r18",
    apart: Annotated[
        float, Option(min=0, help="Least seconds between a query and its matches.")
    ] = 2.0,
    every: Annotated[
        int, Option(min=1, help="Take one frame of so many; 1 for the shortest lags.")
    ] = 10,
    min_visibility: Annotated[
        float, Option(min=0, max=1, help="Leave out people who are hidden more (MOT16 truth).")
    ] = 0.5,
    device: Device = "cpu",
    precision: Annotated[Precision, Option(help="Of the network.")] = Precision.auto,
    plot: Annotated[Path | None, Option(help="Write AUC by time lag here, PNG.")] = None,
    sheet: Mistakes = None,
    json: Json = False,
) -> None:
    """Score re-identification by appearance: rank-1, mAP, AUC by time lag."""
    from streamvis.runners import reid as runner
    from streamvis.runners.detectors import name_of
    from streamvis.runners.sheets.reid import plot_auc, reid_sheet

    begin(plot, sheet)
    found = runner.read_sequences(data)
    embedder, name = runner.open_embedder(weights, device, precision.value), name_of(weights, [])
    results = []
    for one in found:
        say(f"{one.name}: {one.length} frames")
        results.append(
            runner.score(one, embedder, every=every, apart_s=apart, min_visibility=min_visibility)
        )
    if plot:
        plot_auc(plot, results, name)
        say(f"wrote {plot}")
    if sheet:
        write_png(sheet, reid_sheet(results, name))
    put_result(runner.report(results), runner.tables(results, apart), json=json)
