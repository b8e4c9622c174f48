"""The published layout of OFF against the authors' network, written out layer by layer."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from streamvis.errors import WeightsError
from streamvis.models import weights
from streamvis.models.bn_inception import TAPS
from streamvis.models.caffe_off import from_caffe, is_caffe
from streamvis.models.off import CHANNELS, LEVELS, Off, OffConfig

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = 5
FILE = Path("off.pth")
CHANNELS_OF = {"3a": 256, "3b": 320, "3c": 576, "4a": 576, "4b": 576, "4c": 608, "4d": 608}
CHANNELS_OF |= {"5a": 1024, "5b": 1024}
KERNEL = torch.tensor([[0.0, 1, 0], [-1, 0, 1], [0, -1, 0]])


def layers(modality):
    """Names and shapes (outputs, inputs, kernel) of the convolutions of the OFF part."""
    spatial = 32 if modality == "rgb" else 0
    unit = 128 + spatial
    for tap, inputs in CHANNELS_OF.items():
        yield f"motion_conv_gen_{tap}", (128, inputs, 1)
        if spatial:
            yield f"motion_spatial_down_{tap}", (32, inputs, 1)
    yield "motion_conv_trans_28", (64, 2 * unit, 7)
    yield "motion_conv_trans_14", (128, 5 * unit + 256, 5)
    yield "motion_conv_trans", (256, 2 * unit + 512, 3)
    for end, width, inputs, last in (
        ("_28a", 64, 64, 1),
        ("_28b", 64, 256, 1),
        ("_28c", 64, 256, 1),
        ("_14a", 128, 128, 1),
        ("_14b", 128, 512, 3),
        ("", 256, 256, 1),
    ):
        yield f"motion_conv1_trans{end}", (width, inputs, 1)
        yield f"motion_conv2_trans{end}", (width, width, 3)
        yield f"motion_conv3_trans{end}", (4 * width, width, last)
    yield "motion_conv_branch_28a", (256, 64, 1)
    yield "motion_conv_expand_trans_14a", (512, 128, 1)
    yield "motion_conv_branch_trans", (1024, 256, 1)


def caffe_weights(modality="rgb"):
    """Random weights by Caffe's names; the trunk has those of `Off`."""
    torch.manual_seed(0)
    state = {}
    for name, (outputs, inputs, k) in layers(modality):
        state[f"{name}.weight"] = torch.randn(outputs, inputs, k, k) / (inputs * k * k) ** 0.5
        state[f"{name}.bias"] = 0.2 * torch.randn(outputs)
    for name, inputs in (("", 1024), ("_14", 512), ("_28", 256)):
        state[f"fc-action-motion{name}.weight"] = torch.randn(CLASSES, inputs)
        state[f"fc-action-motion{name}.bias"] = torch.randn(CLASSES)
    state["fc-action.weight"] = torch.randn(CLASSES, 1024)
    state["fc-action.bias"] = torch.randn(CLASSES)
    architecture = OffConfig(
        name="t", actions=("a", "b"), body="bn_inception", modality=modality, guided=False
    )
    return state | Off(architecture).body.state_dict()


def by_caffe(state, before, after, rgb):
    """Logits of the levels 28, 14, 7 from the taps' maps of two frames, as Caffe computes them."""

    def conv(x, name, **how):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    def unit(tap):
        first, last = (F.relu(conv(m[tap], f"motion_conv_gen_{tap}")) for m in (before, after))
        if not rgb:
            return last - first
        down = conv(before[tap], f"motion_spatial_down_{tap}")
        kernel = KERNEL.expand(32, 1, 3, 3)
        return torch.cat([F.conv2d(down, kernel, padding=1, groups=32), last - first], 1)

    def block(x, end, short=None, last=0):
        y = F.relu(conv(x, f"motion_conv1_trans{end}"))
        y = F.relu(conv(y, f"motion_conv2_trans{end}", padding=1))
        y = conv(y, f"motion_conv3_trans{end}", padding=last)
        return y + (conv(x, short) if short else x)

    def scored(x, end):
        pooled = x.mean((2, 3))
        return F.linear(
            pooled, state[f"fc-action-motion{end}.weight"], state[f"fc-action-motion{end}.bias"]
        )

    fine, middle, coarse = (torch.cat([unit(tap) for tap in level], 1) for level in TAPS)
    x = F.relu(conv(fine, "motion_conv_trans_28", stride=2, padding=3))
    x = F.relu(block(x, "_28a", "motion_conv_branch_28a"))
    x = F.relu(block(F.relu(block(x, "_28b")), "_28c"))
    logits = [scored(F.max_pool2d(x, 3, 2, ceil_mode=True), "_28")]
    x = F.relu(conv(torch.cat([middle, x], 1), "motion_conv_trans_14", stride=2, padding=2))
    x = F.relu(block(x, "_14a", "motion_conv_expand_trans_14a"))
    x = F.relu(block(x, "_14b", last=1))
    logits.append(scored(x, "_14"))
    x = F.relu(conv(torch.cat([coarse, x], 1), "motion_conv_trans", padding=1))
    return [*logits, scored(block(x, "", "motion_conv_branch_trans"), "")]


