"""A file of detections in MOTChallenge's format: what lies beside it, its rate and its size."""

import math
from pathlib import Path
from typing import NamedTuple

from streamvis.datasets.motchallenge import Rows, SequenceInfo
from streamvis.errors import UsageError

DEFAULT_FPS = 25.0  # of a file of unknown rate


class Described(NamedTuple):
    """The rate, size and length of detections; `note` says what was assumed."""

    info: SequenceInfo
    note: str | None = None


def beside(detections: Path, name: str) -> Path | None:
    """Find a file in the folder of the detections, or above it: they lie in det/ of a sequence."""
    folder = detections.absolute().parent
    above = (folder.parent,) if folder.name == "det" else ()
    return next((path / name for path in (folder, *above) if (path / name).exists()), None)


def described(
    detections: Path,
    rows: Rows,
    info: SequenceInfo | None,
    fps: float | None,
    size: str | None,
    video: Path | None,
) -> Described:
    """Take rate and size from the command line, else seqinfo.ini, else the video, else guess."""
    from streamvis.runners.tracker_inputs import video_info

    shot = video_info(video) if video and info is None else None
    known = (info.width, info.height) if info else (shot.width, shot.height) if shot else None
    width, height = _pixels(size) if size else known or _reach(rows)
    rate = fps or (info.fps if info else shot.fps if shot else 0) or DEFAULT_FPS
    note = None
    if info is None and shot is None and (fps is None or size is None):
        note = (
            f"there is no seqinfo.ini with {detections}: taken for {rate:g} frames/s of "
            f"{width}x{height}, as far as its boxes reach; give others with --fps and --size"
        )
    length = info.length if info else int(rows.frames.max(initial=1))
    name = info.name if info else detections.stem
    return Described(SequenceInfo(name, rate, width, height, length), note)


def _reach(rows: Rows) -> tuple[int, int]:
    """Return width and height of the smallest picture that holds all boxes."""
    width, height = (math.ceil(rows.boxes[:, side].max(initial=1)) for side in (2, 3))
    return max(width, 1), max(height, 1)


def _pixels(size: str) -> tuple[int, int]:
    width, _, height = size.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise UsageError(f"--size {size}: expected width and height in pixels, like 1920x1080")
    return int(width), int(height)
