"""Reads the input of a calibration: known points, rectangles and calibrated cameras."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamvis.calibration.ground_plane import Pinhole, rectangle
from streamvis.errors import DataError, UsageError
from streamvis.messages import Array
from streamvis.parsing import convert, read_text, yaml_value

Row = tuple[float, float, float, float]
Triple = tuple[float, float, float]
EXPECTED = "expected rows of u, v (pixels), x, y (metres)"


class Points(NamedTuple):
    """N points that are known both in the picture and on the ground."""

    pixels: Array  # (N, 2)
    metres: Array  # (N, 2)


class PointsFile(msgspec.Struct):
    """A points file in YAML or JSON; other members are ignored."""

    points: list[Row]


class Provenance(msgspec.Struct):
    """The record in a ground plane file of what the plane was made from."""

    points: list[Row] = []
    image_size_px: tuple[int, int] | None = None

    @property
    def known(self) -> Points | None:
        return _points(self.points) if self.points else None


class CameraFile(msgspec.Struct, forbid_unknown_fields=True):
    """A calibrated camera in OpenCV's convention: pixels ~ K (R X + t), X in metres, Z upwards."""

    K: tuple[Triple, Triple, Triple]
    R: tuple[Triple, Triple, Triple]
    t: Triple
    distortion: list[float] = []  # k1, k2, p1, p2[, k3[, k4, k5, k6]]; no fisheye


def parse_points(texts: Sequence[str]) -> Points:
    """Parse the values of `--point u,v=x,y`."""
    rows = []
    for text in texts:
        px, equals, metres = text.partition("=")
        if not equals:
            raise UsageError(f"--point {text}: expected u,v=x,y, pixels before metres")
        rows.append((*_numbers(px, 2, f"--point {text}"), *_numbers(metres, 2, f"--point {text}")))
    return _points(rows)


def parse_rectangle(sides: str, corners: Sequence[str]) -> Points:
    """Parse `--rectangle 4x6` and its four `--corner u,v`."""
    words = re.split("[x×]", sides)
    a, b = _numbers(",".join(words), 2, f"--rectangle {sides}")
    if len(corners) != 4:
        raise UsageError(
            f"--rectangle {sides} has {len(corners)} corners; expected --corner u,v four times, "
            "in order around it, the first side before the second"
        )
    pixels = np.array([_numbers(corner, 2, f"--corner {corner}") for corner in corners])
    return Points(pixels, rectangle(pixels, (a, b)))


def read_points(path: Path) -> Points:
    """Read points from CSV, YAML or JSON; a ground plane made from points is such a file too."""
    text = read_text(path, DataError)
    if path.suffix.lower() == ".csv":
        return _points(_csv_rows(path, text))
    raw = _tree(path, text)
    raw = {"points": raw} if isinstance(raw, list) else raw
    try:
        listed = convert(raw, PointsFile, path, DataError)
    except DataError as error:
        raise DataError(f"{error}; {EXPECTED} under `points`") from None
    return _points(listed.points)


def provenance(path: Path) -> Provenance:
    """Read what a ground plane was made from; empty for a file of another program."""
    try:
        return msgspec.json.decode(read_text(path, DataError), type=Provenance)
    except (DataError, msgspec.DecodeError, RecursionError):
        return Provenance()


def read_camera(path: Path) -> tuple[Pinhole, Array]:
    """Read a camera from YAML or JSON, and its distortion (K,), empty without one."""
    try:
        camera = convert(_tree(path, read_text(path, DataError)), CameraFile, path, DataError)
    except DataError as error:
        raise DataError(
            f"{error}; expected K (3×3, pixels), R (3×3), t (3, metres) and, optionally, distortion"
        ) from None
    K, R, t = (np.array(value, dtype=np.float64) for value in (camera.K, camera.R, camera.t))
    if len(camera.distortion) not in {0, 4, 5, 8}:
        raise DataError(
            f"{path}: distortion has {len(camera.distortion)} numbers; expected 4, 5 or 8, as "
            "OpenCV orders them: k1, k2, p1, p2[, k3[, k4, k5, k6]]"
        )
    if np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0:
        raise DataError(
            f"{path}: R is not a rotation; expected orthonormal rows and a determinant of 1"
        )
    if not (K[0, 0] > 0 and K[1, 1] > 0 and np.allclose(K[2], [0, 0, 1])):
        raise DataError(
            f"{path}: K is no camera matrix; expected [[f, 0, u], [0, f, v], [0, 0, 1]]"
        )
    K[:2, 2] += 0.5  # OpenCV counts from the centre of the first pixel, boxes from its corner
    return Pinhole(K, R, t), np.array(camera.distortion, dtype=np.float64)


def _points(rows: Sequence[Sequence[float]]) -> Points:
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Points(table[:, :2], table[:, 2:])


def _numbers(text: str, count: int, where: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not np.isfinite(values).all():
        raise UsageError(f"{where}: '{text}' is not {count} numbers")
    return values


def _csv_rows(path: Path, text: str) -> list[list[float]]:
    rows: list[list[float]] = []
    header = False
    for number, words in enumerate(csv.reader(text.splitlines()), start=1):
        if not any(word.strip() for word in words) or words[0].lstrip().startswith("#"):
            continue
        values = [_float(word) for word in words]
        if not (rows or header) and values == [None] * len(words):
            header = True
            continue
        if len(values) != 4 or None in values:
            raise DataError(f"{path}, line {number}: '{','.join(words)}'; {EXPECTED}")
        rows.append([value for value in values if value is not None])
    return rows


def _float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _tree(path: Path, text: str) -> Any:
    try:
        return msgspec.json.decode(text) if path.suffix == ".json" else yaml_value(text)
    except (RecursionError, ValueError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise DataError(f"{path} is not {kind}: {' '.join(str(error).split())}") from None
