"""The quality of a ground plane, as numbers and as lines of text."""

import math
from typing import TYPE_CHECKING

import msgspec

from streamvis.calibration.ground_plane import REACH_M, Pinhole, Size, plane_properties, residuals
from streamvis.messages import Array

if TYPE_CHECKING:
    from streamvis.calibration.inputs import Points

DOUBT_PX = 5.0  # a point with a larger error was confused, or is not on the ground


class PixelScale(msgspec.Struct, frozen=True, kw_only=True):
    """Metres per pixel."""

    across: float
    along: float  # away from the camera


class CameraView(msgspec.Struct, frozen=True, kw_only=True):
    """The camera with square pixels and a centred axis that sees the plane like this."""

    height_m: float
    tilt_deg: float
    fov_deg: float  # from left to right
    x_m: float  # its position on the ground
    y_m: float


class Residual(msgspec.Struct, frozen=True, kw_only=True):
    """The error of one point, in the picture and on the ground."""

    px: float
    cm: float


class CalibrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Resolution, reach and errors of a plane."""

    bottom: PixelScale
    middle: PixelScale | None  # None: above the horizon
    horizon_row: float | None  # None: the camera looks straight down
    reach_row: float  # below it a pixel of error is less than half a metre
    reach_m: float  # on the ground, from the lower edge to that row
    camera: CameraView | None
    residuals: list[Residual]
    lens_px: float | None  # largest deviation of a distorting lens from the plane


def assess(
    H: Array, size: Size, known: "Points | None", lens_px: float | None
) -> CalibrationReport:
    """Measure the quality of a plane; `known` are the points that it was made from."""
    found = plane_properties(H, size)
    off = residuals(H, *known) if known is not None else ((), ())
    return CalibrationReport(
        bottom=PixelScale(across=found.bottom[0], along=found.bottom[1]),
        middle=PixelScale(across=found.middle[0], along=found.middle[1]) if found.middle else None,
        horizon_row=found.horizon_row,
        reach_row=found.reach_row,
        reach_m=found.reach_m,
        camera=_view(found.camera, size) if found.camera else None,
        residuals=[Residual(px=float(px), cm=100 * float(m)) for px, m in zip(*off, strict=True)],
        lens_px=lens_px,
    )


def notes(report: CalibrationReport, size: Size) -> list[str]:
    """Describe the report in lines of ASCII, which are printed and drawn."""
    lines = [_fit(report.residuals)] if report.residuals else []
    lines += [
        f"point {i} is off by {r.px:.1f} px, {r.cm:.0f} cm: look at it again"
        for i, r in enumerate(report.residuals, start=1)
        if r.px > DOUBT_PX
    ]
    if report.lens_px is not None:
        lines.append(
            f"the lens bends the ground by up to {report.lens_px:.1f} px away from a plane"
        )
    middle = _scale("in the middle", report.middle) if report.middle else "no ground in the middle"
    lines.append(f"one pixel is {_scale('at the lower edge', report.bottom)}; {middle}")
    lines.append(_horizon(report.horizon_row, size))
    lines.append(
        f"an error of one pixel stays below {REACH_M:g} m from row {report.reach_row:.0f} down: "
        f"{report.reach_m:.1f} m of ground from the lower edge"
    )
    if report.camera:
        c = report.camera
        place = f"x {round(c.x_m, 1) + 0.0:.1f}, y {round(c.y_m, 1) + 0.0:.1f}"
        lines.append(
            f"seen so by a camera {c.height_m:.1f} m above {place}, tilted {c.tilt_deg:.0f} "
            f"degrees, {c.fov_deg:.0f} degrees wide: is that yours?"
        )
    else:
        lines.append("no plain camera sees it so; a cut-out picture may, or points are wrong")
    return lines


def _fit(residuals: list[Residual]) -> str:
    if len(residuals) == 4:
        return "4 points, met exactly: a fifth would tell how good they are"
    rms = math.sqrt(sum(r.px**2 for r in residuals) / len(residuals))
    worst = max(range(len(residuals)), key=lambda i: residuals[i].px)
    return (
        f"{len(residuals)} points, off by {rms:.2f} px (root mean square), at most "
        f"{residuals[worst].px:.1f} px, {residuals[worst].cm:.1f} cm at point {worst + 1}"
    )


def _scale(where: str, scale: PixelScale) -> str:
    return f"{100 * scale.across:.1f} cm across, {100 * scale.along:.1f} cm along {where}"


def _horizon(row: float | None, size: Size) -> str:
    if row is None:
        return "no horizon: the camera looks straight down"
    if row < 0:
        return f"the horizon is {-row:.0f} px above the picture"
    if row > size[1]:  # it looks down over its own nadir
        return f"the horizon is {row - size[1]:.0f} px below the picture"
    return f"the horizon is at row {row:.0f} of {size[1]}"


def _view(camera: Pinhole, size: Size) -> CameraView:
    x, y, height = camera.centre.tolist()
    return CameraView(
        height_m=height,
        tilt_deg=camera.tilt_deg,
        fov_deg=math.degrees(2 * math.atan(size[0] / 2 / camera.K[0, 0])),
        x_m=x,
        y_m=y,
    )
