"""Files that fit are loaded, under any of their names; all others get one clear line."""

import json
import math
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from streamvis.errors import DeviceError, UsageError, WeightsError
from streamvis.models import weights
from streamvis.models.checkpoint_io import read
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn


@pytest.fixture(scope="module")
def lite() -> MaskRcnn:
    torch.manual_seed(1)
    return MaskRcnn(ARCHITECTURES["person-lite"]).eval()


@pytest.fixture
def saved(lite, tmp_path):
    path = tmp_path / "net.safetensors"
    weights.save(lite, path, {"short_side": "256", "note": "a test"})
    return path


def old_names(state):
    renamed = {}
    for key, value in state.items():
        key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        if "_blocks." in key and key.startswith("backbone.fpn"):
            key = key.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        if key.startswith("roi_heads.mask_head."):
            number, _, kind = key.removeprefix("roi_heads.mask_head.").split(".")
            key = f"roi_heads.mask_head.mask_fcn{int(number) + 1}.{kind}"
        renamed[key] = value
    return renamed


def test_a_saved_net_comes_back_to_half_precision(lite, saved):
    loaded = weights.load_detector(str(saved))
    assert loaded.short_side == 256
    for (name, a), b in zip(lite.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6), name


def test_describe_says_what_the_file_is(lite, saved):
    info = weights.describe(str(saved))
    assert info.architecture == "person-lite"
    assert info.metadata["note"] == "a test"
    assert info.parameters == sum(p.numel() for p in lite.parameters()) + sum(
        b.numel() for n, b in lite.named_buffers() if n.endswith((".weight", ".bias"))
    )


@pytest.fixture(scope="module")
def published() -> MaskRcnn:
    torch.manual_seed(2)
    return MaskRcnn(ARCHITECTURES["maskrcnn_resnet50_fpn"])


@pytest.mark.parametrize("renamed", [False, True], ids=["new names", "old names"])
def test_torchvision_checkpoints_load_under_both_names(published, renamed, tmp_path):
    state = old_names(published.state_dict()) if renamed else published.state_dict()
    assert ("rpn.head.conv.weight" in state) == renamed
    torch.save(
        {**state, "backbone.body.bn1.num_batches_tracked": torch.tensor(3)}, tmp_path / "a.pth"
    )
    loaded = weights.load_detector(str(tmp_path / "a.pth"))
    assert loaded.backbone.body.bn1.eps == 0  # with which the COCO file was made
    for name, value in published.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_the_second_torchvision_checkpoint_is_known_by_its_norms(tmp_path):
    with torch.device("meta"):
        plan = MaskRcnn(ARCHITECTURES["maskrcnn_resnet50_fpn_v2"]).state_dict()
    state = {name: torch.rand(value.shape, dtype=torch.float16) for name, value in plan.items()}
    counters = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(3)
        for name in state
        if name.endswith("running_var")
    }
    assert len(state) + len(counters) == 432
    torch.save({**state, **counters}, tmp_path / "v2.pth")
    loaded = weights.load_detector(str(tmp_path / "v2.pth"))
    assert loaded.architecture == ARCHITECTURES["maskrcnn_resnet50_fpn_v2"]
    assert loaded.roi_heads.mask_head[3][1].eps == loaded.backbone.body.bn1.eps == 1e-5
    for name, value in state.items():
        assert torch.equal(value.float(), loaded.state_dict()[name]), name


def test_import_writes_verified_safetensors(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "coco.pth")
    info = weights.import_checkpoint(tmp_path / "coco.pth", tmp_path / "coco.safetensors")
    assert info.architecture == "maskrcnn_resnet50_fpn"
    assert info.metadata["imported_from"] == "coco.pth"


def test_a_wrong_shape_is_told_with_both_shapes(lite, tmp_path):
    state = lite.state_dict()
    state["backbone.body.stem.weight"] = torch.zeros(32, 3, 5, 5)
    other = MaskRcnn(ARCHITECTURES["person-lite"])
    other.backbone.body.stem = torch.nn.Conv2d(3, 32, 5, bias=False)
    weights.save(other, tmp_path / "a.safetensors", {})
    with pytest.raises(
        WeightsError, match=r"stem.weight is \(32, 3, 5, 5\) in the file, \(32, 3, 3, 3\)"
    ):
        weights.load_detector(str(tmp_path / "a.safetensors"))


def test_not_a_number_is_refused(lite, tmp_path):
    broken = MaskRcnn(ARCHITECTURES["person-lite"])
    with torch.no_grad():
        broken.rpn.head.cls_logits.bias[0] = float("nan")
    weights.save(broken, tmp_path / "a.safetensors", {})
    with pytest.raises(WeightsError, match=r"cls_logits\.bias holds NaN"):
        weights.load_detector(str(tmp_path / "a.safetensors"))


def test_a_truncated_file_is_told(saved):
    saved.write_bytes(saved.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"net.safetensors"):
        weights.load_detector(str(saved))


def test_a_fault_ends_with_how_to_list_the_others(lite, tmp_path):
    path = tmp_path / "a.safetensors"
    state = lite.state_dict()
    del state["rpn.head.cls_logits.bias"]
    about = {"architecture": msgspec.json.encode(lite.architecture).decode()}
    save_file(state, path, about)
    with pytest.raises(WeightsError, match=r"with: streamvis weights diff .*a\.safetensors$"):
        weights.load_detector(str(path))


