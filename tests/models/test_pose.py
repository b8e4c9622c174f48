"""From boxes in images to points in images."""

from importlib.util import find_spec

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from streamvis.models import pose
from streamvis.models.hrnet import ARCHITECTURES, Hrnet
from streamvis.models.pose import PoseNetwork, crop_regions


@pytest.fixture
def network() -> Hrnet:
    torch.manual_seed(0)
    small = msgspec.structs.replace(ARCHITECTURES["pose-lite"], size=(192, 128), sigma=1.5)
    model = Hrnet(small).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(240, 320, 3), dtype=np.uint8)


def test_regions_have_the_aspect_of_the_crop_and_contain_the_box_with_its_margin():
    boxes = np.array([[10.0, 20, 30, 100], [0, 0, 200, 50]])
    regions = crop_regions(boxes, (192, 128))
    np.testing.assert_allclose((regions[:, :2] + regions[:, 2:]) / 2, [[20, 60], [100, 25]])
    np.testing.assert_allclose(regions[:, 2:] - regions[:, :2], [[200 / 3, 100], [250, 375]])


def test_a_peak_in_a_cell_is_a_point_in_the_image(network, monkeypatch):
    made = PoseNetwork(network, "cpu", "fp32", "torch")
    heatmaps = np.zeros((1, 17, 48, 32), np.float32)
    grid = np.stack(np.meshgrid(np.arange(32), np.arange(48)), 2)
    sigma = network.architecture.sigma
    heatmaps[:] = np.exp(-0.5 * (((grid - [12.0, 30.25]) / sigma) ** 2).sum(2))
    monkeypatch.setattr(made, "_heatmaps", lambda crops: heatmaps)
    ((points, scores, covariances),) = made.estimate(
        [picture()], [np.array([[100.0, 20, 140, 180]])]
    )
    # a region of 200 px for 192: the crop begins at (120 - 200/3, 0)
    scale = 200 / 192
    expected = [120 - 200 / 3 + (12 * 4 + 2) * scale, (30.25 * 4 + 2) * scale]
    np.testing.assert_allclose(points[0], np.tile(expected, (17, 1)), atol=0.05)
    assert (scores > 0.95).all()
    assert covariances.shape == (1, 17, 2, 2)
    assert 1 < covariances[0, 0, 0, 0] < (4 * scale) ** 2


def test_people_of_several_images_are_each_of_their_own_image(network):
    made = PoseNetwork(network, "cpu", "fp32", "torch")
    images = [picture(0), picture(1), picture(2)]
    boxes = [np.array([[10.0, 10, 60, 150]]), np.zeros((0, 4)), np.array([[50.0, 5, 90, 90]] * 2)]
    found = made.estimate(images, boxes)
    assert [len(one.points) for one in found] == [1, 0, 2]
    (alone,) = made.estimate(images[:1], boxes[:1])
    for a, b in zip(alone, found[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)
        assert a.dtype == np.float32
    assert made.estimate([], []) == []
    (none,) = made.estimate(images[1:2], boxes[1:2])
    assert none.points.shape == (0, 17, 2)


@pytest.mark.skipif(find_spec("openvino") is None, reason="there is no OpenVINO here")
def test_openvino_computes_what_torch_does(network):
    shown = np.random.default_rng(0).integers(256, size=(3, 192, 128, 3), dtype=np.uint8)
    reference = network.heatmaps(network.normalise(shown)).detach().numpy()
    compiled = pose.accelerate_pose(network, "cpu", "fp32", "openvino")
    np.testing.assert_allclose(compiled(shown), reference, rtol=0.02, atol=2e-3)
    assert compiled(shown[:0]).shape == (0, 17, 48, 32)
