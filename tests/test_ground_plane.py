"""The walk-through of docs/ground-plane.md, every command of it, on a camera known exactly."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.geometry import read_ground_plane, to_ground
from streamvis.sources import resolve
from streamvis.stages.track.events import Track
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

TEXT = (Path(__file__).parents[1] / "docs/ground-plane.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [shlex.split(block) for kind, block in BLOCKS if not kind]
CALIBRATE = [words[2:] for words in COMMANDS if words[1] == "calibrate"]
SCENE = SyntheticScene(seed=3, people=5, size=(640, 480), fps=2, seconds=1)
EXACT = np.reshape(SCENE.homography, (3, 3))
CLICKED = [
    (168.1, 389.6, -2, 7),
    (471.9, 389.6, 2, 7),
    (509.4, 264.1, 4, 12),
    (130.6, 264.1, -4, 12),
]
PLACES = np.stack(np.meshgrid(np.linspace(-3, 3, 7), np.linspace(6.5, 12.5, 7)), 2).reshape(-1, 2)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A user's directory: the video, what was clicked, and the camera's own calibration."""
    shutil.move(write_sequence(tmp_path / "made", SCENE) / "video.mp4", tmp_path / "square.mp4")
    shutil.rmtree(tmp_path / "made")
    rows = "".join(f"{u},{v},{x},{y}\n" for u, v, x, y in CLICKED)
    (tmp_path / "points.csv").write_text("u,v,x,y\n" + rows)
    (tmp_path / "camera.yaml").write_text(next(block for kind, block in BLOCKS if kind == "yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def off_m(found, offset=(0.0, 0.0)):
    """How far the plane puts places of the scene from where they are, at most: metres."""
    pixels, _ = to_ground(np.linalg.inv(EXACT), PLACES)
    metres, _ = to_ground(np.reshape(found, (3, 3)), pixels)
    return np.linalg.norm(metres + offset - PLACES, axis=1).max()


def test_the_document_shows_every_way():
    said = [set(words) for words in CALIBRATE]
    for way in ("--click", "--point", "--points", "--rectangle", "--height", "--camera"):
        assert sum(way in words for words in said) == 1, way
    assert [] in [words[1:] for words in CALIBRATE]


def test_every_command_of_the_document_does_what_it_says(home):
    plane = home / "square.ground_plane.json"
    for words in CALIBRATE:
        result = CliRunner().invoke(app, ["calibrate", *words])
        assert result.exit_code == 0, (words, result.stderr)
        if "--click" in words:
            assert "<canvas" in (home / "square.ground_plane.html").read_text(encoding="utf-8")
            continue
        corner = (-1.5, 8.0) if "--rectangle" in words else (0.0, 0.0)
        assert off_m(read_ground_plane(plane), corner) < 0.02, words
        picture = cv2.imread(str(home / "square.ground_plane.png"))
        assert picture.shape[1] == 1280
        (spec,) = resolve(["square.mp4"])  # what a run is given
        assert spec.ground_plane == read_ground_plane(plane)


def test_the_members_that_the_document_names_are_those_of_the_feed():
    names = re.findall(r"^\| (`[^|]*`) \|", TEXT, re.MULTILINE)
    told = {name.strip("` ") for cell in names for name in cell.split(",")}
    assert told == {"ground_m", "ground_cov_m2", "vel_m_s", "speed_m_s", "cov_diag"}
    assert told <= set(Track.__struct_fields__)
