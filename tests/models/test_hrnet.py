"""HRNet against its description: counts, names and shapes, and a forward pass written out."""

import re

import msgspec
import numpy as np
import pytest
import torch
from published_hrnets import STAGES, published_shapes, published_state
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from streamvis.errors import WeightsError
from streamvis.models import weights
from streamvis.models.hrnet import ARCHITECTURES, Hrnet, HrnetConfig
from streamvis.models.layers import fuse

SMALL = HrnetConfig(name="hrnet-w8", width=8, size=(64, 64))


def reference(x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """The forward pass of the description, from the tensors alone."""

    def conv_norm(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        kernel = state[f"{conv}.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        about = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var"))
        return F.batch_norm(x, *about, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-5)

    def at(x: Tensor, name: str, stride: int = 1) -> Tensor:
        return conv_norm(x, f"{name}.0", f"{name}.1", stride)

    x = conv_norm(x, "conv1", "bn1", 2).relu()
    x = conv_norm(x, "conv2", "bn2", 2).relu()
    for block in range(4):
        name = f"layer1.{block}"
        y = conv_norm(x, f"{name}.conv1", f"{name}.bn1").relu()
        y = conv_norm(y, f"{name}.conv2", f"{name}.bn2").relu()
        y = conv_norm(y, f"{name}.conv3", f"{name}.bn3")
        x = (y + (x if block else at(x, f"{name}.downsample"))).relu()
    maps = [at(x, "transition1.0").relu(), at(x, "transition1.1.0", 2).relu()]
    for branches, modules in STAGES:
        if branches > 2:
            n = branches - 1
            maps.append(at(maps[-1], f"transition{n}.{n}.0", 2).relu())
        for module in range(modules):
            name = f"stage{branches}.{module}"
            for branch in range(branches):
                for block in range(4):
                    inner = f"{name}.branches.{branch}.{block}"
                    y = conv_norm(maps[branch], f"{inner}.conv1", f"{inner}.bn1").relu()
                    y = conv_norm(y, f"{inner}.conv2", f"{inner}.bn2")
                    maps[branch] = (maps[branch] + y).relu()
            sums = []
            last = branches == 4 and module == modules - 1
            for i in range(1 if last else branches):
                total = torch.zeros_like(maps[i])
                for j in range(branches):
                    inner, y = f"{name}.fuse_layers.{i}.{j}", maps[j]
                    if j > i:
                        y = at(y, inner)
                        times = 2 ** (j - i)
                        y = y.repeat_interleave(times, 2).repeat_interleave(times, 3)
                    for step in range(i - j):
                        y = at(y, f"{inner}.{step}", 2)
                        y = y if step == i - j - 1 else y.relu()
                    total = total + y
                sums.append(total.relu())
            maps = sums
    return F.conv2d(maps[0], state["final_layer.weight"], state["final_layer.bias"])


@pytest.mark.parametrize(
    ("name", "width", "millions"), [("hrnet-w32", 32, 28.5), ("hrnet-w48", 48, 63.6)]
)
def test_published_networks_have_the_names_shapes_and_counts_of_the_paper(name, width, millions):
    shapes = weights.shapes_of(ARCHITECTURES[name])
    assert shapes == published_shapes(width)
    learnt = [s for key, s in shapes.items() if "running" not in key]
    assert round(sum(np.prod(shape) for shape in learnt) / 1e6, 1) == millions


@pytest.mark.parametrize(("width", "height"), [(8, 128), (32, 64)])
@torch.no_grad()
def test_a_published_checkpoint_computes_what_the_description_says(tmp_path, width, height):
    state = published_state(width)
    path = tmp_path / f"pose_hrnet_w{width}.pth"
    torch.save(state, path)
    model = weights.load_pose(str(path))
    known = HrnetConfig(name=f"hrnet-w{width}", width=width, size=(256, 192))
    assert model.architecture == known
    x = torch.randn(2, 3, height, 96).double()
    expected = reference(x, {name: value.double() for name, value in state.items()})
    assert expected.shape == (2, 17, height // 4, 24)
    assert expected.std() > 0.1
    torch.testing.assert_close(model.double()(x), expected, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(fuse(model)(x), expected, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(model.heatmaps(x), expected.float())


@torch.no_grad()
def test_trained_norms_and_frozen_ones_agree():
    state = published_state(8)
    trained = Hrnet(SMALL, train_norms=True)
    trained.load_state_dict(state)
    frozen = Hrnet(SMALL)
    frozen.load_state_dict({k: v for k, v in state.items() if "num_batches" not in k})
    x = torch.randn(1, 3, 64, 64).double()
    torch.testing.assert_close(trained.eval().double()(x), frozen.double()(x))


def test_names_of_data_parallel_load_and_import(tmp_path):
    state = published_state(8)
    path = tmp_path / "final.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    model = weights.load_pose(str(path))
    torch.testing.assert_close(
        model.state_dict()["final_layer.weight"], state["final_layer.weight"]
    )
    info = weights.import_checkpoint(path, tmp_path / "mine.safetensors")
    assert (info.architecture, info.metadata) == ("hrnet-w8", {"imported_from": "final.pth"})


@pytest.mark.parametrize("fault", ["absent", "shape", "unexpected"])
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, fault):
    state = {k: v for k, v in published_state(8).items() if "num_batches" not in k}
    key = "stage3.2.fuse_layers.2.0.1.0.weight"
    if fault == "absent":
        del state[key]
    elif fault == "shape":
        state[key] = torch.zeros(32, 8, 1, 1)
    else:
        state[key := "stage4.2.fuse_layers.1.0.0.0.weight"] = torch.zeros(16, 8, 3, 3)
    path = tmp_path / "odd.pth"
    torch.save(state, path)
    with pytest.raises(WeightsError, match=rf"does not fit hrnet-w8: {re.escape(key)} is"):
        weights.load_pose(str(path))


def test_networks_of_other_kinds_are_refused():
    with pytest.raises(WeightsError, match=r"which detects people; expected a pose network"):
        weights.load_pose("person-lite")


@torch.no_grad()
def test_the_light_network_starts_from_the_trunk_alone():
    """Its coarse branches carry the trunk's signed maps on, so that its stages see the same."""
    model = Hrnet(ARCHITECTURES["pose-lite"], train_norms=True).eval()
    x = model.normalise(
        np.random.default_rng(0).integers(256, size=(1, 192, 128, 3), dtype=np.uint8)
    )
    assert model(x).shape == (1, 17, 48, 32)
    for name, value in model.named_parameters():
        if name.startswith("stage") and value.dim() == 4:
            value.zero_()
    trunk = model.trunk
    assert trunk is not None
    seen = []
    trunk.blocks[-1].register_forward_hook(lambda _, __, y: seen.append(y))
    model(x)
    y = model.stem(x)
    for block in trunk.blocks[3:]:
        y = block(y)
    torch.testing.assert_close(seen[0], y)


@torch.no_grad()
def test_heatmaps_of_the_light_network_are_a_density_with_peaks_of_at_most_one():
    architecture = ARCHITECTURES["pose-lite"]
    model = Hrnet(architecture).eval()
    heatmaps = model.heatmaps(torch.randn(2, 3, 192, 128))
    volume = 2 * np.pi * architecture.sigma**2
    torch.testing.assert_close(heatmaps.sum((2, 3)), torch.full((2, 17), volume))


def test_a_saved_light_network_loads(tmp_path):
    torch.manual_seed(0)
    model = Hrnet(ARCHITECTURES["pose-lite"]).eval()
    path = tmp_path / "mine.safetensors"
    weights.save(model, path, {"steps": "3"})
    assert weights.load_pose(str(path)).architecture == model.architecture
    assert weights.verify(str(path)).metadata == {"steps": "3"}


def test_a_file_of_impossible_architecture_is_refused(tmp_path):
    about = msgspec.json.encode(msgspec.structs.replace(SMALL, size=(250, 192))).decode()
    path = tmp_path / "odd.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"architecture": about})
    with pytest.raises(WeightsError, match="is not one: Expected `int` that's a multiple of 32"):
        weights.load_pose(str(path))


def test_the_shipped_pose_network_is_the_one_of_the_table_and_has_a_card():
    assert weights.verify("pose-lite").architecture == "pose-lite"
    model = weights.load_pose("pose-lite")
    assert model.architecture == ARCHITECTURES["pose-lite"]
    card = weights.shipped()["pose-lite"].with_suffix(".md").read_text(encoding="utf-8")
    assert "## Scores" in card
    assert "Not for" in card
