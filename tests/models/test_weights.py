"""Files that fit are loaded, under any of their names; all others get one clear line."""

import pytest
import torch

from streamvis.errors import DeviceError, WeightsError
from streamvis.models import weights
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


@pytest.mark.parametrize("renamed", [False, True], ids=["new names", "old names"])
def test_torchvision_checkpoints_load_under_both_names(renamed, tmp_path):
    torch.manual_seed(2)
    model = MaskRcnn(ARCHITECTURES["maskrcnn_resnet50_fpn"])
    state = old_names(model.state_dict()) if renamed else model.state_dict()
    assert ("rpn.head.conv.weight" in state) == renamed
    torch.save(
        {**state, "backbone.body.bn1.num_batches_tracked": torch.tensor(3)}, tmp_path / "a.pth"
    )
    loaded = weights.load_detector(str(tmp_path / "a.pth"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_import_writes_verified_safetensors(tmp_path):
    model = MaskRcnn(ARCHITECTURES["maskrcnn_resnet50_fpn"])
    torch.save(model.state_dict(), tmp_path / "coco.pth")
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


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02cos\nsystem\n."])
def test_hostile_files_get_one_line(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        weights.load_detector(str(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_told(saved):
    saved.write_bytes(saved.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"net.safetensors"):
        weights.load_detector(str(saved))


def test_pickled_code_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"x": Evil()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError):
        weights.read(tmp_path / "a.pth")
    assert not (tmp_path / "owned").exists()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(WeightsError, match="person-lite"):
        weights.find("person-heavy")


def test_an_absent_device_names_those_there_are():
    with pytest.raises(DeviceError, match=r"cuda:77.*this machine has cpu"):
        weights.check_device("cuda:77")
