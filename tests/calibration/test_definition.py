"""The options that define a ground plane: one way at a time, and each against a known camera."""

import json

import numpy as np
import pytest

from streamvis.calibration import ground_plane
from streamvis.calibration.definition import Given, fitted
from streamvis.errors import UsageError
from streamvis.geometry import to_ground

SIZE = (640, 480)
H = ground_plane.from_view(4.2, 17, 600, SIZE)
CORNERS = [(-2.0, 8.0), (2.0, 8.0), (2.0, 14.0), (-2.0, 14.0)]


def given(**options) -> Given:
    empty = {"point": [], "corner": [], **dict.fromkeys(Given._fields[4:])}
    return Given(**{**empty, "points": None, "rectangle": None, **options})


def seen() -> np.ndarray:
    return to_ground(np.linalg.inv(H), np.array(CORNERS))[0]


def known_points() -> list[str]:
    return [f"{u},{v}={x},{y}" for (u, v), (x, y) in zip(seen(), CORNERS, strict=True)]


def write_camera(path, **more):
    camera = ground_plane.pinhole(H, SIZE)
    K = camera.K.copy()
    K[:2, 2] -= 0.5  # counted from the middle of the first pixel, as OpenCV counts
    fields = {"K": K.tolist(), "R": camera.R.tolist(), "t": np.ravel(camera.t).tolist()}
    path.write_text(json.dumps(fields | more))
    return path


def test_no_options_define_no_plane():
    assert fitted(given(), SIZE) is None


def test_all_ways_find_the_plane_of_the_same_camera(tmp_path):
    rows = np.hstack([seen(), CORNERS]).tolist()
    (tmp_path / "points.json").write_text(json.dumps(rows))
    fov = np.degrees(2 * np.arctan(320 / 600))
    ways = {
        "view": [
            given(height=4.2, tilt=17.0, focal=600.0),
            given(height=4.2, tilt=17.0, fov=fov),
        ],
        "points": [given(point=known_points()), given(points=tmp_path / "points.json")],
        "camera": [given(camera=write_camera(tmp_path / "camera.json"))],
    }
    for way, options in ways.items():
        for one in options:
            found = fitted(one, SIZE)
            assert found.way == way
            assert (found.known is not None) == (way == "points")
            assert found.lens_px is None
            np.testing.assert_allclose(found.H, H, atol=1e-4)


def test_a_rectangle_has_its_first_corner_as_the_origin():
    corners = [f"{u},{v}" for u, v in seen()]
    found = fitted(given(rectangle="4x6", corner=corners), SIZE)
    assert found.way == "points"
    np.testing.assert_allclose(
        to_ground(found.H, seen())[0], np.subtract(CORNERS, CORNERS[0]), atol=1e-3
    )


def test_a_distorting_lens_says_how_far_it_is_from_a_plane(tmp_path):
    path = write_camera(tmp_path / "camera.json", distortion=[-0.1, 0.02, 0, 0])
    found = fitted(given(camera=path), SIZE)
    assert found.way == "camera"
    assert found.lens_px > 0.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"point": ["1,2=3,4"], "height": 4.0},
            r"^--point; --height, --tilt and --fov or --focal: 2 definitions .*; expected one$",
        ),
        (
            {"point": ["1,2=3,4"], "rectangle": "4x6", "tilt": 3.0},
            "^--point; --rectangle and --corner; --height.*: 3 definitions of one plane",
        ),
        ({"height": 4.0}, "needs --height, --tilt and one of --fov and --focal$"),
        ({"tilt": 4.0, "fov": 60.0}, "needs --height, --tilt and one of --fov and --focal$"),
        (
            {"height": 4.0, "tilt": 4.0, "fov": 60.0, "focal": 600.0},
            "needs --height, --tilt and one of --fov and --focal$",
        ),
    ],
)
def test_options_that_contradict_or_do_not_suffice_are_named(options, says):
    with pytest.raises(UsageError, match=says):
        fitted(given(**options), SIZE)
