"""`streamvis track`: the tracker alone, on a MOTChallenge file of detections.

Torch is imported only to look at people, where there are pictures.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from streamvis.cli.options import Json, TrackerSettings
from streamvis.cli.output import put_json, reported_errors, say

if TYPE_CHECKING:
    from streamvis.cli.pictures import Aids, Shown
    from streamvis.config import Jipda
    from streamvis.datasets.motchallenge import Rows, SequenceInfo
    from streamvis.messages import Detections, SourceInfo


class Space(StrEnum):
    auto = "auto"
    image = "image"
    ground = "ground"


class Scores(StrEnum):
    auto = "auto"
    calibrate = "calibrate"


USUAL_FPS = 25.0  # of a file that nobody tells anything about
ScoresAre = Annotated[
    Scores, typer.Option(help="auto: those in [0, 1] are probabilities, others calibrated.")
]
LOOKS = "person-r18"
BLIND = ", without pictures, which looks and camera motion need"
Looks = Annotated[str, typer.Option(help="Weights that know people again by their looks, or none.")]
Camera = Annotated[bool, typer.Option(help="Measure how the camera moves.")]


class Followed(NamedTuple):
    """A tracker's results, and how long it took for them."""

    rows: "Rows"
    frames: int
    seconds: float  # in the tracker alone

    @property
    def hz(self) -> float:
        return self.frames / max(self.seconds, 1e-9)


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
    space: Annotated[Space, typer.Option(help="auto: ground where a plane is known.")] = Space.auto,
    scores: ScoresAre = Scores.auto,
    video: Annotated[
        Path | None,
        typer.Option(help="Video or images of the detections; default: what seqinfo.ini names."),
    ] = None,
    looks: Looks = LOOKS,
    camera: Camera = True,
    set_: TrackerSettings = None,
    json: Json = False,
) -> None:
    """Follow the people of a file of detections; by their looks too, where there are pictures."""
    with reported_errors():
        from streamvis.cli import pictures
        from streamvis.cli.detection import check_writable
        from streamvis.cli.settings import configure
        from streamvis.config import Jipda
        from streamvis.datasets import motchallenge
        from streamvis.errors import UsageError

        config = configure(Jipda, {"space": space.value}, set_ or [])
        check_writable(out)
        if out.exists() and detections.exists() and out.samefile(detections):
            raise UsageError(f"--out {out}: the tracks would replace the detections")
        ini = seqinfo or _beside(detections, "seqinfo.ini")
        info = motchallenge.read_info(ini) if ini else None
        rows = motchallenge.read_detections(
            detections, info.length if info else motchallenge.MOST_FRAMES
        )
        film = video or (info.video if info else None)
        aids = wanted(looks, camera, film, config)
        info = _described(detections, rows, info, fps, size, film if aids.any else None)
        plane = ground_plane or (_beside(detections, "ground_plane.json") if ini else None)
        parts = public(rows, info.length, scores)
        frames = pictures.given(info, film, parts, aids)
        followed = follow(source_of(info, plane), config, frames)
        motchallenge.write_results(out, followed.rows)
        people = len(set(followed.rows.ids.tolist()))
        if json:
            put_json(
                {
                    "frames": followed.frames,
                    "people": people,
                    "rows": len(followed.rows),
                    "hz": followed.hz,
                    **aids._asdict(),
                }
            )
        say(
            f"{out}: {people} people in {followed.frames} frames{'' if film else BLIND}; the "
            f"tracker alone did {followed.hz:.0f} frames/s"
        )


def wanted(looks: str, camera: bool, film: Path | None, config: "Jipda") -> "Aids":
    """What pictures are to tell this tracker; nothing without them."""
    from streamvis.cli.pictures import Aids

    aids = Aids(None if looks == "none" else looks, camera) if film else Aids()
    aids.check(config)
    return aids


