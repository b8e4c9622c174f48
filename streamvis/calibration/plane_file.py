"""The file that holds the ground plane of a source: where it lies, what it holds."""

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.calibration.ground_plane import Size
from streamvis.calibration.inputs import Points, provenance
from streamvis.errors import UsageError
from streamvis.files import replace
from streamvis.geometry import read_ground_plane
from streamvis.messages import Array
from streamvis.sources.spec import SourceSpec

SUFFIX = ".ground_plane.json"


class Calibration(NamedTuple):
    """A ground plane, and the input that it was fitted to."""

    H: Array  # (3, 3)
    way: str  # points, view, camera, or file: it was read
    known: Points | None = None
    lens_px: float | None = None  # largest deviation of a distorting lens from the plane
    made_for: Size | None = None  # size of the picture that it was made on, where its file has it


def path_for(spec: SourceSpec) -> Path:
    """Return the file in which a run of this source looks for its plane.

    Raises UsageError for synthetic scenes and globs, which have no such file.
    """
    if spec.kind in {"camera", "url"}:
        return Path(f"{spec.id}{SUFFIX}")
    if spec.kind == "synthetic":
        raise UsageError(
            f"{spec.label} has no directory for its ground plane; expected --out FILE.json"
        )
    path = Path(spec.uri)
    if (path.parent / "seqinfo.ini").is_file():
        return path.parent / SUFFIX[1:]
    if path.is_dir():
        return path.resolve().with_name(path.resolve().name + SUFFIX)
    if not path.exists():
        raise UsageError(
            f"{spec.label} is a glob; calibrate the directory instead, or add --out FILE.json"
        )
    return path.with_name(path.stem + SUFFIX)


def read(spec: SourceSpec, path: Path) -> Calibration | None:
    """Read the plane in this file, else the source's own one; None where there is neither."""
    plane = read_ground_plane(path) if path.is_file() else spec.ground_plane
    if plane is None:
        return None
    origin = provenance(path)
    return Calibration(
        np.reshape(plane, (3, 3)), "file", origin.known, made_for=origin.image_size_px
    )


def document(found: Calibration, spec: SourceSpec, size: Size, made_by: str) -> bytes:
    """Encode the plane for `geometry.read_ground_plane`, with a record of its origin."""
    fields = {
        "image_foot_to_world_m": found.H.tolist(),
        "image_size_px": size,
        "source": spec.label,
        "way": found.way,
        "made_by": made_by,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if found.known is not None:
        fields["points"] = np.column_stack(found.known).tolist()
    return msgspec.json.format(msgspec.json.encode(fields), indent=1) + b"\n"


def write(path: Path, data: bytes) -> None:
    """Write the file atomically; UsageError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data, durable=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
