"""EfficientNet-Lite0: padding as TensorFlow's formula says, strides, and the published names."""

import pytest
import torch
from torch.nn import functional as F

from streamvis.models.efficientnet import EfficientNetLite0, from_lukemelas, same_pad


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [32, 64, 96])
def test_padding_of_even_sides_is_tensorflows_same(kernel, side):
    """Total padding max((ceil(n / s) - 1) s + k - n, 0), the odd pixel after."""
    total = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
    before, after = total // 2, total - total // 2
    x = torch.rand(1, 2, side, side)
    torch.testing.assert_close(same_pad(x, kernel, 2), F.pad(x, (before, after, before, after)))
    assert same_pad(x, kernel, 1) is x


def test_maps_have_the_strides_and_channels_that_are_stated():
    with torch.device("meta"):
        trunk = EfficientNetLite0(head=True)
        maps = trunk(torch.zeros(1, 3, 64, 96))
    assert [m.shape[1] for m in maps[:-1]] == list(trunk.channels)
    assert [64 // m.shape[2] for m in maps[:-1]] == list(trunk.strides)
    assert maps[-1].shape[1] == trunk.outputs == 1280


def published(trunk):
    """The names of the published file for these weights, its classifier included."""
    inner = {"expand": "_expand_conv", "expand_norm": "_bn0", "depthwise": "_depthwise_conv"}
    inner |= {"depthwise_norm": "_bn1", "project": "_project_conv", "project_norm": "_bn2"}
    outer = {"stem": "_conv_stem", "stem_norm": "_bn0", "head": "_conv_head", "head_norm": "_bn1"}
    state = {"_fc.weight": torch.zeros(1), "_bn0.num_batches_tracked": torch.zeros(1)}
    for key, value in trunk.state_dict().items():
        first, *rest = key.split(".")
        if first == "blocks":
            block, layer, name = rest
            state[f"_blocks.{block}.{inner[layer]}.{name}"] = value
        else:
            state[".".join([outer[first], *rest])] = value
    return state


@pytest.mark.parametrize("head", [False, True])
def test_a_published_file_fits_by_name(head):
    whole = EfficientNetLite0(head=True)
    trunk = EfficientNetLite0(head=head)
    renamed = from_lukemelas(published(whole), head=head)
    trunk.load_state_dict(renamed)  # neither a missing name nor one too many
    for name, value in trunk.state_dict().items():
        assert value is renamed[name] or torch.equal(value, renamed[name])
