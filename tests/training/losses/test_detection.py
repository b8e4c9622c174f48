"""Who learns from what."""

import pytest
import torch
from torch import Tensor

from streamvis.models import ops, roi_heads
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn
from streamvis.training.detector.crowd_dataset import GRID
from streamvis.training.losses.detection import (
    FAIR,
    IGNORED,
    NEGATIVE,
    POOR,
    SampleCounts,
    Targets,
    detector_losses,
    mask_target,
    match,
    sample,
    target_score,
)


def targets(boxes: list[list[float]], ignored: list[list[float]] | None = None) -> Targets:
    rows = torch.tensor(boxes).reshape(-1, 4)
    masks = torch.zeros(len(rows), GRID, GRID)
    masks[:, : GRID // 2] = 1  # the upper half
    has_mask = torch.ones(len(rows), dtype=torch.bool)
    return Targets(rows, rows, masks, has_mask, torch.tensor(ignored or []).reshape(-1, 4))


def test_matching_has_three_outcomes():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 18], [50, 50, 60, 60], [80, 80, 90, 90]])
    person = targets([[0, 0, 10, 10]], ignored=[[78, 78, 95, 95]])
    assert match(boxes.float(), person, low=0.3, high=0.7).tolist() == [
        0,
        IGNORED,
        NEGATIVE,
        IGNORED,
    ]


def test_the_best_anchor_of_a_person_is_rescued_and_ties_are_kept():
    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 5, 10, 10], [40, 40, 50, 50]])
    person = targets([[0, 0, 10, 10]])
    assert match(boxes, person, low=0.6, high=0.7, rescue=True).tolist() == [0, 0, NEGATIVE]


def test_without_people_everything_is_background():
    boxes = torch.tensor([[0.0, 0, 10, 5]])
    assert match(boxes, targets([]), low=0.3, high=0.7, rescue=True).tolist() == [NEGATIVE]


def test_sampling_holds_its_shares():
    matched = torch.tensor([0] * 50 + [NEGATIVE] * 300 + [IGNORED] * 100)
    index = sample(matched, 100, 0.25)
    assert (matched[index] >= 0).sum() == 25
    assert (matched[index] == NEGATIVE).sum() == 75
    assert len(index.unique()) == 100


def test_a_mask_target_is_the_person_seen_through_the_region():
    person = targets([[0, 0, 40, 80]])
    same, lower, wide = (
        mask_target(torch.tensor([roi]), torch.tensor([0]), person)[0]
        for roi in ([0.0, 0, 40, 80], [0.0, 40, 40, 80], [-40.0, 0, 80, 40])
    )
    assert same[:13].min() == 1
    assert same[15:].max() == 0
    assert lower[1:].max() == 0  # the lower half holds nothing of the upper
    assert wide[1:-1, 11:17].min() == 1
    assert wide[:, :8].max() == 0


def test_a_detector_learns_one_picture_by_heart():
    torch.manual_seed(0)
    model = MaskRcnn(ARCHITECTURES["person-lite"]).train()
    image = torch.zeros(1, 3, 128, 128)
    image[:, 0, 30:110, 40:80] = 2.0
    image[:, 1, 30:110, 40:80] = -2.0
    person = [targets([[40.0, 30, 80, 110]])]
    for module in model.backbone.body.modules():
        if isinstance(module, torch.nn.Conv2d):  # so that the untrained trunk passes light on
            torch.nn.init.kaiming_normal_(module.weight)
    heads = [p for n, p in model.named_parameters() if "body" not in n]
    optimizer = torch.optim.AdamW(heads, 3e-3)
    totals: list[float] = []
    for step in range(40):
        torch.manual_seed(step)
        terms = detector_losses(model, image, person, SampleCounts(64, 32, 4))
        loss: Tensor = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert sum(totals[-3:]) < 0.5 * sum(totals[:3])


def test_a_picture_without_people_gives_finite_losses():
    torch.manual_seed(0)
    model = MaskRcnn(ARCHITECTURES["person-lite"]).train()
    terms = detector_losses(
        model, torch.zeros(1, 3, 128, 128), [targets([])], SampleCounts(64, 32, 4)
    )
    assert set(terms) == {"objectness", "rpn_box", "classes", "box", "mask"}
    assert all(torch.isfinite(term) for term in terms.values())
    assert terms["mask"] == terms["box"] == terms["rpn_box"] == 0


def test_a_box_around_two_people_is_worth_less_than_one_around_each():
    person = torch.tensor([[10.0, 10.0, 30.0, 60.0]])
    pair = torch.tensor([[10.0, 10.0, 50.0, 60.0]])  # overlaps each of two by a half
    goal = ops.encode(person, pair, roi_heads.BOX_WEIGHTS)
    found = torch.tensor([[0.5], [1.0], [0.0]])  # half of the way, all of it, none
    worths = [target_score(share * goal, goal, pair).item() for share in found]
    assert worths[1] == 1
    assert worths[2] == pytest.approx((0.5 - POOR) / (FAIR - POOR), abs=1e-5)
    assert worths[2] < worths[0] < 1
    away = torch.full((1, 4), 20.0)
    assert target_score(away, goal, pair).item() == 0
