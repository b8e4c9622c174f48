"""The detector of fixed shapes against the one whose shapes depend on what it finds."""

import msgspec
import pytest
import torch
from operators import check_stays_on_device
from torch import Tensor

from streamvis.models import fixed_shapes
from streamvis.models.fixed_shapes import FixedShapes
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn
from streamvis.models.weights import load_detector
from streamvis.synthetic.render import SyntheticScene

SMALL = {"short_side": 96, "long_side": 160, "box_width": 32}


def scene(size: tuple[int, int], people: int, frames: tuple[int, ...] = (5, 12, 15)) -> Tensor:
    shown = SyntheticScene(seed=5, people=people, size=size, fps=5, seconds=4)
    return torch.stack([torch.from_numpy(shown.picture(n).copy()) for n in frames])


def random_model(name: str, classes: int, **changes: object) -> MaskRcnn:
    torch.manual_seed(0)
    about = msgspec.structs.replace(ARCHITECTURES[name], classes=classes, **{**SMALL, **changes})
    return MaskRcnn(about).eval()


@torch.inference_mode()
def compared(model: MaskRcnn, pictures: Tensor, masks: bool = True) -> tuple[list[int], list[bool]]:
    """Compare, and return how many were found in each picture, and which are exact: they agree."""
    plain = model([picture.permute(2, 0, 1) for picture in pictures], masks)
    find = FixedShapes(model, (pictures.shape[1], pictures.shape[2]), masks)
    rows, drawn, exact = find(pictures)
    counts = [len(found.boxes) for found in plain]
    for i in exact.nonzero()[:, 0].tolist():
        found, row, mask, n = plain[i], rows[i], drawn[i], counts[i]
        assert (row[n:] == 0).all()
        torch.testing.assert_close(row[:n, :4], found.boxes, atol=2e-3, rtol=1e-4)
        torch.testing.assert_close(row[:n, 4], found.scores)
        assert torch.equal(row[:n, 5].long(), found.labels)
        if masks:
            torch.testing.assert_close(mask[:n] / 255, found.masks, atol=1 / 255, rtol=0)
    return counts, exact.tolist()


def test_people_are_found_as_by_the_model():
    model = load_detector("person-lite")
    model.roi_heads.min_score = 0.1
    model.short_side, model.long_side = 240, 400
    counts, exact = compared(model, scene((320, 240), people=6, frames=(5, 12)))
    assert min(counts) > 3
    assert all(exact)
    assert compared(model, scene((200, 90), people=2, frames=(9,)), masks=False)[1] == [True]


@pytest.mark.parametrize("name", ["person-lite", "maskrcnn_resnet50_fpn"])
def test_several_classes_are_found_as_by_the_model(name):
    # a random network has many detections of all classes, which NMS, vote and soften all change;
    # its coarsest maps have fewer anchors than proposals are kept of a level
    model = random_model(name, classes=4, proposals=(200, 100))
    model.roi_heads.min_score = 0.2
    counts, exact = compared(model, scene((160, 96), people=3, frames=(5, 12)))
    assert min(counts) > 10
    assert all(exact)


def test_nothing_is_found_in_nothing():
    model = random_model("person-lite", classes=2)
    model.roi_heads.min_score = 0.999
    assert compared(model, torch.zeros(1, 96, 96, 3, dtype=torch.uint8)) == ([0], [True])


def test_what_is_cut_short_is_not_exact(monkeypatch):
    model = random_model("person-lite", classes=4, proposals=(200, 100))
    model.roi_heads.min_score = 0.2
    pictures = scene((160, 96), people=3, frames=(5,))
    monkeypatch.setattr(fixed_shapes, "CANDIDATES", 20)
    assert compared(model, pictures)[1] == [False]
    monkeypatch.undo()
    monkeypatch.setattr(fixed_shapes, "ROUNDS", 1)
    assert compared(model, pictures)[1] == [False]


@pytest.mark.parametrize("masks", [True, False])
def test_nothing_depends_on_values_and_nothing_is_copied_from_the_host(masks):
    model = random_model("person-lite", classes=3)
    find = FixedShapes(model, (96, 160), masks)
    check_stays_on_device(find, scene((160, 96), people=3, frames=(5, 12)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and a torch with CUDA")
def test_a_gpu_is_not_waited_for():
    model = load_detector("person-lite", "cuda:0")
    pictures = scene((320, 240), people=6).to("cuda:0")
    find = FixedShapes(model, (240, 320), True)
    with torch.inference_mode():
        find(pictures)
        torch.cuda.set_sync_debug_mode("error")
        try:
            find(pictures)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    counts, exact = compared(model, pictures)
    assert min(counts) > 3
    assert all(exact)
