"""Checks of what callers pass: one error that names the argument, what it is, what is expected."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from streamvis.errors import DataError, UsageError
from streamvis.messages import Array, Detections, Embeddings, Motion, Poses, Tracks
from streamvis.parsing import convert, shown
from streamvis.stages.protocol import StageConfig, kind_name

C = TypeVar("C", bound=StageConfig)

LONGEST_S = 9e12  # media times are int64, µs


def configured(kind: type[C], where: str, settings: Mapping[str, Any]) -> C:
    """Return these settings of a kind of stage; UsageError for wrong names and values."""
    given = {name: plain(value) for name, value in settings.items()}
    return convert({"kind": kind_name(kind), **given}, kind, where, UsageError)


def check_text(value: object, name: str, expected: str) -> str:
    """Return an argument that is a text; UsageError for anything else, and for an empty one."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise UsageError(f"{name} is {shown(value)}; expected {expected}")
    return value


def check_path(value: object, name: str, expected: str) -> Path:
    """Return the path that an argument is, as a text or `os.PathLike`; UsageError otherwise."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return Path(check_text(text, name, expected))


def check_weights(value: object, where: str) -> str:
    """Return the name or path of weights; UsageError for what is neither."""
    return str(check_path(value, f"{where}: weights", "a shipped name, or a path"))


def check_device(value: object, where: str) -> str:
    """Return the name of a device; UsageError for what is none."""
    return check_text(value, f"{where}: device", "a text: cpu, cuda:0, …")


def check_plane(value: object, where: str) -> Path | None:
    """Return the path of a ground plane, or None; UsageError for anything else."""
    if value is None:
        return None
    return check_path(value, f"{where}: ground_plane", "the path of a file of streamvis calibrate")


def plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays as Python's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def check_picture(picture: object, where: str) -> None:
    """Raise DataError unless it is a picture (H, W, 3) uint8."""
    wanted = "expected a NumPy array (height, width, 3) of uint8, RGB"
    if isinstance(picture, np.ndarray) and not picture.size:
        raise DataError(f"{where}: the picture is empty, of the shape {picture.shape}; {wanted}")
    if not isinstance(picture, np.ndarray):
        raise DataError(f"{where}: the picture is a {type(picture).__name__}; {wanted}")
    if picture.ndim != 3 or picture.shape[2] != 3:
        hint = "; give several pictures as a list" if picture.ndim == 4 else ""
        raise DataError(f"{where}: the picture has the shape {picture.shape}; {wanted}{hint}")
    if picture.dtype != np.uint8:
        hint = ": (255 * picture).astype(np.uint8)" if picture.dtype.kind == "f" else ""
        raise DataError(f"{where}: the picture is of {picture.dtype}; {wanted}{hint}")


def pictures_of(pictures: Array | Sequence[Array], where: str) -> tuple[list[Array], bool]:
    """Return the pictures, and whether they were given as a batch: a list or a tuple."""
    batch = isinstance(pictures, list | tuple)
    listed: list[Any] = [*pictures] if batch else [pictures]
    for one in listed:
        check_picture(one, where)
    return listed, batch


def check_detections(found: object, where: str) -> None:
    """Raise DataError unless these are sound detections."""
    if not isinstance(found, Detections):
        raise DataError(
            f"{where}: found a {type(found).__name__}, expected Detections; "
            "Detections.of(boxes, scores) makes them from arrays"
        )
    found.check()


def check_looks(looks: object, found: Detections | None, where: str) -> None:
    """Raise DataError unless these are embeddings of the detections."""
    if not isinstance(looks, Embeddings):
        raise DataError(f"{where}: looks is a {type(looks).__name__}, expected Embeddings")
    if found is None:
        raise DataError(f"{where}: looks without detections; leave both out to predict only")
    vectors = looks.vectors
    if vectors.ndim != 2 or len(vectors) != len(found) or vectors.dtype.kind != "f":
        raise DataError(
            f"{where}: looks is {vectors.dtype} {vectors.shape} for {len(found)} detections; "
            "expected a row of floating point numbers for each of them, in the same order"
        )
    if not np.isfinite(vectors).all():
        raise DataError(f"{where}: looks holds NaN or infinity")


def check_motion(motion: object, where: str) -> None:
    """Raise DataError unless this is a motion of the camera."""
    if not isinstance(motion, Motion):
        raise DataError(f"{where}: motion is a {type(motion).__name__}, expected Motion")
    if motion.warp.shape != (2, 3) or not np.isfinite(motion.warp).all():
        found = f"shape {motion.warp.shape}" if motion.warp.shape != (2, 3) else "NaN or infinity"
        raise DataError(f"{where}: motion.warp has {found}, expected (2, 3) finite numbers")


def check_tracks(tracks: object, where: str) -> None:
    """Raise DataError unless these are tracks with a finite box each."""
    if not isinstance(tracks, Tracks):
        raise DataError(f"{where}: tracks is a {type(tracks).__name__}, expected Tracks")
    boxes, shape = tracks.boxes, (len(tracks.ids), 4)
    if boxes.shape != shape or not np.isfinite(boxes).all():
        found = f"the shape {boxes.shape}" if boxes.shape != shape else "NaN or infinity"
        raise DataError(
            f"{where}: tracks.boxes has {found} for {len(tracks)} ids; expected four finite "
            "numbers for each"
        )


def check_poses(poses: object, where: str) -> None:
    """Raise DataError unless these are sound poses."""
    if not isinstance(poses, Poses):
        raise DataError(f"{where}: found a {type(poses).__name__}, expected Poses")
    poses.check()


def check_size(size: Sequence[int], where: str) -> tuple[int, int]:
    """Return width and height; UsageError for anything else."""
    try:
        width, height = (int(side) if side == int(side) else 0 for side in size)
    except (TypeError, ValueError, OverflowError):
        width = height = 0
    if width < 1 or height < 1:
        raise UsageError(f"{where}: size is {shown(size)}; expected (width, height), whole pixels")
    return width, height


def is_finite(number: Any) -> bool:
    """Whether it is a number, of Python, NumPy or `fractions`, and finite."""
    try:
        return not isinstance(number, bool) and math.isfinite(number)
    except (TypeError, OverflowError):
        return False


class FrameClock:
    """The media time of each frame: as it is given, or a steady rate."""

    def __init__(self, fps: float | None, where: str) -> None:
        if fps is not None and not (is_finite(fps) and fps > 0):
            raise UsageError(f"{where}: fps is {shown(fps)}; expected frames per second, above 0")
        self.fps, self._where = fps, where
        self._last_us: int | None = None
        self._from_us, self._frames = 0, 0  # frames counted since a time was given

    def at(self, time_s: float | None) -> int:
        """Return the media time of the next frame, µs, without advancing to it."""
        if time_s is None:
            if self.fps is None:
                raise UsageError(
                    f"{self._where}: the time of the frame is unknown; give fps=… once, or "
                    "time_s=… with each frame"
                )
            return self._from_us + round(self._frames * 1e6 / self.fps)
        if not (is_finite(time_s) and abs(time_s) < LONGEST_S):
            raise DataError(f"{self._where}: time_s is {shown(time_s)}; expected seconds")
        media_us = round(time_s * 1e6)
        if self._last_us is not None and media_us <= self._last_us:
            raise DataError(
                f"{self._where}: time_s is {time_s:g}, not after the frame before it at "
                f"{self._last_us / 1e6:g}; frames come in order"
            )
        return media_us

    def advance(self, media_us: int, *, given: bool) -> None:
        """Go on to a frame whose time was returned by `at`. given: `time_s` was given for it."""
        if given:
            self._from_us, self._frames = media_us, 0
        self._last_us = media_us
        self._frames += 1