def public(rows: "Rows", length: int, scores: Scores) -> "list[Detections]":
    """The detections of each frame, its scores as what those up to then make of them."""
    import numpy as np

    from streamvis.evaluation.detection import detections_of
    from streamvis.tracking.score_calibration import ScoreCalibration

    calibration = ScoreCalibration(believe_shares=scores is Scores.auto)
    found = [calibration(at.scores) for at in rows.by_frame(length)]
    in_order = rows.where(np.argsort(rows.frames, kind="stable"))
    calibrated = replace(in_order, scores=np.concatenate([np.zeros(0), *found]))
    return detections_of(calibrated, length)


def follow(source: "SourceInfo", config: "Jipda", frames: "Iterable[Shown]") -> Followed:
    """Show the frames to a tracker, and take its time."""
    from streamvis.tracking.tracker import Tracker

    tracker = Tracker(source, config)
    found = []
    seconds = 0.0
    for one in frames:
        start = time.perf_counter()
        tracks = tracker.update(one.detections, one.media_us, one.embeddings, one.motion)
        seconds += time.perf_counter() - start
        found.append((one.number, tracks))
    return Followed(_rows(found), len(found), seconds)


def _rows(found: "list[tuple[int, Any]]") -> "Rows":
    import numpy as np

    from streamvis.datasets import motchallenge

    counts = [len(tracks.ids) for _, tracks in found]
    empty = [np.zeros((0, 4))]
    return motchallenge.rows(
        frames=np.repeat([n for n, _ in found], counts),
        ids=np.concatenate([np.zeros(0), *(t.ids for _, t in found)]),
        boxes=np.concatenate(empty + [t.boxes for _, t in found]),
        scores=np.concatenate([np.zeros(0), *(t.existence for _, t in found)]),
        world=np.concatenate([np.zeros((0, 2)), *(t.ground for _, t in found)]),
    )


def source_of(info: "SequenceInfo", plane: Path | None) -> "SourceInfo":
    """What a tracker is told of a sequence."""
    from streamvis.geometry import read_ground_plane
    from streamvis.messages import SourceInfo

    return SourceInfo(
        id="detections",
        label=info.name,
        width=info.width,
        height=info.height,
        fps=info.fps,
        live=False,
        ground_plane=read_ground_plane(plane) if plane else None,
    )


def _beside(detections: Path, name: str) -> Path | None:
    """A file in the folder of the detections, or above it: they lie in det/ of a sequence."""
    folder = detections.absolute().parent
    above = (folder.parent,) if folder.name == "det" else ()
    return next((path / name for path in (folder, *above) if (path / name).exists()), None)


def _described(
    detections: Path,
    rows: "Rows",
    info: "SequenceInfo | None",
    fps: float | None,
    size: str | None,
    film: Path | None,
) -> "SequenceInfo":
    """What the command line says of the sequence, else seqinfo.ini, else the film, else a guess."""
    from streamvis.cli import pictures
    from streamvis.datasets.motchallenge import SequenceInfo

    shot = pictures.info(film) if film and info is None else None
    known = (info.width, info.height) if info else (shot.width, shot.height) if shot else None
    width, height = _pixels(size) if size else known or _reach(rows)
    rate = fps or (info.fps if info else shot.fps if shot else 0) or USUAL_FPS
    if info is None and shot is None and (fps is None or size is None):
        say(
            f"there is no seqinfo.ini with {detections}: taken for {rate:g} frames/s of "
            f"{width}x{height}, as far as its boxes reach; else say --fps and --size"
        )
    length = info.length if info else int(rows.frames.max(initial=1))
    return SequenceInfo(info.name if info else detections.stem, rate, width, height, length)


def _reach(rows: "Rows") -> tuple[int, int]:
    """Width and height of the least picture that holds all boxes."""
    width, height = (math.ceil(rows.boxes[:, side].max(initial=1)) for side in (2, 3))
    return max(width, 1), max(height, 1)


def _pixels(size: str) -> tuple[int, int]:
    from streamvis.errors import UsageError

    width, _, height = size.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise UsageError(f"--size {size}: expected width and height in pixels, like 1920x1080")
    return int(width), int(height)
