"""Quick paths find what the plain one finds."""

import sys

import numpy as np
import pytest
import torch

from streamvis.errors import ModelError
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.inference import select as module
from streamvis.models.inference.select import accelerate_detector, accelerate_embedder, cpu_has_bf16
from streamvis.models.mask_rcnn import MaskRcnn
from streamvis.models.weights import load_detector
from streamvis.synthetic.render import SyntheticScene

QUICK: list[tuple[module.Precision, module.Engine]] = [
    ("fp32", "openvino"),
    ("bf16", "openvino"),
    ("bf16", "torch"),
]


@torch.inference_mode()
def found(precision: module.Precision, engine: module.Engine, masks: bool = True):
    model = load_detector("person-lite")
    model.roi_heads.min_score = 0.5
    scene = SyntheticScene(seed=5, people=4, size=(320, 240), fps=5, seconds=4)
    images = [torch.from_numpy(scene.picture(n).copy()).permute(2, 0, 1) for n in (5, 12)]
    model.short_side = 240  # the first is not scaled
    images[1] = images[1][:, 10:, :290]  # another size
    detector = accelerate_detector(model, "cpu", precision, engine)
    return [one for image in images for one in detector([image], masks)]


@pytest.mark.parametrize(("precision", "engine"), QUICK)
def test_the_same_people_are_found(precision, engine):
    if precision == "bf16" and not cpu_has_bf16():
        pytest.skip("this CPU has no bf16 arithmetic")
    pairs = zip(found("fp32", "torch"), found(precision, engine), strict=True)
    for scaled, (plain, quick) in enumerate(pairs):
        exact = (5e-3, 0.02) if scaled else (1e-4, 1e-4)  # OpenVINO is given scaled bytes
        share, most = (0.06, 0.1) if precision == "bf16" else exact
        sure = plain.scores > 0.7
        assert sure.any()
        for box, score, mask in zip(
            plain.boxes[sure], plain.scores[sure], plain.masks[sure], strict=True
        ):
            near = (quick.boxes - box).abs().amax(1) < share * float((box[2:] - box[:2]).max())
            assert near.any()
            assert (quick.scores[near] - score).abs().min() < most
            assert (quick.masks[near] - mask).abs().mean((1, 2)).min() < most


def test_openvino_gives_boxes_alone_and_nothing_for_an_empty_picture():
    boxes, whole = found("fp32", "openvino", masks=False), found("fp32", "openvino")
    assert torch.allclose(boxes[0].boxes, whole[0].boxes)
    assert boxes[0].masks.shape[1:] == (0, 0)
    model = load_detector("person-lite")
    model.roi_heads.min_score = 0.99999
    (nothing,) = accelerate_detector(model, "cpu", engine="openvino")(
        [torch.zeros(3, 96, 96).byte()], True
    )
    assert nothing.boxes.shape == (0, 4)
    assert nothing.masks.shape == (0, 28, 28)


def test_openvino_leaves_torch_its_threads():
    before = torch.get_num_threads()
    found("fp32", "openvino")
    assert torch.get_num_threads() == before


def test_auto_is_fp32_where_bf16_would_be_emulated(monkeypatch):
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: False)
    model = accelerate_detector(load_detector("person-lite"), "cpu", "auto", "torch")
    assert isinstance(model, MaskRcnn)
    assert model.backbone.dtype == torch.float32
    with pytest.raises(ModelError, match="'cpu' has no bf16"):
        accelerate_detector(load_detector("person-lite"), "cpu", "bf16")


def test_auto_is_torch_without_openvino(monkeypatch):
    monkeypatch.setattr(module, "openvino_version", lambda: None)
    assert isinstance(accelerate_detector(load_detector("person-lite"), "cpu"), MaskRcnn)
    with pytest.raises(ModelError, match="pip install openvino"):
        accelerate_detector(load_detector("person-lite"), "cpu", engine="openvino")


def test_openvino_is_for_the_cpu(monkeypatch):
    monkeypatch.setattr(module, "gpu_has_bf16", lambda device: device == "cuda:0")
    with pytest.raises(ModelError, match="not on 'cuda:0'"):
        module.choose("cuda:0", "auto", "openvino")
    assert module.choose("cuda:0", "auto", "auto") == ("torch", torch.bfloat16)


def test_openvino_cannot_report_its_use():
    found("fp32", "openvino", masks=False)
    assert sys.modules["openvino_telemetry"] is None
    assert not any(name.startswith("openvino_telemetry.") for name in sys.modules)


def embedder() -> Embedder:
    torch.manual_seed(0)
    return Embedder(ARCHITECTURES["person-r18"]).eval()


@pytest.mark.parametrize(("precision", "engine"), [("fp32", "torch"), *QUICK])
def test_people_look_the_same(precision, engine):
    if precision == "bf16" and not cpu_has_bf16():
        pytest.skip("this CPU has no bf16 arithmetic")
    colours = np.random.default_rng(0).integers(0, 256, (70, 4, 2, 3), dtype=np.uint8)
    crops = np.repeat(np.repeat(colours, 32, 1), 24, 2)  # (70, 128, 48, 3)
    plain = embedder()
    with torch.inference_mode():
        expected = plain(plain.normalise(crops)).numpy()
    embed = accelerate_embedder(embedder(), "cpu", precision, engine)
    for count in (1, 3, 70, 2):  # any number, more than one batch, fewer again
        vectors = embed(crops[:count])
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        apart = 1 - (vectors * expected[:count]).sum(1)
        assert apart.max() < (2e-3 if precision == "bf16" else 1e-5)
    assert embed(crops[:0]).shape == (0, plain.outputs)
    different = expected @ expected.T
    assert different[~np.eye(70, dtype=bool)].max() < 1 - 2e-3  # which is not how alike all are
