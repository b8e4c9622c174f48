"""The published numbers of Mask R-CNN R50-FPN, and the behaviour both members share."""

import pytest
import torch

from streamvis.models.layers import FrozenBatchNorm2d, fuse
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn


def seeded(name: str) -> MaskRcnn:
    torch.manual_seed(0)
    return MaskRcnn(ARCHITECTURES[name]).eval()


@pytest.fixture(scope="module")
def lite() -> MaskRcnn:
    return seeded("person-lite")


def test_resnet50_has_the_published_sizes():
    with torch.device("meta"):
        model = MaskRcnn(ARCHITECTURES["maskrcnn_resnet50_fpn"])
    state = model.state_dict()
    assert len(state) == 307
    assert sum(p.numel() for p in model.parameters()) == 44_401_393
    assert tuple(state["roi_heads.mask_predictor.conv5_mask.weight"].shape) == (256, 256, 2, 2)
    assert tuple(state["roi_heads.box_predictor.bbox_pred.weight"].shape) == (364, 1024)
    assert tuple(state["backbone.body.layer3.0.downsample.0.weight"].shape) == (1024, 512, 1, 1)


def test_the_second_resnet50_has_the_published_sizes():
    with torch.device("meta"):
        state = MaskRcnn(ARCHITECTURES["maskrcnn_resnet50_fpn_v2"]).state_dict()
    norms = [name for name in state if name.endswith("running_var")]  # each counts batches too
    assert len(state) + len(norms) == 432
    learnt = [v for name, v in state.items() if "running_" not in name]
    assert sum(v.numel() for v in learnt) == 46_359_409
    assert tuple(state["roi_heads.box_head.5.weight"].shape) == (1024, 12544)
    assert tuple(state["rpn.head.conv.1.0.weight"].shape) == (256, 256, 3, 3)


def test_a_vga_image_has_217413_anchors():
    model = MaskRcnn(ARCHITECTURES["maskrcnn_resnet50_fpn"])
    batch, sizes = model.prepare([torch.zeros(3, 480, 640)])
    assert sizes == [(800, 1066)]
    assert tuple(batch.shape[2:]) == (800, 1088)
    maps = [torch.zeros(1, 1, *s) for s in ((200, 272), (100, 136), (50, 68), (25, 34), (13, 17))]
    assert sum(len(a) for a in model.rpn.anchors(maps, (800, 1088))) == 217_413


def test_padding_is_normalised_black_after_resizing(lite):
    batch, sizes = lite.prepare([torch.full((3, 64, 100), 255, dtype=torch.uint8)])
    height, width = sizes[0]
    assert batch[0, :, : height - 1, : width - 1].min() > 0.9
    assert not batch[0, :, :, width:].any()


@torch.inference_mode()
def test_boxes_lie_inside_their_own_image_and_are_sorted(lite):
    images = [
        torch.randint(0, 255, (3, h, w), dtype=torch.uint8) for h, w in ((90, 160), (200, 97))
    ]
    lite.roi_heads.min_score = 0.0
    for found, image in zip(lite(images), images, strict=True):
        limit = torch.tensor([image.shape[2], image.shape[1]] * 2)
        assert len(found.boxes) > 0
        assert (found.boxes >= 0).all()
        assert (found.boxes <= limit + 1e-3).all()
        assert (found.scores.diff() <= 0).all()
        assert found.masks.shape == (len(found.boxes), 28, 28)
        assert ((found.masks >= 0) & (found.masks <= 1)).all()


@torch.inference_mode()
def test_an_image_is_found_the_same_alone_and_in_a_batch(lite):
    lite.roi_heads.min_score = 0.0
    image = torch.randint(0, 255, (3, 128, 160), dtype=torch.uint8)
    other = torch.randint(0, 255, (3, 128, 160), dtype=torch.uint8)
    alone, together = lite([image])[0], lite([image, other])[0]
    assert torch.allclose(alone.scores, together.scores, atol=1e-5)
    assert torch.allclose(alone.boxes, together.boxes, atol=1e-2)


@torch.inference_mode()
def test_nothing_found_has_well_formed_empty_arrays(lite):
    lite.roi_heads.min_score = 1.0
    found = lite([torch.zeros(3, 64, 64)])[0]
    assert found.boxes.shape == (0, 4)
    assert found.masks.shape == (0, 28, 28)


@pytest.mark.parametrize("name", ["person-lite", "maskrcnn_resnet50_fpn"])
@torch.inference_mode()
def test_fusing_norms_changes_nothing(name):
    model = seeded(name)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
    x = torch.rand(1, 3, 64, 96)
    before = model.backbone(x)
    after = fuse(model).backbone(x)
    assert not any(isinstance(m, FrozenBatchNorm2d) for m in model.modules())
    for a, b in zip(before, after, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max()))
