"""The command that scores the detection of out-of-distribution objects, on made-up streets."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.classes import CAMVID
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig
from streamvis.models.weights import save

SIZE = (72, 96)
ROAD, CAR = 3, 8
PICTURES = 4
THING = (10, 250, 10)


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "street"
    for n in range(PICTURES):
        truth = np.full(SIZE, ROAD, np.uint8)
        truth[30:60, 10:40], truth[:, -10:] = CAR, 11
        for name, pixels in (
            ("images", np.dstack([np.zeros_like(truth)] * 2 + [truth])),
            ("labels", truth),
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name / f"{n:03}.png"), pixels)
    return folder


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("things")
    cut_out = np.zeros((40, 40, 4), np.uint8)
    cut_out[4:36, 4:36] = (*THING[::-1], 255)
    cv2.imwrite(str(folder / "thing.png"), cut_out)
    return folder


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
        assert (scores["as_told"] is None) == (name == "plain")
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
