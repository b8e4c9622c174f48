"""`streamvis track`: the tracker alone, on a MOTChallenge file of detections.

Torch is imported only for appearance and camera motion, where there are pictures.
"""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.options import (
    LOOKS,
    NO_VIDEO,
    Camera,
    Json,
    Looks,
    Scores,
    ScoreScale,
    TrackerSettings,
)
from streamvis.cli.output import check_writable, put_json, reported_errors, say

if TYPE_CHECKING:
    from streamvis.datasets.motchallenge import Rows, SequenceInfo

DEFAULT_FPS = 25.0  # of a file of unknown rate


class TrackSpace(StrEnum):
    """Where the tracker works: in the image, or on the ground."""

    auto = "auto"
    image = "image"
    ground = "ground"


def track(
    detections: Annotated[Path, typer.Argument(metavar="DET.txt", help="frame,-1,x,y,w,h,score…")],
    out: Annotated[Path, typer.Option(help="Write the tracks here, as MOTChallenge has them.")],
    seqinfo: Annotated[
        Path | None,
        typer.Option(help="Rate, size and length; default: seqinfo.ini beside DET.txt or above."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.01, help="Frames per second; unknown: 25.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="W×H", help="Pixels, 1920x1080; unknown: as far as boxes reach."),
    ] = None,
    ground_plane: Annotated[
        Path | None, typer.Option(help="Homography; default: ground_plane.json beside seqinfo.ini.")
    ] = None,
    space: Annotated[
        TrackSpace, typer.Option(help="auto: ground where a plane is known.")
    ] = TrackSpace.auto,
    scores: Scores = ScoreScale.auto,
    video: Annotated[
        Path | None,
        typer.Option(help="Video or images of the detections; default: what seqinfo.ini names."),
    ] = None,
    looks: Looks = LOOKS,
    camera: Camera = True,
    set_: TrackerSettings = None,
    json: Json = False,
) -> None:
    """Track the people of a file of detections; by appearance too, where there are pictures."""
    with reported_errors():
        from streamvis.cli.settings import configure
        from streamvis.config import Jipda
        from streamvis.datasets import motchallenge
        from streamvis.errors import UsageError
        from streamvis.runners.tracker_inputs import cues_for, from_detections
        from streamvis.runners.tracking import public_detections, run_tracker, source_info

        config = configure(Jipda, {"space": space.value}, set_ or [])
        check_writable(out)
        if out.exists() and detections.exists() and out.samefile(detections):
            raise UsageError(f"--out {out}: the tracks would replace the detections")
        ini = seqinfo or _beside(detections, "seqinfo.ini")
        info = motchallenge.read_info(ini) if ini else None
        rows = motchallenge.read_detections(
            detections, info.length if info else motchallenge.MOST_FRAMES
        )
        video = video or (info.video if info else None)
        cues = cues_for(looks, camera, video, config)
        info = _described(detections, rows, info, fps, size, video if cues.any else None)
        plane = ground_plane or (_beside(detections, "ground_plane.json") if ini else None)
        parts = public_detections(rows, info.length, calibrate=scores is ScoreScale.calibrate)
        inputs = from_detections(info, video, parts, cues)
        if inputs.note:
            say(inputs.note)
        run = run_tracker(source_info(info, plane), config, inputs.frames)
        motchallenge.write_results(out, run.rows)
        people = len(set(run.rows.ids.tolist()))
        if json:
            counts = {"frames": run.frames, "people": people, "rows": len(run.rows)}
            put_json({**counts, "hz": run.hz, **cues._asdict()})
        say(
            f"{out}: {people} people in {run.frames} frames{'' if video else NO_VIDEO}; the "
            f"tracker alone did {run.hz:.0f} frames/s"
        )


def _beside(detections: Path, name: str) -> Path | None:
    """Find a file in the folder of the detections, or above it: they lie in det/ of a sequence."""
    folder = detections.absolute().parent
    above = (folder.parent,) if folder.name == "det" else ()
    return next((path / name for path in (folder, *above) if (path / name).exists()), None)


def _described(
    detections: Path,
    rows: "Rows",
    info: "SequenceInfo | None",
    fps: float | None,
    size: str | None,
    video: Path | None,
) -> "SequenceInfo":
    """Take rate and size from the command line, else seqinfo.ini, else the video, else guess."""
    from streamvis.datasets.motchallenge import SequenceInfo
    from streamvis.runners.tracker_inputs import video_info

    shot = video_info(video) if video and info is None else None
    known = (info.width, info.height) if info else (shot.width, shot.height) if shot else None
    width, height = _pixels(size) if size else known or _reach(rows)
    rate = fps or (info.fps if info else shot.fps if shot else 0) or DEFAULT_FPS
    if info is None and shot is None and (fps is None or size is None):
        say(
            f"there is no seqinfo.ini with {detections}: taken for {rate:g} frames/s of "
            f"{width}x{height}, as far as its boxes reach; give others with --fps and --size"
        )
    length = info.length if info else int(rows.frames.max(initial=1))
    return SequenceInfo(info.name if info else detections.stem, rate, width, height, length)


def _reach(rows: "Rows") -> tuple[int, int]:
    """Return width and height of the smallest picture that holds all boxes."""
    width, height = (math.ceil(rows.boxes[:, side].max(initial=1)) for side in (2, 3))
    return max(width, 1), max(height, 1)


def _pixels(size: str) -> tuple[int, int]:
    from streamvis.errors import UsageError

    width, _, height = size.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise UsageError(f"--size {size}: expected width and height in pixels, like 1920x1080")
    return int(width), int(height)
