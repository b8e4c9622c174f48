"""What `streamvis calibrate` says of a plane, for people and for programs."""

import math
from typing import TYPE_CHECKING

import msgspec

from streamvis.calibration.ground_plane import REACH_M, Pinhole, Size, residuals, survey
from streamvis.messages import Array

if TYPE_CHECKING:
    from streamvis.calibration.inputs import Points

DOUBT_PX = 5.0  # a point that is off by more was confused, or is not on the ground


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Metres per pixel."""

    across: float
    along: float  # away from the camera


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The camera that sees the plane so, if its pixels are square and its axis is the middle."""

    height_m: float
    tilt_deg: float
    fov_deg: float  # from left to right
    x_m: float  # where it stands
    y_m: float


class Residual(msgspec.Struct, frozen=True, kw_only=True):
    px: float
    cm: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    bottom: Scale
    middle: Scale | None  # None: there is no ground
    horizon_row: float | None  # None: it looks straight down
    reach_row: float  # below it a pixel of error is less than half a metre
    reach_m: float  # on the ground, from the lower edge to that row
    camera: View | None
    residuals: list[Residual]
    lens_px: float | None  # how far a distorting lens is from the plane at most


def report(H: Array, size: Size, known: "Points | None", lens_px: float | None) -> Report:
    """All that is told of a plane; `known` are the points it was made from."""
    found = survey(H, size)
    off = residuals(H, *known) if known is not None else ((), ())
    return Report(
        bottom=Scale(across=found.bottom[0], along=found.bottom[1]),
        middle=Scale(across=found.middle[0], along=found.middle[1]) if found.middle else None,
        horizon_row=found.horizon_row,
        reach_row=found.reach_row,
        reach_m=found.reach_m,
        camera=_view(found.camera, size) if found.camera else None,
        residuals=[Residual(px=float(px), cm=100 * float(m)) for px, m in zip(*off, strict=True)],
        lens_px=lens_px,
    )


def notes(said: Report, size: Size) -> list[str]:
    """The report in lines for people, in ASCII: they are drawn too."""
    lines = [_fit(said.residuals)] if said.residuals else []
    lines += [
        f"point {i} is off by {r.px:.1f} px, {r.cm:.0f} cm: look at it again"
        for i, r in enumerate(said.residuals, start=1)
        if r.px > DOUBT_PX
    ]
    if said.lens_px is not None:
        lines.append(f"the lens bends the ground by up to {said.lens_px:.1f} px away from a plane")
    middle = _scale("in the middle", said.middle) if said.middle else "no ground in the middle"
    lines.append(f"one pixel is {_scale('at the lower edge', said.bottom)}; {middle}")
    lines.append(_horizon(said.horizon_row, size))
    lines.append(
        f"an error of one pixel stays below {REACH_M:g} m from row {said.reach_row:.0f} down: "
        f"{said.reach_m:.1f} m of ground from the lower edge"
    )
    if said.camera:
        c = said.camera
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


def _scale(where: str, scale: Scale) -> str:
    return f"{100 * scale.across:.1f} cm across, {100 * scale.along:.1f} cm along {where}"


def _horizon(row: float | None, size: Size) -> str:
    if row is None:
        return "no horizon: the camera looks straight down"
    if row < 0:
        return f"the horizon is {-row:.0f} px above the picture"
    if row > size[1]:  # it looks down over its own nadir
        return f"the horizon is {row - size[1]:.0f} px below the picture"
    return f"the horizon is at row {row:.0f} of {size[1]}"


def _view(camera: Pinhole, size: Size) -> View:
    x, y, height = camera.centre.tolist()
    return View(
        height_m=height,
        tilt_deg=camera.tilt_deg,
        fov_deg=math.degrees(2 * math.atan(size[0] / 2 / camera.K[0, 0])),
        x_m=x,
        y_m=y,
    )
