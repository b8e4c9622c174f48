"""Rounded convolutions are integer arithmetic, and ranges belong to their weights."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.errors import DataError, WeightsError
from streamvis.models import int8
from streamvis.models.layers import fuse
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn
from streamvis.models.weights import find, load_detector


@pytest.mark.parametrize("groups", [1, 4])
def test_a_rounded_convolution_is_one_of_whole_numbers(groups):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, padding=1, groups=groups)
    x = torch.randn(2, 4, 9, 7)
    low, high = -2.0, 1.5  # values beyond are clipped
    with torch.no_grad():
        found = int8.Int8Convolution(layer, low, high)(x)
        step = (high - low) / 255
        zero = round(-low / step)
        pixels = ((x / step).round() + zero).clamp(0, 255) - zero  # whole numbers
        steps = layer.weight.abs().amax((1, 2, 3), keepdim=True) / 127
        kernel = (layer.weight / steps).round()
        whole = F.conv2d(pixels.double(), kernel.double(), padding=1, groups=groups)
        assert torch.equal(whole, whole.round())
        expected = whole * steps.double().view(1, -1, 1, 1) * step + layer.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def small() -> MaskRcnn:
    torch.manual_seed(0)
    model = MaskRcnn(ARCHITECTURES["person-lite"]).eval()
    model.short_side, model.long_side = 64, 96
    return model


def test_ranges_are_the_mean_extremes_of_the_pictures():
    dark, bright = (torch.full((3, 64, 64), v, dtype=torch.uint8) for v in (0, 255))
    one, other, both = (int8.measure_ranges(small(), p) for p in ([dark], [bright], [dark, bright]))
    assert one.keys() == int8.convolutions(small()).keys()
    assert one["backbone.body.stem"] == pytest.approx((-127 / 128, 0), abs=1e-4)  # 0 of the border
    assert other["backbone.body.stem"] == pytest.approx((0, 1), abs=1e-4)
    for name, bounds in both.items():
        mean = np.mean([one[name], other[name]], axis=0)
        np.testing.assert_allclose(bounds, mean, rtol=1e-3, atol=1e-4)
        assert bounds[0] <= 0 <= bounds[1]
    with pytest.raises(DataError, match="no pictures"):
        int8.measure_ranges(small(), [])


def test_layers_of_another_network_are_refused():
    model = small()
    fuse(model)
    with pytest.raises(WeightsError, match=r"1 layers, expected the \d+ .*'backbone\."):
        int8.quantise(model, {"rpn.other": (0.0, 1.0)})


def test_ranges_are_of_one_weights_file(tmp_path):
    mine = tmp_path / "mine.safetensors"
    shutil.copy(find("person-lite"), mine)
    with pytest.raises(WeightsError, match=r"mine\.int8\.json: No such file.*streamvis train int8"):
        int8.read_ranges(mine)
    path = int8.int8_path(mine)
    int8.write_ranges(mine, {"a": (-1.0, 2.5)}, 3, path)
    assert int8.read_ranges(mine) == {"a": (-1.0, 2.5)}
    mine.write_bytes(mine.read_bytes() + b" ")
    with pytest.raises(WeightsError, match="was made for other weights"):
        int8.read_ranges(mine)
    for damage in (b"", b"[]", b'{"ranges": {"a": [1, null]}}', b"\xff\xfe", b"1" * (2 << 20)):
        path.write_bytes(damage)
        with pytest.raises(WeightsError, match="is not a file of ranges"):
            int8.read_ranges(mine)


def test_the_shipped_ranges_are_those_of_the_shipped_weights():
    model = load_detector("person-lite")
    assert int8.read_ranges(find("person-lite")).keys() == int8.convolutions(model).keys()


def test_the_command_measures_on_a_folder(tmp_path):
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), noise)
    rows = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    out = tmp_path / "r.json"
    command = ["train", "int8", "person-lite", "--data", str(tmp_path), "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    held = json.loads(out.read_text())
    assert held["pictures"] == 1
    assert held["ranges"]["backbone.body.blocks.0.project"][1] <= 6  # what relu6 leaves
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(find("person-lite").read_bytes())
    command = ["train", "int8", str(weights), "--data", str(tmp_path), "--out", str(weights)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "the ranges would replace the weights" in result.stderr
    assert weights.read_bytes() == find("person-lite").read_bytes()
