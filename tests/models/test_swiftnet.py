"""Both SwiftNets against what the paper's sheet tells of them, part by part."""

import re

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from streamvis.errors import WeightsError
from streamvis.models import weights
from streamvis.models.layers import LevelNorms, fuse, set_level
from streamvis.models.resnet import BasicBlock, ResNet18Whole
from streamvis.models.swiftnet import (
    MEAN,
    STD,
    SpatialPyramid,
    SwiftNet,
    SwiftNetConfig,
    full_size,
)

CITY = tuple(f"class {index}" for index in range(19))
BODIES = ("efficientnet_lite0", "resnet18")
VARIANTS = (
    {"body": "efficientnet_lite0"},
    {"body": "efficientnet_lite0", "levels": 3},
    {"body": "resnet18"},
    {"body": "resnet18", "levels": 3},
    {"body": "resnet18", "skips": False},
    {"body": "efficientnet_lite0", "outliers": True},
)


def network(**about) -> SwiftNet:
    """A narrow one whose norms have something to say."""
    torch.manual_seed(0)
    about = {"body": "resnet18", "segments": ("a", "b", "c"), "widths": (16, 16, 16)} | about
    model = SwiftNet(SwiftNetConfig(name="untrained", **about))
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 2)
    return model.eval()


def picture(height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("levels", "millions"), [(1, 11.80), (3, 12.06)])
def test_parameters_are_as_many_as_published(levels, millions):
    with torch.device("meta"):
        model = SwiftNet(SwiftNetConfig("sheet", "resnet18", CITY, levels=levels))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize(("height", "width"), [(8, 16), (12, 15), (3, 5), (16, 8)])
def test_the_whole_picture_is_seen_in_square_cells(height, width):
    torch.manual_seed(0)
    spp = SpatialPyramid(24, 16).eval()
    pooled = []
    for level in spp.levels:
        level.register_forward_pre_hook(lambda _, x: pooled.append(tuple(x[0].shape[-2:])))
    x = torch.randn(1, 24, height, width)
    with torch.inference_mode():
        found = spp(x)
    assert pooled == [(g, max(1, round(g * width / height))) for g in (8, 4, 2)]
    assert found.shape == (1, 16, height, width)