@torch.inference_mode()
@pytest.mark.parametrize("modality", ["rgb", "diff", "flow"])
def test_the_converted_network_gives_the_scores_of_the_published_one(modality):
    state = caffe_weights(modality)
    model = from_caffe(state, FILE)
    assert model.architecture.modality == modality
    assert len(model.architecture.actions) == CLASSES
    pictures = torch.randn(2, CHANNELS[modality], 64, 64)
    scores = model(pictures[None])
    maps = model.body(pictures)
    names = [tap for level in TAPS for tap in level]
    before, after = (dict(zip(names, [m[i : i + 1] for m in maps], strict=True)) for i in (0, 1))
    expected = by_caffe(state, before, after, modality == "rgb")
    for level, logits in zip(LEVELS, expected, strict=True):
        torch.testing.assert_close(scores[level][:, 0], logits, atol=1e-4, rtol=1e-4)
    frame = F.linear(maps[-1].mean((2, 3)), state["fc-action.weight"], state["fc-action.bias"])
    torch.testing.assert_close(scores["frame"][0], frame, atol=1e-4, rtol=1e-4)


def test_a_published_file_is_imported_whatever_stands_for_slashes(tmp_path):
    state = {f"module.{name.replace('-', '_')}": x for name, x in caffe_weights("diff").items()}
    assert is_caffe(state)
    torch.save(state, tmp_path / "diff.pth")
    out = tmp_path / "diff.safetensors"
    info = weights.import_checkpoint(tmp_path / "diff.pth", out)
    assert info.architecture == "off-diff"
    loaded, model = weights.load_actions(str(out)), from_caffe(state, FILE)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-2, rtol=1e-3)


def test_a_file_without_a_layer_or_with_another_shape_is_refused():
    state = caffe_weights("diff")
    short = {name: x for name, x in state.items() if name != "motion_conv_trans_14.weight"}
    with pytest.raises(WeightsError, match=r"off\.pth.*motion_conv_trans_14\.weight"):
        from_caffe(short, FILE)
    with pytest.raises(WeightsError, match=r"guided\.fine\.3\.conv1\.bias is \(3,\).*\(64,\)"):
        from_caffe({**state, "motion_conv1_trans_28b.bias": torch.zeros(3)}, FILE)
    narrow = {**state, "motion_conv_trans_28.weight": torch.zeros(64, 7, 7, 7)}
    with pytest.raises(WeightsError, match=r"guided\.fine\.0\.weight"):
        from_caffe(narrow, FILE)
    with pytest.raises(WeightsError, match=r"\(64, 4, 7, 7\).*3 \(rgb\)"):
        from_caffe({**state, "conv1_7x7_s2.weight": torch.zeros(64, 4, 7, 7)}, FILE)
    with pytest.raises(WeightsError, match="conv1_7x7_s2"):
        from_caffe({**state, "conv1_7x7_s2.weight": torch.zeros(())}, FILE)
    spatial = caffe_weights("rgb") | {"motion_spatial_down_4b.weight": torch.zeros(32, 7, 1, 1)}
    with pytest.raises(WeightsError, match=r"motion_spatial_down_4b are .*\(32, 7, 1, 1\)"):
        from_caffe(spatial, FILE)


def test_other_checkpoints_are_not_taken_for_it():
    assert not is_caffe({"backbone.body.conv1.weight": torch.zeros(1)})
