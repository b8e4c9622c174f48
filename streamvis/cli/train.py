"""`streamvis train`: our own recipes, on data in COCO layout or on people who were followed."""

from pathlib import Path
from typing import Annotated

import typer

from streamvis.cli.report import put, reported_errors, say

app = typer.Typer(help="Train the networks.", no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train the networks."""


@app.command()
def detector(
    recipe: Annotated[Path, typer.Argument(help="A training file, configs/training/*.yaml.")],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder with annotations.json and images/; repeatable: all weigh alike, "
            "however many pictures they hold."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where checkpoints, curves and weights go.")],
) -> None:
    """Train a person detector; run the same command again to go on where it stopped."""
    with reported_errors():
        from streamvis.training.detector import load_recipe, run

        say(f"training into {out}; stop it at any time, the same command goes on from there")
        put(str(run(load_recipe(recipe), data, out)))


@app.command()
def embedder(
    recipe: Annotated[Path, typer.Argument(help="A training file, configs/training/*-r18.yaml.")],
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
) -> None:
    """Train a network that knows people again; run the same command again to go on."""
    with reported_errors():
        from streamvis.training.embedder import load_recipe, run

        say(f"training into {out}; stop it at any time, the same command goes on from there")
        put(str(run(load_recipe(recipe), data, teacher or [], out)))