def test_the_pyramid_of_grids_is_means_mixed_with_the_map():
    torch.manual_seed(0)
    spp = SpatialPyramid(24, 16).eval()
    x = torch.randn(1, 24, 8, 16)
    with torch.inference_mode():
        y = spp.squeeze(x)
        maps = [y]
        for (rows, columns), level in zip(((8, 16), (4, 8), (2, 4)), spp.levels, strict=True):
            blocks = y.reshape(1, 16, rows, 8 // rows, columns, 16 // columns).mean((3, 5))
            maps.append(F.interpolate(level(blocks), (8, 16), mode="bilinear"))
        assert [m.shape[1] for m in maps] == [16, 5, 5, 5]
        torch.testing.assert_close(spp(x), spp.mix(torch.cat(maps, 1)))


def test_skips_of_resnet_are_taken_before_the_last_rectifier():
    torch.manual_seed(0)
    sums, plain = ResNet18Whole(sums=True).eval(), ResNet18Whole().eval()
    plain.load_state_dict(sums.state_dict())
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before, after = sums(x), plain(x)
    for a, b, width, side in zip(before, after, (64, 128, 256, 512), (16, 8, 4, 2), strict=True):
        assert a.shape == (1, width, side, side * 3 // 2)
        assert a.min() < 0 <= b.min()
        torch.testing.assert_close(F.relu(a), b)


def test_a_skip_reaches_the_decoder_before_its_rectifier():
    model = network()
    taken = []
    model.up[0].bottleneck.register_forward_pre_hook(lambda _, x: taken.append(x[0]))
    model.spp.register_forward_pre_hook(lambda _, x: taken.append(x[0]))
    with torch.inference_mode():
        model(model.normalise(picture()))
    assert [x.shape[1] for x in taken] == [512, 256]
    assert all(x.min() < 0 for x in taken)


def test_levels_have_norms_of_their_own_but_in_shortcuts():
    model = network(levels=3)
    for name, part in model.body.named_modules():
        if isinstance(part, BasicBlock):
            assert isinstance(part.bn1, LevelNorms), name
            assert isinstance(part.bn2, LevelNorms), name
            assert part.downsample is None or isinstance(part.downsample[1], nn.BatchNorm2d)
    levels = [len(p.norms) for p in model.body.modules() if isinstance(p, LevelNorms)]
    assert levels == [3] * 17


@pytest.mark.parametrize("body", BODIES)
def test_a_level_normalises_as_if_it_were_alone(body):
    model = network(body=body, levels=3)
    x = torch.randn(1, 3, 64, 64)
    state = model.body.state_dict()
    for level in range(3):
        alone = network(body=body, levels=1).body
        there = {
            name: state[re.sub(r"(bn\d|\w*norm)\.", rf"\1.norms.{level}.", name)]
            if "downsample" not in name
            else state[name]
            for name in alone.state_dict()
            if "num_batches" not in name
        }
        alone.load_state_dict(there, strict=False)
        set_level(model.body, level)
        with torch.inference_mode():
            for a, b in zip(model.body(x), alone(x), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_pyramid_sums_maps_of_equal_strides_from_stride_128_up():
    model = network(levels=3)
    x = model.normalise(picture(128, 256))
    strides: dict[int, list[torch.Tensor]] = {}
    with torch.inference_mode():
        for level in range(3):
            size = (128 >> level, 256 >> level)
            smaller = F.interpolate(x, size, mode="bicubic") if level else x
            set_level(model.body, level)
            for step, (tap, y) in enumerate(zip(model.taps, model.body(smaller), strict=True)):
                strides.setdefault(4 * 2 ** (step + level), []).append(tap(y))
        assert {s: len(found) for s, found in strides.items()} == {
            4: 1, 8: 2, 16: 3, 32: 3, 64: 2, 128: 1
        }  # fmt: skip
        y = sum(strides[128])
        for blend, stride in zip(model.blends, (64, 32, 16, 8, 4), strict=True):
            skip = sum(strides[stride])
            y = blend(F.interpolate(y, skip.shape[-2:], mode="bilinear") + skip)
        torch.testing.assert_close(model.features(x), y)


def test_a_pyramid_learns_statistics_of_each_level_apart():
    model = network(levels=2).train()
    model(model.normalise(np.repeat(picture(), 2, 0)))
    first, second = model.body.bn1.norms
    assert first.num_batches_tracked == second.num_batches_tracked == 1
    assert not torch.equal(first.running_var, second.running_var)


@pytest.mark.parametrize("about", VARIANTS[:3], ids=str)
def test_folding_changes_nothing(about):
    model = network(**about)
    x = model.normalise(picture())
    with torch.inference_mode():
        before = model(x)
        after = fuse(model)(x)
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


MODELS = {str(about): network(**about) for about in VARIANTS[1:4]}


@settings(max_examples=12)
@given(st.sampled_from(sorted(MODELS)), st.integers(1, 140), st.integers(1, 140))
def test_pictures_of_any_size_are_read_at_their_size(name, height, width):
    model = MODELS[name]
    x = model.normalise(picture(height, width))
    padded = [-(-side // model.cell) * model.cell for side in (height, width)]
    assert list(x.shape[2:]) == padded
    with torch.inference_mode():
        features = model.features(x)
        logits = model.logits(features)
    assert features.shape[1:] == (model.channels, *(side // model.stride for side in padded))
    assert logits.shape[2:] == tuple(side // 4 for side in padded)
    assert full_size(logits, (height, width)).shape == (1, 3, height, width)


def test_padding_is_of_the_mean_colour():
    x = network().normalise(picture(50, 70))
    assert (x[:, :, 50:] == 0).all()
    assert (x[:, :, :, 70:] == 0).all()


def test_resnet_takes_pictures_by_the_colours_of_cityscapes():
    model = network()
    pixels = picture(32, 32)
    expected = (pixels.astype(np.float32) - MEAN) / STD
    found = model.normalise(pixels)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=1e-5)
    with_lite = network(body="efficientnet_lite0").normalise(pixels)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(with_lite, (pixels[0] - 127.0) / 128, rtol=1e-5, atol=1e-5)


def test_without_skips_the_future_can_be_told_from_stride_32():
    model = network(skips=False, widths=(16, 12, 8))
    taken = []
    model.spp.register_forward_hook(lambda *a: taken.append(a[-1]))
    with torch.inference_mode():
        features = model.features(model.normalise(picture()))
        assert torch.equal(features, taken[0])
        assert model.logits(features).shape == (1, 3, 16, 24)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"levels": 3, "widths": [128, 128, 64]}, "have to be equal"),
        ({"levels": 2, "skips": False}, "skips: false"),
        ({"outliers": True, "skips": False}, "skips: false"),
        ({"levels": 9}, r"\$\.levels"),
        ({"segments": ["road"]}, r"\$\.segments"),
        ({"widths": [128, 128, 10**6]}, r"\$\.widths"),
    ],
    ids=str,
)
def test_an_architecture_that_makes_no_sense_is_refused(about, words):
    about = {"name": "odd", "body": "resnet18", "segments": ["road", "sky"]} | about
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(about, SwiftNetConfig)


@pytest.mark.parametrize("about", [VARIANTS[1], VARIANTS[4]], ids=str)
def test_weights_come_back_as_they_were(about, tmp_path):
    model = network(**about)
    path = tmp_path / "street.safetensors"
    weights.save(model, path, {"steps": "3"})
    info = weights.verify(str(path))
    assert (info.architecture, info.metadata["steps"]) == ("untrained", "3")
    again = weights.load_segmenter(str(path))
    assert again.architecture == model.architecture
    state = again.state_dict()
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-6, msg=name)
    assert weights.difference(str(path)).missing == []


def test_weights_of_another_make_are_told_apart(tmp_path):
    path = tmp_path / "street.safetensors"
    weights.save(network(), path, {})
    with pytest.raises(WeightsError, match="which segments images; expected a detector"):
        weights.load_detector(str(path))
    with pytest.raises(WeightsError, match=r"detects people; expected a segmenter"):
        weights.load_segmenter("person-lite")
    other = network(levels=3)
    with pytest.raises(WeightsError, match=r"does not fit untrained: body\.bn1\.norms\.0"):
        weights.load_into(other, path)
