"""HRNet's heads V2 and V2p: published counts, sums written out, networks that they make."""

import math

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from streamvis.models import weights
from streamvis.models.hrnet import HrnetBody, HrnetConfig
from streamvis.models.hrnet_heads import V2Features, V2Pyramid, concatenated
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn, MaskRcnnConfig
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig

NAMES = tuple(f"class {n}" for n in range(19))


def count(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if "running" not in name)


def maps() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, c, 24 >> i, 32 >> i) for i, c in enumerate((4, 8, 16, 32))]


def test_the_segmenter_of_width_48_has_the_published_parameters():
    architecture = SwiftNetConfig("hrnetv2-w48", "hrnet", NAMES, trunk_width=48)
    assert count(weights.shapes_of(architecture)) / 1e6 == pytest.approx(65.9, abs=0.05)


@pytest.mark.parametrize(("width", "millions"), [(18, 26.2), (32, 45.0), (40, 60.5)])
def test_detectors_have_the_published_parameters(width, millions):
    """Of Faster R-CNN with 80 classes; the published millions are 2²⁰ each, and cut off."""
    architecture = msgspec.structs.replace(
        ARCHITECTURES["person-hrnet-w18"],
        trunk_width=width,
        classes=81,
        anchor_sizes=tuple((8.0 * stride,) for stride in (4, 8, 16, 32, 64)),
    )
    shapes = weights.shapes_of(architecture)
    boxes = {n: s for n, s in shapes.items() if not n.startswith("roi_heads.mask")}
    norms = sum(  # frozen ones are no parameters in torch, but their affine parts are counted
        math.prod(s) for n, s in boxes.items() if n.endswith((".weight", ".bias"))
    )
    assert norms == count(boxes)
    assert math.floor(count(boxes) / 2**20 * 10) / 10 == millions


@torch.no_grad()
def test_v2_mixes_all_maps_at_the_finest_resolution():
    head, given = V2Features((4, 8, 16, 32)).eval(), maps()
    up = [F.interpolate(x, (24, 32), mode="bilinear", align_corners=False) for x in given]
    torch.testing.assert_close(concatenated(given), torch.cat(up, 1))
    expected = F.conv2d(torch.cat(up, 1), head.mix.weight, head.mix.bias).relu()
    found = head(given)
    assert found.shape == (1, 60, 24, 32)
    torch.testing.assert_close(found, expected / math.sqrt(1 + 1e-5))


@torch.no_grad()
def test_v2p_averages_one_map_down_to_a_pyramid():
    head, given = V2Pyramid((4, 8, 16, 32), 6), maps()
    x = head.reduction(concatenated(given))
    found = head(given)
    assert [tuple(one.shape[1:]) for one in found] == [
        (6, 24, 32),
        (6, 12, 16),
        (6, 6, 8),
        (6, 3, 4),
        (6, 2, 2),
    ]
    cells = x.unflatten(3, (8, 4)).unflatten(2, (6, 4)).mean((3, 5))
    torch.testing.assert_close(found[2], head.smooth[2](cells))


@torch.no_grad()
def test_a_body_gives_four_maps():
    body = HrnetBody(HrnetConfig("hrnet", 8), nn.BatchNorm2d).eval()
    found = body(torch.randn(1, 3, 64, 96))
    sizes = [(8, 16, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)]
    assert [tuple(one.shape[1:]) for one in found] == sizes


@torch.no_grad()
def test_a_segmenter_with_hrnet_loads_from_its_file(tmp_path):
    architecture = SwiftNetConfig("small", "hrnet", ("a", "b"), trunk_width=8, outliers=True)
    model = SwiftNet(architecture).eval()
    path = tmp_path / "small.safetensors"
    weights.save(model, path, {})
    again = weights.load_segmenter(str(path))
    x = again.normalise(np.zeros((1, 60, 90, 3), np.uint8))
    features = again.features(x)
    assert features.shape == (1, 120, 16, 24)
    assert again.logits(features).shape == (1, 2, 16, 24)
    assert again.strangeness(features).shape == (1, 2, 16, 24)


@pytest.mark.parametrize("wrong", [{"levels": 2}, {"skips": False}])
def test_hrnet_has_no_pyramid_of_images(wrong):
    with pytest.raises(ValueError, match="the encoder hrnet goes with one level"):
        SwiftNetConfig("x", "hrnet", ("a", "b"), **wrong)


def small_detector() -> MaskRcnnConfig:
    return msgspec.structs.replace(
        ARCHITECTURES["person-hrnet-w18"], trunk_width=8, channels=8, box_width=16, short_side=64
    )


@torch.no_grad()
def test_a_detector_with_hrnet_finds_in_all_engines_what_it_finds_in_torch(tmp_path):
    from streamvis.models.inference.select import accelerate_detector, openvino_fault

    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    weights.save(MaskRcnn(small_detector()).eval(), path, {})
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    engines = ["torch"] if openvino_fault() else ["torch", "openvino"]
    found = [
        accelerate_detector(weights.load_detector(str(path)), "cpu", "fp32", engine)(
            [image], False
        )[0]
        for engine in engines
    ]
    assert len(found[0].boxes) > 0
    for other in found[1:]:
        assert len(other.boxes) == pytest.approx(len(found[0].boxes), rel=0.1)