def changed(saved, **fields: object) -> None:
    """Give a file metadata that says something else of its architecture."""
    known = msgspec.json.encode(ARCHITECTURES["person-lite"])
    about = {"architecture": json.dumps({**json.loads(known), **fields})}
    save_file(load_file(saved), saved, about)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"channels": 10**9}, r"Expected `int` <= 1024 - at `\$.channels`"),
        ({"classes": 10**12}, r"\$.classes"),
        ({"mask_convolutions": 10**9}, r"\$.mask_convolutions"),
        ({"short_side": 10**9}, r"\$.short_side"),
        ({"proposals": [10**6, 10**6]}, r"\$.proposals"),
        ({"anchor_sizes": [[32]] * 10**4}, r"\$.anchor_sizes"),
        ({"anchor_sizes": [[32], [32, 64]]}, "as many on every level"),
        ({"anchor_ratios": [-1]}, r"\$.anchor_ratios"),
        ({"body": "resnet\n50"}, r"\$.body"),
        ({"evil\n": 1}, "unknown field"),
        ({"channels": 1024, "box_width": 8192}, r"does not fit person-lite"),
        ({"name": "a\nb", "classes": 3}, r"does not fit 'a\\nb'"),
    ],
    ids=str,
)
def test_an_architecture_is_held_to_bounds_before_it_is_built(fields, words, saved):
    changed(saved, **fields)
    with pytest.raises(WeightsError, match=words) as caught:
        weights.load_detector(str(saved))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("side", ["1000000000", "-5", "many", "0", "٣٢٠", ""])
def test_a_side_is_a_number_of_pixels(lite, side, tmp_path):
    weights.save(lite, tmp_path / "a.safetensors", {"short_side": side})
    with pytest.raises(WeightsError, match="`short_side`"):
        weights.load_detector(str(tmp_path / "a.safetensors"))


def test_kernels_too_large_for_half_precision_are_kept_whole(tmp_path):
    model = MaskRcnn(ARCHITECTURES["person-lite"])
    with torch.no_grad():
        model.rpn.head.cls_logits.weight[0] = 1e6
    weights.save(model, tmp_path / "a.safetensors", {})
    loaded = weights.load_detector(str(tmp_path / "a.safetensors"))
    assert torch.equal(loaded.rpn.head.cls_logits.weight, model.rpn.head.cls_logits.weight)


def test_import_writes_another_safetensors_file_or_says_why_not(saved, tmp_path):
    for out in (saved, tmp_path / "out.pth"):
        with pytest.raises(UsageError, match=out.name):
            weights.import_checkpoint(saved, out)
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written"):
        weights.import_checkpoint(saved, tmp_path / "file" / "out.safetensors")


def test_difference_from_the_architecture_lists_every_fault(saved):
    assert weights.difference(str(saved)) == weights.Difference(
        str(saved), "person-lite", missing=[], unexpected=[], shapes={}, numbers={}
    )
    state = load_file(saved)
    state["more"] = state.pop("rpn.head.cls_logits.bias")
    state["rpn.head.bbox_pred.bias"] = torch.zeros(5)
    save_file(state, saved)
    changed(saved)
    found = weights.difference(str(saved))
    assert (found.missing, found.unexpected) == (["rpn.head.cls_logits.bias"], ["more"])
    assert found.shapes == {
        "rpn.head.bbox_pred.bias": ((5,), tuple(state["rpn.head.bbox_pred.weight"].shape[:1]))
    }


def test_difference_of_two_files_tells_how_far_their_numbers_are_apart(lite, saved, tmp_path):
    state = lite.state_dict()
    torch.save(
        {**state, "rpn.head.cls_logits.bias": state["rpn.head.cls_logits.bias"] - 0.25},
        tmp_path / "b.pth",
    )
    numbers = weights.difference(str(saved), str(tmp_path / "b.pth")).numbers
    assert numbers.pop("rpn.head.cls_logits.bias") == 0.25
    kernels = {name for name, value in state.items() if value.dim() > 1}
    assert numbers.keys() <= kernels  # kernels are rounded to half precision, all else is exact
    assert all(value <= 2**-11 * state[name].abs().max() for name, value in numbers.items())
    assert weights.difference(str(saved), str(saved)).numbers == {}


def test_loading_draws_no_random_numbers():
    before = torch.get_rng_state()
    weights.load_detector("person-lite")
    weights.load_embedder("person-r18")
    assert torch.equal(torch.get_rng_state(), before)


def test_shapes_of_a_network_are_known_without_the_compiler_of_torch():
    """Its import takes a second, which each process of a network would wait for."""
    code = (
        "import sys; from streamvis.models import weights\n"
        "for path in weights.shipped().values():\n"
        "    assert weights.shapes_of(weights.architecture_of(path, *weights.read(path)))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "False\n"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(WeightsError, match="person-lite"):
        weights.find("person-heavy")


def test_an_absent_device_names_those_there_are():
    with pytest.raises(DeviceError, match=r"cuda:77.*this machine has cpu"):
        weights.check_device("cuda:77")


@pytest.mark.parametrize("name", weights.shipped())
def test_a_file_of_every_kind_that_holds_nan_is_not_verified(name, tmp_path):
    state, metadata = read(weights.shipped()[name])
    next(iter(state.values())).flatten()[0] = math.nan
    path = tmp_path / f"{name}.safetensors"
    save_file(state, path, metadata)
    with pytest.raises(WeightsError, match=r"is damaged: .* holds NaN"):
        weights.verify(str(path))


def test_what_has_no_name_is_not_imported(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"no weights '\.'"):
        weights.import_checkpoint(Path())
