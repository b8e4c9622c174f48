"""Options and arguments that several commands share, each defined once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Precision(StrEnum):
    """Number format of a network's dense parts."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str, typer.Option(help="cpu, cuda:0, …")]
PipelinePath = Annotated[
    Path | None,
    typer.Argument(help="A pipeline: a file, or the name of a shipped one (default: people)."),
]
PlacementPath = Annotated[
    Path | None,
    typer.Option("--on", help="A placement, file or shipped name: which worker runs what, where."),
]
TrackerSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value of the tracker: memory_s=1; repeatable."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="stage.key=value, over the file's; repeatable.")
]
Annotate = Annotated[bool, typer.Option("--annotate", help="Also write annotated.mp4.")]
StartTime = Annotated[
    str | None,
    typer.Option(
        help="When the first picture of a file was taken, as in 2026-11-29T08:00:00+01:00 "
        "(without an offset: local time), or `container`: as the file says. For one source: "
        "FILE#start_time=TIME."
    ),
]
