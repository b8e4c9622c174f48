"""Fits the ground plane that the options of `streamvis calibrate` define."""

from pathlib import Path
from typing import NamedTuple

from streamvis.calibration import ground_plane, inputs
from streamvis.calibration.ground_plane import Size
from streamvis.calibration.plane_file import Calibration
from streamvis.errors import UsageError
from streamvis.messages import Array


class Given(NamedTuple):
    """The options of `streamvis calibrate` that define a plane, in one of several ways."""

    point: list[str]
    points: Path | None
    rectangle: str | None
    corner: list[str]
    camera: Path | None
    height: float | None
    tilt: float | None
    fov: float | None
    focal: float | None


def fitted(given: Given, size: Size) -> Calibration | None:
    """Fit the plane that the options define; None without such options."""
    view = (given.height, given.tilt, given.fov, given.focal)
    ways = {
        "--point": bool(given.point),
        "--points": given.points is not None,
        "--rectangle and --corner": bool(given.rectangle or given.corner),
        "--height, --tilt and --fov or --focal": any(value is not None for value in view),
        "--camera": given.camera is not None,
    }
    taken = [way for way, is_taken in ways.items() if is_taken]
    if len(taken) > 1:
        raise UsageError(f"{'; '.join(taken)}: {len(taken)} definitions of one plane; expected one")
    if given.camera is not None:
        camera, distortion = inputs.read_camera(given.camera)
        if not distortion.any():
            return Calibration(ground_plane.from_pinhole(camera, size), "camera")
        H, lens_px = ground_plane.from_lens(camera, distortion, size)
        return Calibration(H, "camera", lens_px=lens_px)
    if ways["--height, --tilt and --fov or --focal"]:
        return Calibration(_from_view(given, size), "view")
    if not taken:
        return None
    if given.points is not None:
        known = inputs.read_points(given.points)
    elif given.point:
        known = inputs.parse_points(given.point)
    else:
        known = inputs.parse_rectangle(given.rectangle or "", given.corner)
    return Calibration(ground_plane.fit(known.pixels, known.metres, size), "points", known)


def _from_view(given: Given, size: Size) -> Array:
    height, tilt, fov, focal = given.height, given.tilt, given.fov, given.focal
    if height is None or tilt is None or (fov is None) == (focal is None):
        raise UsageError("a camera's view needs --height, --tilt and one of --fov and --focal")
    focal_px = ground_plane.focal_px(fov, size) if fov is not None else focal or 0.0
    return ground_plane.from_view(height, tilt, focal_px, size)
