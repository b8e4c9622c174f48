"""`streamvis weights`: what is there, what it is, and other people's checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from streamvis.cli.options import Json
from streamvis.cli.output import put, put_json, put_table, reported_errors

app = typer.Typer(help="List, show, verify, compare and import weights.", no_args_is_help=True)
MOST = 20  # differing tensors that are printed
Name = Annotated[str, typer.Argument(help="A shipped name, or a path.")]


@app.command("list")
def list_weights(json: Json = False) -> None:
    """List the weights that come with the package."""
    with reported_errors():
        from streamvis.models import weights

        infos = {name: weights.describe(name) for name in weights.shipped()}
        if json:
            put_json(infos)
            return
        rows = [
            (name, i.architecture, i.parameters, f"{i.bytes / 1e6:.1f} MB", i.sha256[:12])
            for name, i in infos.items()
        ]
        put_table("", ("name", "architecture", "parameters", "size", "sha256"), rows)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show a file's metadata and, for shipped weights, its model card."""
    with reported_errors():
        from streamvis.models import weights

        info = weights.describe(name)
        if json:
            put_json(info)
            return
        put(_text(info.path, info.architecture, info.parameters, info.sha256))
        for key, value in info.metadata.items():
            put(f"{key}: {value}")
        card = Path(info.path).with_suffix(".md")
        if card.is_file():
            put("\n" + card.read_text(encoding="utf-8"))


@app.command()
def verify(name: Name, json: Json = False) -> None:
    """Load the file into its model: names, shapes and finite values must hold."""
    with reported_errors():
        from streamvis.models import weights

        info = weights.verify(name)
        if json:
            put_json(info)
            return
        put(_text(info.path, info.architecture, info.parameters, info.sha256))
        put("it fits, and all its numbers are finite")


@app.command()
def diff(
    name: Name,
    other: Annotated[
        str | None, typer.Argument(help="Another; default: the model NAME is for.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell which tensors are missing, unexpected, of another shape, or hold other numbers."""
    with reported_errors():
        from streamvis.models import weights
        from streamvis.models.checkpoint_io import shown

        found = weights.difference(name, other)
        if json:
            put_json(found)
            return
        lines = [
            *(f"missing     {shown(key)}" for key in found.missing),
            *(f"unexpected  {shown(key)}" for key in found.unexpected),
            *(f"shape       {shown(key)} {a}, not {b}" for key, (a, b) in found.shapes.items()),
        ]
        apart = sorted(found.numbers.items(), key=lambda item: (item[1] == item[1], -item[1]))
        lines += [f"{value:<11.4g} {shown(key)}" for key, value in apart[:MOST]]
        if len(apart) > MOST:
            lines.append(f"and {len(apart) - MOST} more tensors with smaller differences")
        put("\n".join(lines or [f"{found.file} and {found.other} are alike"]))


@app.command("import")
def import_weights(
    checkpoint: Annotated[Path, typer.Argument(help="A torchvision Mask R-CNN .pth.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: beside it.")] = None,
    json: Json = False,
) -> None:
    """Convert a published checkpoint to safetensors and verify it."""
    with reported_errors():
        from streamvis.models import weights

        info = weights.import_checkpoint(checkpoint, out or checkpoint.with_suffix(".safetensors"))
        if json:
            put_json(info)
        else:
            put(_text(info.path, info.architecture, info.parameters, info.sha256))


def _text(path: str, architecture: str, parameters: int, sha256: str) -> str:
    return f"{path}\n{architecture}, {parameters} parameters, sha256 {sha256}"
