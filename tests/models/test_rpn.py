"""Anchors of the paper, and proposals against a loop over all boxes."""

import pytest
import torch

from streamvis.geometry import iou
from streamvis.models import ops
from streamvis.models.rpn import (
    SMALLEST_SIDE,
    RegionProposals,
    base_anchors,
    grid_anchors,
    rpn_losses,
)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (32, [(-23, -11, 23, 11), (-16, -16, 16, 16), (-11, -23, 11, 23)]),
        (64, [(-45, -23, 45, 23), (-32, -32, 32, 32), (-23, -45, 23, 45)]),
        (512, [(-362, -181, 362, 181), (-256, -256, 256, 256), (-181, -362, 181, 362)]),
    ],
)
def test_base_anchors_are_the_published_ones(size, expected):
    assert [tuple(row) for row in base_anchors([size], [0.5, 1, 2]).tolist()] == expected


def test_anchors_run_over_x_before_y_from_the_cell_origin():
    base = ((-1.0, -1.0, 1.0, 1.0), (-2.0, -1.0, 2.0, 1.0))
    grid = grid_anchors(base, 2, 3, (8, 4))
    assert grid[0].tolist() == [-1, -1, 1, 1]
    assert grid[2].tolist() == [3, -1, 5, 1]
    assert grid[6].tolist() == [-1, 7, 1, 9]


def proposals(**changes):
    torch.manual_seed(0)
    settings = {"keep_before": 1000, "keep_after": 1000} | changes
    return RegionProposals(4, [[16.0], [32.0]], [0.5, 1, 2], **settings)


def maps():
    torch.manual_seed(1)
    return [torch.randn(2, 4, 8, 12), torch.randn(2, 4, 4, 6)]


def test_numbers_of_the_head_are_in_the_order_of_the_anchors():
    rpn = proposals()
    logits, deltas = rpn(maps())
    anchors = rpn.anchors(maps(), (64, 96))
    assert [len(a) for a in anchors] == [8 * 12 * 3, 4 * 6 * 3]
    seen = rpn.head.conv(maps()[0])
    score, delta = rpn.head.cls_logits(seen), rpn.head.bbox_pred(seen)
    for row, column, kind in ((0, 0, 0), (2, 5, 1), (7, 11, 2)):
        at = (row * 12 + column) * 3 + kind
        assert logits[0][1, at] == score[1, kind, row, column]
        assert deltas[0][1, at].tolist() == delta[1, 4 * kind : 4 * kind + 4, row, column].tolist()


@torch.no_grad()
def test_proposals_are_decoded_clipped_and_thinned_within_each_level_best_first():
    rpn = proposals()
    anchors = rpn.anchors(maps(), (64, 96))
    logits = [torch.randn(2, len(a)) for a in anchors]
    deltas = [torch.randn(2, len(a), 4) / 2 for a in anchors]
    found = rpn.propose(logits, deltas, anchors, [(60, 90), (64, 96)])
    for image, size in enumerate([(60, 90), (64, 96)]):
        expected = []
        for logit, delta, anchor in zip(logits, deltas, anchors, strict=True):
            boxes = ops.clip(ops.decode(delta[image], anchor, (1.0,) * 4), *size)
            kept = []
            for i in logit[image].argsort(descending=True).tolist():
                if (boxes[i, 2:] - boxes[i, :2]).min() < SMALLEST_SIDE:
                    continue  # it lies outside of the picture
                if iou(boxes[i, None].numpy(), boxes[kept].numpy()).max(initial=0) <= rpn.overlap:
                    kept.append(i)
            expected += [(float(logit[image, i]), boxes[i].tolist()) for i in kept]
        expected.sort(key=lambda one: -one[0])
        torch.testing.assert_close(found[image], torch.tensor([box for _, box in expected]))


@torch.no_grad()
def test_no_more_are_kept_than_asked_for():
    rpn = proposals(keep_after=5)
    (found, _) = rpn.propose(*rpn(maps()), rpn.anchors(maps(), (64, 96)), [(64, 96)] * 2)
    assert found.shape == (5, 4)


def test_losses_are_those_of_a_loop():
    torch.manual_seed(0)
    logits, deltas = torch.randn(6), torch.randn(6, 4)
    positive = torch.tensor([True, False, True, False, False, False])
    targets = torch.randn(2, 4)
    objectness, box = rpn_losses(logits, deltas, positive, targets)
    p = logits.sigmoid()
    torch.testing.assert_close(objectness, -torch.where(positive, p, 1 - p).log().mean())
    apart = (deltas[positive] - targets).abs()
    loss = torch.where(apart < 1 / 9, 4.5 * apart**2, apart - 1 / 18).sum()
    torch.testing.assert_close(box, loss / 6)


def test_losses_of_nothing_are_finite():
    none = torch.zeros(3, dtype=torch.bool)
    _, box = rpn_losses(torch.zeros(3), torch.zeros(3, 4), none, torch.zeros(0, 4))
    assert box == 0
