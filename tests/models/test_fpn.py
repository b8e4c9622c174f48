"""The feature pyramid against its sums written out."""

import pytest
import torch
from torch.nn import functional as F

from streamvis.models.fpn import FeaturePyramid
from streamvis.models.layers import FrozenBatchNorm2d


def maps():
    torch.manual_seed(0)
    return [torch.randn(1, 3, 12, 20), torch.randn(1, 5, 6, 10), torch.randn(1, 7, 3, 5)]


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("norm_eps", [None, 1e-5])
@torch.no_grad()
def test_each_map_is_its_lateral_one_plus_the_coarser_sum_smoothed(light, norm_eps):
    pyramid = FeaturePyramid((3, 5, 7), 4, light, norm_eps)
    fine, middle, coarse = (b(x) for b, x in zip(pyramid.inner_blocks, maps(), strict=True))

    def doubled(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    middle = middle + doubled(coarse)
    fine = fine + doubled(middle)
    smooth = [b(x) for b, x in zip(pyramid.layer_blocks, (fine, middle, coarse), strict=True)]
    found = pyramid(maps())
    for a, b in zip(found, [*smooth, smooth[-1][:, :, ::2, ::2]], strict=True):
        torch.testing.assert_close(a, b)
    if light:
        torch.testing.assert_close(found[0], fine)  # pooling smooths it


@torch.no_grad()
def test_maps_of_odd_sizes_are_brought_to_the_finer_size():
    pyramid = FeaturePyramid((3, 3), 4)
    x = [torch.randn(1, 3, 7, 9), torch.randn(1, 3, 4, 5)]
    inner = [b(one) for b, one in zip(pyramid.inner_blocks, x, strict=True)]
    total = inner[0] + F.interpolate(inner[1], (7, 9), mode="nearest")
    torch.testing.assert_close(pyramid(x)[0], pyramid.layer_blocks[0](total))
    assert [tuple(m.shape[2:]) for m in pyramid(x)] == [(7, 9), (4, 5), (2, 3)]


def test_a_norm_takes_the_place_of_the_bias():
    for eps, norms, biases in ((None, 0, 4), (1e-5, 4, 0)):
        pyramid = FeaturePyramid((3, 3), 4, norm_eps=eps)
        modules = list(pyramid.modules())
        assert sum(isinstance(m, FrozenBatchNorm2d) for m in modules) == norms
        convolutions = [m for m in modules if isinstance(m, torch.nn.Conv2d)]
        assert sum(m.bias is not None for m in convolutions) == biases
