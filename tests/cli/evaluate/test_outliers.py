"""The command that scores the detection of out-of-distribution objects, on made-up streets."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from labelled_streets import write_street, write_thing
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.classes import CAMVID
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig
from streamvis.models.weights import save

PICTURES = 4


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    return write_street(tmp_path_factory.mktemp("data") / "street", PICTURES)


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Path:
    return write_thing(tmp_path_factory.mktemp("things"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[Path]:
    paths = []
    for name, outliers_ in (("untrained", True), ("plain", False)):
        torch.manual_seed(0)
        about = SwiftNetConfig(
            name, "efficientnet_lite0", CAMVID.names, (16, 16, 16), 64, outliers=outliers_
        )
        paths.append(tmp_path_factory.mktemp("weights") / f"{name}.safetensors")
        save(SwiftNet(about), paths[-1], {})
    return paths


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["eval", "outliers", *map(str, arguments)])


def test_the_command_compares_with_a_plain_segmenter(street, things, weights, tmp_path):
    ours, plain = weights
    sheet = tmp_path / "worst.png"
    given = (street, "--objects", things, "--weights", ours, "--set", "engine=torch")
    result = invoke(*given, "--against", plain, "--sheet", sheet, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert list(found["weights"]) == ["untrained", "plain"]
    for name, scores in found["weights"].items():
        assert 0 <= scores["ap"] <= 1
        assert (scores["as_published"] is None) == (name == "plain")
    mious = [one["without_outliers"]["miou"] for one in found["weights"].values()]
    assert found["miou_difference"] == pytest.approx(mious[0] - mious[1])
    assert cv2.imread(str(sheet)).shape[0] > PICTURES * 200


def test_people_read_a_table_of_one_alone(street, things, weights):
    given = (street, "--objects", things, "--weights", weights[0], "--set", "engine=torch")
    result = invoke(*given, "--against", "")
    assert result.exit_code == 0, result.stderr
    assert {"untrained", "AP", "FPR95", "AUROC"} <= set(result.stdout.split())
    assert "less that of" not in result.stdout


def test_no_objects_are_told(street, weights, tmp_path):
    result = invoke(street, "--objects", tmp_path, "--weights", weights[0], "--against", "")
    assert result.exit_code == 2
    assert "holds no images" in result.stderr
