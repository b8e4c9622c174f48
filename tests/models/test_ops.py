"""Box arithmetic against loops that a child could check."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamvis.models import ops

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count: int, seed: int, size: float = 100.0) -> Tensor:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, size, (count, 2))
    return torch.tensor(np.hstack([corner, corner + rng.uniform(1, size / 2, (count, 2))])).float()


def greedy_nms(boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -float(scores[i])):
        if all(
            groups[i] != groups[j] or ops.iou(boxes[i : i + 1], boxes[j : j + 1]) <= threshold
            for j in kept
        ):
            kept.append(i)
    return kept


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(0, 10_000), st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_nms_is_greedy_nms(count, seed, threshold):
    boxes = random_boxes(count, seed)
    scores = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    groups = torch.arange(count) % 2
    assert ops.nms(boxes, scores, threshold, groups).tolist() == greedy_nms(
        boxes, scores, threshold, groups
    )


def test_nms_of_a_chain_keeps_every_other_box():
    # each box overlaps its neighbours only, so the answer depends on the whole chain
    start = torch.arange(60.0) * 4
    boxes = torch.stack([start, torch.zeros(60), start + 10, torch.full((60,), 10.0)], 1)
    kept = ops.nms(boxes, torch.linspace(1, 0.1, 60), 0.4)
    assert kept.tolist() == list(range(0, 60, 2))


def test_rounds_of_several_sets_settle_as_each_alone():
    sets = torch.stack(
        [random_boxes(30, seed) for seed in range(4)]
    )  # in the order of their scores
    over = (ops.iou(sets, sets) > 0.3).float().triu(1)
    keep, settled = ops.settle(over, 30)
    assert settled.all()
    for boxes, kept in zip(sets, keep, strict=True):
        alone = ops.nms(boxes, torch.linspace(1, 0, 30), 0.3)
        assert kept.nonzero()[:, 0].tolist() == alone.tolist()


def test_a_chain_longer_than_the_rounds_is_not_settled():
    over = torch.eye(20).roll(1, 1).triu(1)  # each row overlaps the next one only
    assert not ops.settle(over, 19)[1]
    keep, settled = ops.settle(over, 21)
    assert settled
    assert keep.tolist() == [True, False] * 10


@given(st.integers(1, 20), st.integers(0, 10_000))
def test_decode_undoes_encode(count, seed):
    boxes, anchors = random_boxes(count, seed), random_boxes(count, seed + 1)
    decoded = ops.decode(ops.encode(boxes, anchors, WEIGHTS), anchors, WEIGHTS)
    assert torch.allclose(decoded, boxes, atol=1e-3)


def test_decode_holds_growth_at_62_5_times():
    anchor = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    boxes = ops.decode(torch.tensor([[0.0, 0.0, 50.0, 50.0]]), anchor, (1, 1, 1, 1))
    assert boxes[0, 2] - boxes[0, 0] == pytest.approx(2 * 1000 / 16, rel=1e-6)


def test_voting_moves_a_box_to_the_mean_of_its_neighbours():
    boxes = torch.tensor([[0.0, 0, 10, 20], [1, 0, 11, 20], [60, 60, 70, 80]])
    scores = torch.tensor([0.9, 0.6, 0.8])
    kept = ops.nms(boxes, scores, 0.5)
    voted = ops.vote(boxes[kept], boxes, scores, 0.65)
    overlap = 9 / 11
    shift = 0.6 * overlap / (0.9 + 0.6 * overlap)
    assert torch.allclose(voted[0], boxes[0] + torch.tensor([shift, 0, shift, 0]), atol=1e-5)
    assert torch.allclose(voted[1], boxes[2])
    assert torch.allclose(ops.vote(boxes[kept], boxes, scores, 1.0), boxes[kept])


def test_softening_is_the_product_of_penalties_of_better_boxes():
    boxes = random_boxes(12, seed=4, size=30)
    scores = torch.linspace(0.95, 0.2, 12)
    softened = ops.soften(boxes, scores, sigma=0.8)
    for i in range(12):
        expected = float(scores[i])
        for j in range(i):
            expected *= math.exp(-(float(ops.iou(boxes[i : i + 1], boxes[j : j + 1])) ** 2) / 0.8)
        assert float(softened[i]) == pytest.approx(expected, rel=1e-5)
    assert softened[0] == scores[0]


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """One sample as torchvision's kernel takes it."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = (0.0 if y0 == y1 else y - y0), (0.0 if x0 == x1 else x - x0)
    top = plane[y0, x0] * (1 - dx) + plane[y0, x1] * dx
    bottom = plane[y1, x0] * (1 - dx) + plane[y1, x1] * dx
    return float(top * (1 - dy) + bottom * dy)


