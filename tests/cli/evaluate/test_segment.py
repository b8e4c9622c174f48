"""The command that scores segmenters, on made-up streets."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from labelled_streets import write_growing_car
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.classes import CAMVID
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig
from streamvis.models.weights import save


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    return write_growing_car(tmp_path_factory.mktemp("data") / "street", range(1, 5))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    about = SwiftNetConfig("untrained", "efficientnet_lite0", CAMVID.names, (16, 16, 16), 64)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save(SwiftNet(about), path, {})
    return path


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["eval", "segment", *map(str, arguments)])


def test_the_command_writes_json_and_a_sheet(street, weights, tmp_path):
    sheet = tmp_path / "new/worst.png"
    result = invoke(street, "--weights", weights, "--sheet", sheet, "--json")
    assert result.exit_code == 0, result.stderr
    (scores,) = json.loads(result.stdout).values()
    assert scores["pictures"] == 4
    assert 0 <= scores["miou"] < 0.6
    assert set(scores["per_class"]) == set(CAMVID.names)
    assert scores["per_s"] == pytest.approx(1000 / scores["ms"])
    assert np.sum(scores["confusion"]) == scores["pixels"]
    assert cv2.imread(str(sheet)).shape[0] > 4 * 200


def test_people_read_tables_of_all_weights(street, weights, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(weights.read_bytes())
    result = invoke(street, "--weights", weights, "--weights", other, "--set", "engine=torch")
    assert result.exit_code == 0, result.stderr
    words = result.stdout.split()
    assert {"untrained", "other", "mIoU", "pictures/s", "bicyclist", "street:"} <= set(words)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--set", "colour=red"), 2, "--set colour=red: segment has no 'colour'"),
        (("--weights", "person-r18"), 4, "expected a segmenter"),
    ],
)
def test_what_cannot_be_meant_is_told(street, arguments, code, message):
    result = invoke(street, *arguments)
    assert result.exit_code == code
    assert message in result.stderr


def test_weights_given_twice_are_told(street, weights):
    result = invoke(street, "--weights", weights, "--weights", weights)
    assert result.exit_code == 2
    assert "given twice" in result.stderr


def test_no_labelled_pictures_are_told(tmp_path, weights):
    result = invoke(tmp_path, "--weights", weights)
    assert result.exit_code == 2
    assert "holds no labelled images" in result.stderr
