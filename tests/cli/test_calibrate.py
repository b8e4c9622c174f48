"""`streamvis calibrate`: where it writes, what it says, what it refuses."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.calibration.ground_plane import from_view
from streamvis.cli.main import app
from streamvis.geometry import read_ground_plane, to_ground
from streamvis.sources import resolve

SIZE = (160, 120)
H = from_view(4, 25, 150, SIZE)
METRES = [(-1, 6), (1, 6), (2, 12), (-2, 12), (0, 9)]
VIEW = ["--height", "4", "--tilt", "25", "--focal", "150"]


def points(metres=METRES, shift=0.0):
    """--point … for places as this camera sees them; the last is `shift` px off."""
    pixels, _ = to_ground(np.linalg.inv(H), np.array(metres, float))
    pixels[-1, 0] += shift
    told = [f"{u},{v}={x},{y}" for (u, v), (x, y) in zip(pixels, metres, strict=True)]
    return [word for text in told for word in ("--point", text)]


@pytest.fixture
def square(tmp_path, monkeypatch) -> Path:
    """A directory of images, as a fixed camera leaves them."""
    folder = tmp_path / "square"
    folder.mkdir()
    for n in range(3):
        picture = np.full((SIZE[1], SIZE[0], 3), 60 * n, np.uint8)
        cv2.imwrite(str(folder / f"{n}.png"), picture)
    monkeypatch.chdir(tmp_path)
    return folder


def call(*words):
    return CliRunner().invoke(app, ["calibrate", *map(str, words)])


def test_what_is_written_is_what_a_run_reads(square):
    result = call(square, *points())
    assert result.exit_code == 0, result.stderr
    (spec,) = resolve([str(square)])
    assert spec.ground_plane is not None
    np.testing.assert_allclose(np.reshape(spec.ground_plane, (3, 3)), H, atol=1e-4)
    assert cv2.imread("square.ground_plane.png").shape[1] == 1280
    document = json.loads(Path("square.ground_plane.json").read_text())
    assert document["image_size_px"] == [160, 120]
    assert np.array(document["points"]).shape == (5, 4)
    assert not list(square.parent.glob("*.new"))


def test_a_file_of_points_may_be_a_plane_made_before(square):
    assert call(square, *points()).exit_code == 0
    again = call(square, "--points", "square.ground_plane.json", "--out", "other.json")
    assert again.exit_code == 0, again.stderr
    assert read_ground_plane(Path("other.json")) == pytest.approx(
        read_ground_plane(Path("square.ground_plane.json")), abs=1e-9
    )
    assert Path("other.png").exists()


def test_the_report_says_which_point_to_look_at_again(square):
    off = points([*METRES, (1, 8), (-1, 10), (1.5, 7)], shift=25)
    said = call(square, *off).stdout
    assert "8 points, off by" in said
    assert "point 8 is off by" in said
    fine = call(square, *points(), "--overwrite").stdout
    assert "look at it again" not in fine
    assert "a camera 4.0 m above x 0.0, y 0.0, tilted 25 degrees, 56 degrees wide" in fine


def test_four_points_prove_nothing_and_that_is_told(square):
    assert "a fifth would tell" in call(square, *points(METRES[:4])).stdout


def test_json_holds_the_numbers(square):
    said = json.loads(call(square, *points(), "--json").stdout)
    assert said["ground_plane"].endswith("square.ground_plane.json")
    report = said["report"]
    assert report["horizon_row"] == pytest.approx(60 - 150 * np.tan(np.radians(25)), abs=0.1)
    assert report["camera"]["height_m"] == pytest.approx(4, abs=1e-3)
    assert max(one["px"] for one in report["residuals"]) < 0.01
    assert report["middle"]["across"] < report["middle"]["along"]


def test_a_plane_that_is_there_is_kept_unless_it_is_to_be_replaced(square):
    assert call(square, *points()).exit_code == 0
    before = Path("square.ground_plane.json").read_bytes()
    refused = call(square, *VIEW)
    assert refused.exit_code == 2
    assert "--overwrite replaces it" in refused.stderr
    assert Path("square.ground_plane.json").read_bytes() == before
    assert call(square, *VIEW, "--overwrite").exit_code == 0
    assert json.loads(Path("square.ground_plane.json").read_text())["way"] == "view"


def test_without_a_way_the_plane_that_is_there_is_looked_at(square):
    nothing = call(square)
    assert nothing.exit_code == 2
    assert "does not exist, so there is no plane to check" in nothing.stderr
    assert "--click" in nothing.stderr
    call(square, *points())
    Path("square.ground_plane.png").unlink()
    before = Path("square.ground_plane.json").read_bytes()
    looked = call(square)
    assert looked.exit_code == 0, looked.stderr
    assert "5 points, off by" in looked.stdout
    assert Path("square.ground_plane.png").exists()
    assert Path("square.ground_plane.json").read_bytes() == before


def test_a_plane_made_on_pictures_of_another_size_is_told(square):
    call(square, *points())
    for path in square.iterdir():
        cv2.imwrite(str(path), np.zeros((240, 320, 3), np.uint8))
    assert "made on pictures of 160x120, but these are 320x240" in call(square).stdout


def test_another_picture_can_be_taken_and_has_to_be_there(square):
    assert call(f"{square}#fps=1", *VIEW, "--at", "1.5").exit_code == 0
    drawn = cv2.imread("square.ground_plane.png")
    assert np.median(drawn[:300]) == 120  # the third
    late = call(f"{square}#fps=1", *VIEW, "--at", "9")
    assert late.exit_code == 3
    assert "no picture at 9 s" in late.stderr


def test_the_page_to_click_on_ends_in_the_command(square):
    result = call(square, "--click", "--at", "0.04")
    assert result.stdout.strip().endswith("square.ground_plane.html")
    page = Path("square.ground_plane.html").read_text(encoding="utf-8")
    assert f'COMMAND = "streamvis calibrate {square} --at 0.04"' in page
    assert not Path("square.ground_plane.json").exists()


def test_a_distorting_lens_is_told(square):
    pinhole = {
        "K": [[150, 0, 79.5], [0, 150, 59.5], [0, 0, 1]],
        "R": [[1, 0, 0], [0, -0.42261826, -0.90630779], [0, 0.90630779, -0.42261826]],
        "t": [0, 3.62523115, 1.69047305],
    }
    Path("c.yaml").write_text(json.dumps(pinhole))
    assert call(square, "--camera", "c.yaml").exit_code == 0
    found = read_ground_plane(Path("square.ground_plane.json"))
    np.testing.assert_allclose(np.reshape(found, (3, 3)), H, atol=1e-6)
    Path("c.yaml").write_text(json.dumps(pinhole | {"distortion": [-0.2, 0.03, 0, 0]}))
    bent = call(square, "--camera", "c.yaml", "--overwrite")
    assert "the lens bends the ground by up to" in bent.stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--height", "4"], 2, "needs --height, --tilt and one of --fov and --focal"),
        ([*VIEW, "--fov", "60"], 2, "one of --fov and --focal"),
        (["--height", "4", "--tilt", "20", "--fov", "0"], 2, "a field of view of 0 degrees"),
        (["--height", "4", "--tilt", "20", "--focal", "0"], 2, "focal length 0 px; expected"),
        ([*VIEW, *points()], 2, "--point; --height.*: 2 definitions of one plane; expected one"),
        (["--corner", "1,2"], 2, "--rectangle"),
        (points([(-1, 6), (1, 6), (2, 12)]), 2, "3 points; expected at least 4 for a ground plane"),
        (points([(-x, y) for x, y in METRES])[:2] * 4, 2, "lie on a line"),
        ([*VIEW, "--out", "plane.png"], 2, "ends in .json"),
        ([*VIEW, "--out", "0.png/plane.json"], 2, "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(square, words, code, says):
    Path("0.png").touch()
    result = call(square, *words)
    assert result.exit_code == code
    (line,) = result.stderr.splitlines()
    assert line.startswith("streamvis: ")
    assert re.search(says, line), line


@pytest.mark.parametrize("source", ["synthetic:walkers?size=160x120", "square/*.png"])
def test_a_source_without_a_directory_needs_to_be_told_where_to_write(square, source):
    refused = call(source, *VIEW)
    assert refused.exit_code == 2
    assert "--out FILE.json" in refused.stderr
    assert call(source, *VIEW, "--out", "here/plane.json").exit_code == 0
    assert Path("here/plane.png").exists()


def test_a_sequence_keeps_its_plane_inside(square):
    (square / "img1").mkdir()
    for path in square.glob("*.png"):
        path.rename(square / "img1" / path.name)
    (square / "seqinfo.ini").write_text("[Sequence]\nname=square\nimDir=img1\nframeRate=7\n")
    assert call(square, *VIEW).exit_code == 0
    assert (square / "ground_plane.json").exists()
    assert resolve([str(square)])[0].ground_plane is not None


def test_several_sources_are_calibrated_one_by_one(square):
    for name in ("a", "b"):
        (square / name).mkdir()
        (square / name / "seqinfo.ini").write_text("[Sequence]\nimDir=img1\n")
        shutil.copytree(square, square / name / "img1", ignore=lambda _, names: {"a", "b"})
    for path in square.glob("*.png"):
        path.unlink()
    refused = call(square, *VIEW)
    assert refused.exit_code == 2
    assert "is 2 sources" in refused.stderr
