"""The report on a plane has the numbers of its camera, and its lines say them."""

import numpy as np
import pytest

from streamvis.calibration import ground_plane
from streamvis.calibration.inputs import Points
from streamvis.calibration.quality import (
    CalibrationReport,
    PixelScale,
    Residual,
    assess,
    notes,
)
from streamvis.geometry import to_ground

SIZE = (640, 480)
H = ground_plane.from_view(4.2, 17, 600, SIZE)
METRES = np.array([(-2, 8), (2, 8), (3, 14), (-3, 14), (0, 10)], np.float64)


def points(off_px: float = 0.0) -> Points:
    """Places as this camera sees them; the last is off to the right."""
    pixels, _ = to_ground(np.linalg.inv(H), METRES)
    pixels[-1, 0] += off_px
    return Points(pixels, METRES)


def test_the_camera_of_a_view_is_found_again():
    report = assess(H, SIZE, None, None)
    assert report.camera.height_m == pytest.approx(4.2)
    assert report.camera.tilt_deg == pytest.approx(17)
    assert report.camera.fov_deg == pytest.approx(np.degrees(2 * np.arctan(320 / 600)))
    assert (report.camera.x_m, report.camera.y_m) == pytest.approx((0, 0), abs=1e-6)
    assert report.horizon_row == pytest.approx(240 - 600 * np.tan(np.radians(17)))
    assert report.residuals == []
    assert report.bottom.along < report.middle.along


def test_residuals_are_distances_in_pixels_and_centimetres():
    report = assess(H, SIZE, points(off_px=12), lens_px=3.0)
    assert [one.px for one in report.residuals] == pytest.approx([0, 0, 0, 0, 12], abs=1e-6)
    place, _ = to_ground(H, points(off_px=12).pixels[-1:])
    assert report.residuals[-1].cm == pytest.approx(100 * np.linalg.norm(place[0] - METRES[-1]))
    assert report.lens_px == 3.0


def test_a_plane_seen_straight_down_has_no_horizon_and_no_camera():
    report = assess(ground_plane.from_view(6, 90, 600, SIZE), SIZE, None, None)
    assert (report.horizon_row, report.camera) == (None, None)
    lines = notes(report, SIZE)
    assert "no horizon: the camera looks straight down" in lines
    assert lines[-1].startswith("no plain camera sees it so")


def test_the_lines_name_the_point_to_look_at_and_are_ascii():
    lines = notes(assess(H, SIZE, points(off_px=12), lens_px=3.04), SIZE)
    assert lines[0].startswith("5 points, off by 5.37 px (root mean square), at most 12.0 px")
    assert lines[0].endswith("at point 5")
    (doubt,) = [line for line in lines if line.endswith("look at it again")]
    assert doubt.startswith("point 5 is off by 12.0 px")
    assert "the lens bends the ground by up to 3.0 px away from a plane" in lines
    assert any("a camera 4.2 m above x 0.0, y 0.0, tilted 17 degrees, 56 deg" in x for x in lines)
    assert all(line.isascii() for line in lines)


def test_four_points_are_met_exactly_and_prove_nothing():
    report = assess(H, SIZE, Points(points().pixels[:4], METRES[:4]), None)
    assert notes(report, SIZE)[0] == "4 points, met exactly: a fifth would tell how good they are"


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (-20.4, "the horizon is 20 px above the picture"),
        (100.0, "the horizon is at row 100 of 480"),
        (500.0, "the horizon is 20 px below the picture"),
    ],
)
def test_the_horizon_is_told_relative_to_the_picture(row, line):
    report = CalibrationReport(
        bottom=PixelScale(across=0.012, along=0.034), middle=None, horizon_row=row,
        reach_row=200.0, reach_m=12.34, camera=None, residuals=[Residual(px=1, cm=2)] * 5,
        lens_px=None,
    )  # fmt: skip
    lines = notes(report, SIZE)
    assert line in lines
    scale = "one pixel is 1.2 cm across, 3.4 cm along at the lower edge; no ground in the middle"
    assert scale in lines
    assert any(x.endswith("from row 200 down: 12.3 m of ground from the lower edge") for x in lines)
