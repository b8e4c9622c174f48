"""Options and arguments that several commands share, each defined once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

LOOKS, SEGMENTER = "person-r18", "street-seg"  # default weights
NO_VIDEO = ", without pictures, which appearance and camera motion need"


class ScoreScale(StrEnum):
    """How scores of detections are read."""

    auto = "auto"
    calibrate = "calibrate"


class Precision(StrEnum):
    """Number format of a network's dense parts."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class DetectorPrecision(StrEnum):
    """Number format of a detector's dense parts."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


Json = Annotated[bool, Option("--json", help="Print JSON.")]
RunName = Annotated[
    str | None,
    Option("--run", help="Process id or --out of the run; default: the only run of this user."),
]
Device = Annotated[str, Option(help="cpu, cuda:0, …")]
PipelinePath = Annotated[
    Path | None,
    Argument(help="A pipeline: a file, or the name of a shipped one (default: people)."),
]
PlacementPath = Annotated[
    Path | None,
    Option("--on", help="A placement, file or shipped name: which worker runs what, where."),
]
TrackerSettings = Annotated[
    list[str] | None, Option("--set", help="key=value of the tracker: memory_s=1; repeatable.")
]
Settings = Annotated[
    list[str] | None, Option("--set", help="stage.key=value, over the file's; repeatable.")
]
Annotate = Annotated[bool, Option("--annotate", help="Also write annotated.mp4.")]
StartTime = Annotated[
    str | None,
    Option(
        help="When the first picture of a file was taken, as in 2026-11-29T08:00:00+01:00 "
        "(without an offset: local time), or `container`: as the file says. For one source: "
        "FILE#start_time=TIME."
    ),
]
ZonesFiles = Annotated[
    list[str] | None,
    Option(
        "--zones",
        metavar="[ID=]FILE",
        help="Zones and lines of a source, or without ID of every source; repeatable.",
    ),
]
Data = Annotated[
    list[Path],
    Argument(help="MOTChallenge sequences, folders of them, or COCO folders (detect only)."),
]
Scenes = Annotated[
    Path,
    Argument(
        help="Labelled pictures: images/ with labels/, a folder beside its …annot (CamVid), or "
        "leftImg8bit/ with gtFine/ (Cityscapes; all of it, or one split)."
    ),
]
DetectorWeights = Annotated[str, Option(help="Of the detector: a shipped name, or a path.")]
SegmenterSettings = Annotated[
    list[str] | None,
    Option("--set", help="key=value of the segmenter: engine=torch, precision=fp32, lines=540."),
]
Scores = Annotated[
    ScoreScale, Option(help="auto: those in [0, 1] are probabilities, others calibrated.")
]
Looks = Annotated[str, Option(help="Weights of the embedder that re-identifies people, or none.")]
Mistakes = Annotated[Path | None, Option(help="Write the worst mistakes here, PNG.")]
Camera = Annotated[bool, Option(help="Measure how the camera moves.")]