def naive_roi_align(plane: Tensor, roi: Tensor, scale: float, bins: int) -> Tensor:
    x1, y1, x2, y2 = (roi * scale).tolist()
    step_x, step_y = max(x2 - x1, 1.0) / bins, max(y2 - y1, 1.0) / bins
    out = torch.zeros(bins, bins)
    for i in range(bins):
        for j in range(bins):
            samples = [
                bilinear(
                    plane, y1 + (i + (a + 0.5) / 2) * step_y, x1 + (j + (b + 0.5) / 2) * step_x
                )
                for a in range(2)
                for b in range(2)
            ]
            out[i, j] = sum(samples) / 4
    return out


def test_roi_align_is_the_loop_inside_across_and_outside_the_map():
    maps = torch.randn(2, 3, 9, 13, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor(
        [
            [8.0, 8.0, 60.0, 50.0],
            [-30.0, -20.0, 40.0, 30.0],
            [80.0, 50.0, 140.0, 90.0],
            [20.0, 20.0, 20.5, 20.5],
            [200.0, 200.0, 260.0, 260.0],
        ]
    )
    image = torch.tensor([0, 1, 1, 0, 0])
    pooled = ops.roi_align([maps], [8], rois, image, 7)
    for r, (roi, i) in enumerate(zip(rois, image.tolist(), strict=True)):
        for c in range(3):
            expected = naive_roi_align(maps[i, c], roi, 1 / 8, 7)
            assert torch.allclose(pooled[r, c], expected, atol=1e-5)


def test_roi_align_of_a_linear_map_is_the_value_at_the_bin_centres():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    roi = torch.tensor([[4.0, 6.0, 32.0, 34.0]])
    pooled = ops.roi_align([(2 * x + 3 * y)[None, None]], [1], roi, torch.zeros(1).long(), 7)
    centre = torch.arange(7) * 4 + 2.0
    expected = 2 * (4 + centre)[None, :] + 3 * (6 + centre)[:, None]
    assert torch.allclose(pooled[0, 0], expected, atol=1e-3)


@pytest.mark.parametrize(("side", "level"), [(20, 0), (111, 0), (113, 1), (223, 1), (230, 2)])
def test_regions_pool_from_the_level_of_their_size(side, level):
    maps = [torch.full((1, 1, 64 >> i, 64 >> i), float(i)) for i in range(3)]
    rois = torch.tensor([[0.0, 0.0, side, side]])
    pooled = ops.roi_align(maps, (4, 8, 16), rois, torch.zeros(1).long(), 7, 112.0)
    assert pooled[0, 0, 2, 2] == level


def test_what_is_pooled_has_a_gradient_for_every_cell_it_read():
    plane = torch.randn(1, 1, 6, 7, dtype=torch.double, requires_grad=True)
    roi = torch.tensor([[1.0, 0.5, 5.0, 4.5]])
    ops.roi_align([plane], [1], roi, torch.zeros(1).long(), 2).sum().backward()
    weights = torch.zeros(6, 7)
    for y, x in np.ndindex(6, 7):
        one = torch.zeros(6, 7)
        one[y, x] = 1
        weights[y, x] = naive_roi_align(one, roi[0], 1.0, 2).sum()
    assert plane.grad is not None
    assert torch.allclose(plane.grad[0, 0].float(), weights, atol=1e-6)


def test_log_ratio_limit_is_the_published_one():
    assert math.isclose(ops.LARGEST_LOG_RATIO, 4.135166556742356)
