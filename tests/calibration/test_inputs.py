"""What people write of a place, and what they are told when it cannot be read."""

import json
import math

import numpy as np
import pytest
import yaml

from streamvis.calibration.inputs import (
    parse_points,
    parse_rectangle,
    provenance,
    read_camera,
    read_points,
)
from streamvis.errors import DataError, UsageError

ROWS = [[10.5, 400, -2, 8], [500, 400, 2, 8], [450, 200, 2, 14.25], [90, 210, -2, 14]]
CSV = "".join(",".join(map(str, row)) + "\n" for row in ROWS)
CAMERA = {
    "K": [[600, 0, 319.5], [0, 600, 239.5], [0, 0, 1]],
    "R": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    "t": [0, 4, 0],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", CSV),
        ("p.csv", "\ufeffu,v,x,y\n# clicked on monday\n\n" + CSV.replace("\n", "\r\n")),
        ("p.csv", "# clicked on monday\nu,v,x,y\n" + CSV),
        ("p.json", json.dumps(ROWS)),
        ("p.json", json.dumps({"image_size_px": [640, 480], "points": ROWS})),
        ("p.yaml", "points:\n" + "".join(f"  - {row}\n" for row in ROWS)),
    ],
)
def test_points_are_read_from_every_kind_of_file(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    pixels, metres = read_points(tmp_path / name)
    np.testing.assert_array_equal(np.hstack([pixels, metres]), ROWS)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.csv", CSV + "1,2,3\n", r"p\.csv, line 5: '1,2,3'; expected rows of u, v"),
        ("p.csv", CSV + "1,2,3,four\n", r"p\.csv, line 5: '1,2,3,four'"),
        ("p.csv", "1O,2,3,4\n" + CSV, r"p\.csv, line 1: '1O,2,3,4'"),
        ("p.csv", "u,v,x,y\na,b,c,d\n" + CSV, r"p\.csv, line 2: 'a,b,c,d'"),
        ("p.yaml", "points: []\npoints: []", r"p\.yaml is not YAML: key 'points' is there twice"),
        ("p.csv", b"\xff\x00", r"p\.csv is not UTF-8 text"),
        ("p.json", "{", r"p\.json is not JSON"),
        ("p.json", "[" * 5000, r"p\.json is not JSON"),
        ("p.json", "{}", r"p\.json: .*points.*; expected rows of u, v"),
        ("p.yaml", "- [1, 2, 3]", r"p\.yaml: .*length 4.*; expected rows"),
        ("p.yaml", "a: [", r"p\.yaml is not YAML"),
        ("p.yaml", "hello", r"p\.yaml: .*; expected rows"),
    ],
)
def test_a_file_that_holds_no_points_is_named(name, text, says, tmp_path):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=says) as caught:
        read_points(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for read in (read_points, read_camera):
        with pytest.raises(DataError, match=r"no\.yaml: No such file"):
            read(tmp_path / "no.yaml")


def test_points_and_rectangles_of_the_command_line():
    pixels, metres = parse_points(["10.5,400=-2,8", "500,400=2,8"])
    assert (pixels.tolist(), metres.tolist()) == ([[10.5, 400], [500, 400]], [[-2, 8], [2, 8]])
    pixels, metres = parse_rectangle("4x6", ["10,400", "500,400", "450,200", "90,210"])
    assert metres.tolist() == [[0, 0], [4, 0], [4, 6], [0, 6]]
    assert parse_rectangle("4×6.5", ["10,400", "500,400", "450,200", "90,210"])[1][2, 1] == 6.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: parse_points(["1,2,3,4"]), "--point 1,2,3,4: expected u,v=x,y"),
        (lambda: parse_points(["1,2=3"]), "--point 1,2=3: '3' is not 2 numbers"),
        (lambda: parse_points(["1,nan=3,4"]), "'1,nan' is not 2 numbers"),
        (lambda: parse_rectangle("4", ["1,2"] * 4), "--rectangle 4: '4' is not 2 numbers"),
        (lambda: parse_rectangle("4x6", ["1,2"] * 3), "--rectangle 4x6 has 3 corners"),
        (lambda: parse_rectangle("", ["1,2"] * 4), "--rectangle"),
    ],
)
def test_what_is_no_point_is_told_as_it_was_written(call, says):
    with pytest.raises(UsageError, match=says):
        call()


def test_a_camera_is_read_and_counted_from_the_corner_of_the_picture(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(CAMERA | {"distortion": [-0.1, 0, 0, 0]}))
    camera, distortion = read_camera(tmp_path / "c.json")
    np.testing.assert_array_equal(camera.K[:2, 2], [320, 240])
    np.testing.assert_array_equal(camera.centre, [0, 0, 4])
    assert distortion.tolist() == [-0.1, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"K": [[1, 0], [0, 1]]}, "K.*; expected K \\(3×3, pixels\\), R"),
        ({"K": np.eye(3).tolist()[::-1]}, "K is no camera matrix"),
        ({"R": [[2, 0, 0], [0, 0, -1], [0, 1, 0]]}, "R is not a rotation"),
        ({"R": [[1, 0, 0], [0, 0, 1], [0, 1, 0]]}, "R is not a rotation"),
        ({"distortion": [0.1, 0.2]}, "distortion has 2 numbers; expected 4, 5 or 8"),
        ({"fisheye": True}, "unknown field `fisheye`"),
        *(
            ({name: wrong}, r"c\.yaml: Expected a finite number, got (nan|inf) - at")
            for name, wrong in {
                "K": [[math.inf, 0, 320], [0, 600, 240], [0, 0, 1]],
                "R": [[math.nan, 0, 0], [0, 0, -1], [0, 1, 0]],
                "t": [0, math.nan, 4],
                "distortion": [math.nan, 0, 0, 0],
            }.items()
        ),
    ],
)
def test_a_camera_that_is_none_is_told(change, says, tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CAMERA | change))
    with pytest.raises(DataError, match=says):
        read_camera(tmp_path / "c.yaml")


def test_a_plane_that_somebody_else_made_tells_nothing(tmp_path):
    path = tmp_path / "g.json"
    assert provenance(path).known is None
    path.write_text('{"image_foot_to_world_m": [], "points": "many"}')
    assert provenance(path).known is None
    path.write_text(json.dumps({"points": ROWS, "image_size_px": [640, 480]}))
    assert provenance(path).image_size_px == (640, 480)
    assert provenance(path).known.metres.shape == (4, 2)
