"""`streamvis train`: our own recipes, on pictures, people who were followed, clips, drives."""

from pathlib import Path
from typing import Annotated

import typer

from streamvis.cli.output import put, put_json, reported_errors, say

app = typer.Typer(help="Train the networks.", no_args_is_help=True)
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start anew, over another training that --out holds.")
]
HoldOut = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Do not learn from this source, sequence or video; repeatable. In place of the "
        "recipe's hold_out; none: learn from everything.",
    ),
]
GOING_ON = "training into {}; stop it at any time, the same command goes on from there"


@app.callback()
def train() -> None:
    """Train the networks."""


@app.command()
def detector(
    recipe: Annotated[Path, typer.Argument(help="A training file, or the name of a shipped one.")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder with annotations.json and images/; repeatable: all weigh alike, "
            "however many pictures they hold."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where checkpoints, curves and weights go.")],
    hold_out: HoldOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a person detector; run the same command again to go on where it stopped."""
    with reported_errors():
        from streamvis.training.detector.recipe import load_recipe, run

        say(GOING_ON.format(out))
        put(str(run(load_recipe(recipe, hold_out), data, out, overwrite=overwrite)))


@app.command()
def embedder(
    recipe: Annotated[Path, typer.Argument(help="A training file, or the name of a shipped one.")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="MOTChallenge sequences, what `streamvis batch` wrote, or a folder with "
            "annotations.json and images/; repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where crops, checkpoints, curves and weights go.")],
    teacher: Annotated[
        list[Path] | None,
        typer.Option(help="A re-identification network (.onnx) to learn from too; repeatable."),
    ] = None,
    hold_out: HoldOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network that knows people again; run the same command again to go on."""
    with reported_errors():
        from streamvis.training.reid.recipe import load_recipe, run

        say(GOING_ON.format(out))
        loaded = load_recipe(recipe, hold_out)
        put(str(run(loaded, data, teacher or [], out, overwrite=overwrite)))


@app.command()
def actions(
    recipe: Annotated[Path, typer.Argument(help="A training file, or the name of a shipped one.")],
    data: Annotated[
        Path,
        typer.Option(
            help="A CSV (path,label,source[,start,end]), a folder with clips.csv or a folder for "
            "each action; UCF-101 and HMDB-51 as published."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where clips, checkpoints, curves and weights go.")],
    streams: Annotated[
        str, typer.Option(help="What is trained, and compared: rgb,off,flow,diff.")
    ] = "rgb,off",
    fold: Annotated[
        int | None, typer.Option(help="Only this fold of the recipe's, from 1; no weights to use.")
    ] = None,
    split: Annotated[
        int | None, typer.Option(help="Only this published split of UCF-101 or HMDB-51.")
    ] = None,
    overwrite: Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a network that tells actions: folds over sources first, then on all clips."""
    with reported_errors():
        from streamvis.cli.evaluate.actions import put_folds
        from streamvis.training.actions.cross_validation import report, run
        from streamvis.training.actions.recipe import load_recipe

        say(GOING_ON.format(out))
        found = run(
            load_recipe(recipe),
            data,
            out,
            streams=streams.split(","),
            fold=fold,
            split=split,
            overwrite=overwrite,
        )
        if json:
            put_json(report(found))
        else:
            put_folds(found["folds"])


@app.command()
def segmenter(
    recipe: Annotated[Path, typer.Argument(help="A training file, or the name of a shipped one.")],
    data: Annotated[
        list[Path],
        typer.Option(help="Labelled pictures in CamVid's or Cityscapes' layout; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Where checkpoints, curves and weights go.")],
    negatives: Annotated[
        list[Path] | None,
        typer.Option(
            help="Pictures of anything but streets, or cut-outs with alpha, to paste as unknown; "
            "repeatable. For recipes with `outliers`."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network that segments scenes; run the same command again to go on."""
    with reported_errors():
        from streamvis.training.scenes.segmenter import load_recipe, run

        say(GOING_ON.format(out))
        put(str(run(load_recipe(recipe), data, out, negatives or [], overwrite=overwrite)))


@app.command()
def forecaster(
    recipe: Annotated[Path, typer.Argument(help="A training file, or the name of a shipped one.")],
    data: Annotated[
        list[Path], typer.Option(help="Folder of driving videos, without labels; repeatable.")
    ],
    weights: Annotated[
        str, typer.Option(help="The segmenter that sees for it: a shipped name, or a path.")
    ],
    out: Annotated[Path, typer.Option(help="Where maps, checkpoints, curves and weights go.")],
    hold_out: HoldOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a network that tells what a segmenter will see; run the same command again to go on.

    Kept maps take about 1.5 MB for a view of 480×360: 15 MB a second, thrice that of wide video.
    """
    with reported_errors():
        from streamvis.training.scenes.forecaster import load_recipe, run

        say(GOING_ON.format(out))
        loaded = load_recipe(recipe, hold_out)
        path, told = run(loaded, data, weights, out, overwrite=overwrite)
        if told.pictures:
            say(str(told))
        put(str(path))
