"""`streamvis eval pose` and `train pose` on people who are drawn; files that they write."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from keypoint_folders import write_folder
from pose_teacher_file import write_teacher
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.models.hrnet import ARCHITECTURES, Hrnet
from streamvis.models.weights import save


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("people") / "hand", 6)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(0)
    save(Hrnet(ARCHITECTURES["pose-lite"]), path, {})
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


def invoke(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_network_and_the_teacher_are_scored_side_by_side(folder, weights, teacher, tmp_path):
    sheet = tmp_path / "new/sheet.png"
    asked = ("--weights", weights, "--teacher", teacher, "--sheet", sheet, "--json")
    result = invoke("eval", "pose", folder, *asked)
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)
    assert list(scores) == ["untrained", "teacher, one view", "teacher, four views"]
    assert all(one["people"] == 12 and 0 <= one["ap"] < 0.5 for one in scores.values())
    assert scores["untrained"]["joints"]["left_knee"]["labelled"] == 12
    assert cv2.imread(str(sheet)).shape[1] > 500


def test_people_read_it_as_tables(folder, weights):
    result = invoke("eval", "pose", folder, "--weights", weights, "--part", "measured")
    assert result.exit_code == 0, result.stderr
    assert {"ap50", "pckh", "right_ankle", "untrained"} <= set(result.stdout.split())


def test_training_says_where_its_weights_are(folder, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{architecture: pose-lite, start: person-lite, batch: 2, measured: true, "
        "schedule: {steps: 1, warmup: 0}}"
    )
    result = invoke("train", "pose", recipe, "--data", folder, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert Path(result.stdout.strip()) == tmp_path / "out/pose-lite.safetensors"
