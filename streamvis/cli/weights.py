"""`streamvis weights`: what is there, what it is, and other people's checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import Json
from streamvis.cli.output import command, put_result

if TYPE_CHECKING:
    from streamvis.models.weights import Info

app = typer.Typer(help="List, show, verify, compare and import weights.", no_args_is_help=True)
MOST = 20  # differing tensors that are printed
Name = Annotated[str, Argument(help="A shipped name, or a path.")]


@command(app, "list")
def list_weights(json: Json = False) -> None:
    """List the weights that come with the package."""
    from streamvis.models import weights
    from streamvis.runners.tables import Table

    infos = {name: weights.describe(name) for name in weights.shipped()}
    rows = [
        (name, i.architecture, i.parameters, f"{i.bytes / 1e6:.1f} MB", i.sha256[:12])
        for name, i in infos.items()
    ]
    table = Table("", ("name", "architecture", "parameters", "size", "sha256"), rows)
    put_result(infos, [table], json=json)


@command(app)
def show(name: Name, json: Json = False) -> None:
    """Show a file's metadata and, for shipped weights, its model card."""
    from streamvis.models import weights

    info = weights.describe(name)
    lines = [_text(info), *(f"{key}: {value}" for key, value in info.metadata.items())]
    card = Path(info.path).with_suffix(".md")
    if card.is_file():
        lines.append("\n" + card.read_text(encoding="utf-8"))
    put_result(info, lines, json=json)


@command(app)
def verify(name: Name, json: Json = False) -> None:
    """Load the file into its model: names, shapes and finite values must hold."""
    from streamvis.models import weights

    info = weights.verify(name)
    put_result(info, [_text(info), "it fits, and all its numbers are finite"], json=json)


@command(app)
def diff(
    name: Name,
    other: Annotated[str | None, Argument(help="Another; default: the model NAME is for.")] = None,
    json: Json = False,
) -> None:
    """Tell which tensors are missing, unexpected, of another shape, or hold other numbers."""
    from streamvis.models import weights
    from streamvis.models.checkpoint_io import shown

    found = weights.difference(name, other)
    lines = [
        *(f"missing     {shown(key)}" for key in found.missing),
        *(f"unexpected  {shown(key)}" for key in found.unexpected),
        *(f"shape       {shown(key)} {a}, not {b}" for key, (a, b) in found.shapes.items()),
    ]
    apart = sorted(found.numbers.items(), key=lambda item: (item[1] == item[1], -item[1]))
    lines += [f"{value:<11.4g} {shown(key)}" for key, value in apart[:MOST]]
    if len(apart) > MOST:
        lines.append(f"and {len(apart) - MOST} more tensors with smaller differences")
    put_result(found, lines or [f"{found.file} and {found.other} are alike"], json=json)


@command(app, "import")
def import_weights(
    checkpoint: Annotated[Path, Argument(help="A torchvision Mask R-CNN .pth, or OFF's.")],
    out: Annotated[Path | None, Option(help="Where to write; default: beside it.")] = None,
    json: Json = False,
) -> None:
    """Convert a published checkpoint to safetensors and verify it."""
    from streamvis.models import weights

    info = weights.import_checkpoint(checkpoint, out)
    put_result(info, [_text(info)], json=json)


def _text(info: "Info") -> str:
    about = f"{info.architecture}, {info.parameters} parameters, sha256 {info.sha256}"
    return f"{info.path}\n{about}"
