"""Blocks that networks share, against PyTorch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from streamvis.models.layers import (
    FrozenBatchNorm2d,
    LevelNorms,
    Separable,
    conv_norm,
    fold,
    fuse,
    per_level,
    set_level,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def norm(channels, eps=1e-5):
    made = FrozenBatchNorm2d(channels, eps)
    for value in (made.weight, made.running_var):
        value.uniform_(0.5, 2)
    for value in (made.bias, made.running_mean):
        value.normal_()
    return made


def normalised(x, norm):
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )


def test_a_frozen_norm_is_batch_normalisation_in_evaluation_and_learns_nothing():
    x, frozen = torch.randn(2, 5, 4, 3), norm(5)
    torch.testing.assert_close(frozen.train()(x), normalised(x, frozen))
    assert list(frozen.parameters()) == []
    trained = nn.BatchNorm2d(5).eval()
    trained.load_state_dict(frozen.state_dict(), strict=False)
    torch.testing.assert_close(frozen(x), trained(x))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
@torch.no_grad()
def test_a_folded_norm_gives_what_convolution_and_norm_give(bias, groups):
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=groups, bias=bias)
    x, frozen = torch.randn(2, 4, 9, 7), norm(8)
    expected = normalised(conv(x), frozen)
    torch.testing.assert_close(conv_norm(x, conv, frozen), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fold(conv, frozen)(x), expected, atol=1e-5, rtol=1e-4)


def test_a_folded_depthwise_convolution_has_the_same_gradients():
    conv, frozen = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), norm(4)
    x = torch.randn(1, 4, 6, 6, requires_grad=True)
    inputs = (x, conv.weight)
    ours = torch.autograd.grad(conv_norm(x, conv, frozen).square().sum(), inputs)
    plain = torch.autograd.grad(normalised(conv(x), frozen).square().sum(), inputs)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)


def test_a_separable_convolution_filters_each_channel_alone_and_then_mixes():
    block = Separable(3)
    x = torch.randn(1, 3, 7, 6)
    alone = [
        F.conv2d(x[:, c : c + 1], block.depthwise.weight[c : c + 1], padding=2) for c in range(3)
    ]
    filtered = torch.cat(alone, 1) + block.depthwise.bias[:, None, None]
    mixed = torch.einsum("oc,bchw->bohw", block.mix.weight[:, :, 0, 0], filtered)
    expected = mixed + block.mix.bias[:, None, None]
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-4)


def test_every_level_has_norms_of_its_own_except_inside_shared_modules():
    model = nn.Sequential()
    model.add_module("norm", nn.BatchNorm2d(2))
    model.add_module("shared", nn.Sequential(nn.BatchNorm2d(2)))
    per_level(model, 3, "shared")
    assert isinstance(model.norm, LevelNorms)
    assert isinstance(model.shared[0], nn.BatchNorm2d)
    x = torch.randn(4, 2, 3, 3)
    set_level(model, 1)
    model.train()(x)
    counted = [int(one.num_batches_tracked) for one in model.norm.norms]
    assert counted == [0, 1, 0]
    torch.testing.assert_close(model.norm.eval()(x), model.norm.norms[1](x))


def test_fusing_leaves_trained_norms_alone():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    assert isinstance(fuse(model)[1], nn.BatchNorm2d)
    frozen = nn.Sequential(nn.Conv2d(2, 2, 1), norm(2))
    x = torch.randn(1, 2, 3, 3)
    before = frozen(x)
    assert isinstance(fuse(frozen)[1], nn.Identity)
    torch.testing.assert_close(frozen(x), before, atol=1e-5, rtol=1e-4)
