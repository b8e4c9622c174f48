"""`streamvis train`: detectors, embedders, action and pose networks, segmenters, forecasters."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Json
from streamvis.cli.output import command, put, put_result, say

app = typer.Typer(help="Train the networks.", no_args_is_help=True)
Overwrite = Annotated[
    bool, Option("--overwrite", help="Start anew and delete the training in --out.")
]
HoldOut = Annotated[
    list[str] | None,
    Option(
        metavar="NAME",
        help="Do not train on this source, sequence or video; repeatable. Replaces the recipe's "
        "hold_out; none: train on everything.",
    ),
]
Out = Annotated[Path, Option(help="Directory for checkpoints, curves and weights.")]
Recipe = Annotated[Path, Argument(help="A recipe file, or the name of a shipped one.")]


def _say_resumable(out: Path) -> None:
    say(f"training into {out}; stop it at any time, the same command resumes it")


@command(app)
def detector(
    recipe: Recipe,
    data: Annotated[
        list[Path],
        Option(
            help="Folder with annotations.json and images/; repeatable: all have the same weight, "
            "whatever their number of images."
        ),
    ],
    out: Out,
    hold_out: HoldOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a person detector; the same command resumes a stopped training."""
    from streamvis.training.detector.recipe import load_recipe, run

    _say_resumable(out)
    put(str(run(load_recipe(recipe, hold_out), data, out, overwrite=overwrite)))


@command(app)
def int8(
    weights: Annotated[str, Argument(help="A detector: a shipped name, or a path.")],
    data: Annotated[
        list[Path],
        Option(help="Folder with annotations.json and images/ of the training set; repeatable."),
    ],
    pictures: Annotated[int, Option(min=1, help="How many pictures to measure on.")] = 200,
    out: Annotated[
        Path | None, Option(help="File to write; default: WEIGHTS.int8.json, beside the weights.")
    ] = None,
) -> None:
    """Measure the ranges of a detector's values, with which it runs in int8."""
    from streamvis.training.detector.int8 import run

    put(str(run(weights, data, pictures, out)))


@command(app)
def embedder(
    recipe: Recipe,
    data: Annotated[
        list[Path],
        Option(
            help="MOTChallenge sequences, results of `streamvis batch`, or a folder with "
            "annotations.json and images/; repeatable."
        ),
    ],
    out: Annotated[Path, Option(help="Directory for crops, checkpoints and weights.")],
    teacher: Annotated[
        list[Path] | None,
        Option(help="A re-identification network (.onnx) to distil from; repeatable."),
    ] = None,
    hold_out: HoldOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Train an appearance embedder; the same command resumes a stopped training."""
    from streamvis.training.reid.recipe import load_recipe, run

    _say_resumable(out)
    loaded = load_recipe(recipe, hold_out)
    put(str(run(loaded, data, teacher or [], out, overwrite=overwrite)))


@command(app)
def actions(
    recipe: Recipe,
    data: Annotated[
        list[Path],
        Option(
            help="A CSV (path,label,source[,start,end]), a folder with clips.csv or with a folder "
            "for each action; UCF-101 and HMDB-51 as published. Repeatable: folds are of the "
            "first, the others are learnt from too."
        ),
    ],
    out: Annotated[Path, Option(help="Directory for clips, checkpoints and weights.")],
    streams: Annotated[
        str, Option(help="Streams to train and compare: rgb,off,flow,diff.")
    ] = "rgb,off",
    fold: Annotated[
        int | None, Option(help="Train only this fold, from 1, and no final network.")
    ] = None,
    split: Annotated[
        int | None, Option(help="Train only this published split of UCF-101 or HMDB-51.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Train an action network: cross-validation over sources, then training on all clips."""
    from streamvis.runners.action_tables import fold_lines
    from streamvis.training.actions.cross_validation import report, run
    from streamvis.training.actions.recipe import load_recipe

    _say_resumable(out)
    chosen, loaded = streams.split(","), load_recipe(recipe)
    found = run(
        loaded,
        data[0],
        out,
        also=data[1:],
        streams=chosen,
        fold=fold,
        split=split,
        overwrite=overwrite,
    )
    put_result(report(found), fold_lines(found["folds"]), json=json)


@command(app)
def pose(
    recipe: Recipe,
    data: Annotated[
        list[Path],
        Option(
            help="Folder with annotations.json, with COCO's keypoints, and images/; repeatable. "
            "Of pictures that were labelled by hand a third is trained on."
        ),
    ],
    out: Out,
    hold_out: HoldOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a pose network; the same command resumes a stopped training."""
    from streamvis.training.pose.recipe import load_recipe, run

    _say_resumable(out)
    put(str(run(load_recipe(recipe, hold_out), data, out, overwrite=overwrite)))


@command(app)
def segmenter(
    recipe: Recipe,
    data: Annotated[
        list[Path], Option(help="Labelled images in CamVid's or Cityscapes' layout; repeatable.")
    ],
    out: Out,
    negatives: Annotated[
        list[Path] | None,
        Option(
            help="Images without streets, or cut-outs with alpha, to paste as "
            "out-of-distribution objects; repeatable. For recipes with `outliers`."
        ),
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        Option(
            help="Folder of driving videos that the weights to start from label, to learn from as "
            "well; repeatable. For recipes with `unlabelled`."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a semantic segmenter; the same command resumes a stopped training."""
    from streamvis.training.scenes.segmenter import load_recipe, run

    _say_resumable(out)
    put(
        str(
            run(
                load_recipe(recipe),
                data,
                out,
                negatives or [],
                unlabelled or [],
                overwrite=overwrite,
            )
        )
    )


@command(app)
def forecaster(
    recipe: Recipe,
    data: Annotated[
        list[Path], Option(help="Folder of driving videos, without labels; repeatable.")
    ],
    weights: Annotated[
        str, Option(help="The segmenter whose feature maps are forecast: a name, or a path.")
    ],
    out: Annotated[Path, Option(help="Directory for maps, checkpoints and weights.")],
    hold_out: HoldOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a forecaster of a segmenter's feature maps; the same command resumes it.

    Cached maps take about 1.5 MB for a view of 480×360 px, which is 15 MB for each second of
    video, and three times as much for wide video.
    """
    from streamvis.training.scenes.forecaster import load_recipe, run

    _say_resumable(out)
    loaded = load_recipe(recipe, hold_out)
    path, scores = run(loaded, data, weights, out, overwrite=overwrite)
    if scores.pictures:
        say(str(scores))
    put(str(path))


@command(app, "pose-3d")
def pose_3d(
    recipe: Recipe,
    data: Annotated[
        list[Path], Option(help="Folder that streamvis label-poses wrote; repeatable.")
    ],
    out: Out,
    hold_out: HoldOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a lifter of 2D poses to 3D (experimental); the same command resumes it."""
    from streamvis.training.pose.lift_recipe import load_recipe, run

    _say_resumable(out)
    path, scores = run(load_recipe(recipe, hold_out), data, out, overwrite=overwrite)
    if scores:
        say(str(scores))
    put(str(path))
