"""The loss of Mask R-CNN: anchors and proposals are matched to people, and give five terms.

Matching, sampling and normalisation follow Ren et al. 2015 and He et al. 2017 as torchvision
implements them; ignored regions are neither positives nor negatives.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.models import ops, roi_heads, rpn
from streamvis.models.mask_rcnn import MaskRcnn
from streamvis.training.recipes import Count

IGNORED = -2
NEGATIVE = -1
POOR, FAIR = 0.4, 0.75  # IoU with a person at which the target score is 0, and 1


class Targets(NamedTuple):
    """The targets of one canvas."""

    boxes: Tensor  # (N, 4) visible part, xyxy canvas pixels
    extents: Tensor  # (N, 4) whole box, over which the mask grid lies
    masks: Tensor  # (N, GRID, GRID) in {0, 1}
    has_mask: Tensor  # (N,) bool
    ignored: Tensor  # (M, 4) regions that give neither positives nor negatives


class SampleCounts(NamedTuple):
    """The numbers of anchors, proposals and masks of an image that enter the loss."""

    anchors: Count = 256
    proposals: Count = 128
    masks: Count = 16


def match(
    boxes: Tensor, targets: Targets, *, low: float, high: float, rescue: bool = False
) -> Tensor:
    """Return for each box (N, 4) the index of its person, NEGATIVE or IGNORED.

    With `rescue`, the boxes that overlap a person most are matched to it, however little that is.
    """
    matched = torch.full((len(boxes),), NEGATIVE, dtype=torch.long, device=boxes.device)
    if len(targets.boxes):
        overlap = ops.iou(targets.boxes, boxes)  # (G, N)
        best, person = overlap.max(0)
        matched = torch.where(best >= high, person, torch.where(best < low, NEGATIVE, IGNORED))
        if rescue:
            top = overlap.max(1, keepdim=True).values
            own = ((overlap == top) & (top > 0.1)).any(0)
            matched = torch.where(own, person, matched)
    if len(targets.ignored):
        inside = ops.intersection(boxes, targets.ignored).amax(1) / ops.area(boxes).clamp(min=1e-6)
        matched = torch.where((matched == NEGATIVE) & (inside > 0.5), IGNORED, matched)
    return matched


def sample(matched: Tensor, count: int, share: float) -> Tensor:
    """Draw the indexes of at most `count` boxes, at most a `share` of which is positive."""
    positive = (matched >= 0).nonzero()[:, 0]
    negative = (matched == NEGATIVE).nonzero()[:, 0]
    positive = positive[torch.randperm(len(positive), device=matched.device)]
    positive = positive[: int(count * share)]
    negative = negative[torch.randperm(len(negative), device=matched.device)]
    return torch.cat([positive, negative[: count - len(positive)]])


def detector_losses(
    model: MaskRcnn, batch: Tensor, targets: list[Targets], sampling: SampleCounts
) -> dict[str, Tensor]:
    """Return the five terms for normalised canvases (B, 3, H, W)."""
    maps = model.backbone(batch)
    size = (batch.shape[2], batch.shape[3])
    logits, deltas = model.rpn(maps)
    anchors = model.rpn.anchors(maps, size)
    with torch.no_grad():
        proposals = model.rpn.propose(logits, deltas, anchors, [size] * len(batch))
    flat = (torch.cat(logits, 1).float(), torch.cat(deltas, 1).float(), torch.cat(anchors))
    first = _rpn_terms(*flat, targets, sampling)
    return first | _roi_terms(model, maps, proposals, targets, sampling)


def _rpn_terms(
    logits: Tensor, deltas: Tensor, anchors: Tensor, targets: list[Targets], sampling: SampleCounts
) -> dict[str, Tensor]:
    # logits (B, A), deltas (B, A, 4), anchors (A, 4)
    chosen_logits, chosen_deltas, positive, wanted = [], [], [], []
    for logit, delta, target in zip(logits, deltas, targets, strict=True):
        matched = match(anchors, target, low=0.3, high=0.7, rescue=True)
        index = sample(matched, sampling.anchors, 0.5)
        own = matched[index]
        hit = own >= 0
        chosen_logits.append(logit[index])
        chosen_deltas.append(delta[index])
        positive.append(hit)
        wanted.append(ops.encode(target.boxes[own[hit]], anchors[index[hit]], rpn.BOX_WEIGHTS))
    objectness, box = rpn.rpn_losses(
        torch.cat(chosen_logits), torch.cat(chosen_deltas), torch.cat(positive), torch.cat(wanted)
    )
    return {"objectness": objectness, "rpn_box": box}


def _roi_terms(
    model: MaskRcnn,
    maps: list[Tensor],
    proposals: list[Tensor],
    targets: list[Targets],
    sampling: SampleCounts,
) -> dict[str, Tensor]:
    rois, image, labels, wanted = [], [], [], []
    mask_rois, mask_image, mask_targets = [], [], []
    for index, (found, target) in enumerate(zip(proposals, targets, strict=True)):
        boxes = torch.cat([found, target.boxes])
        matched = match(boxes, target, low=0.5, high=0.5)
        chosen = sample(matched, sampling.proposals, 0.25)
        boxes, own = boxes[chosen], matched[chosen]
        hit = own >= 0
        rois.append(boxes)
        image.append(torch.full_like(own, index))
        labels.append(hit.long())
        wanted.append(ops.encode(target.boxes[own[hit]], boxes[hit], roi_heads.BOX_WEIGHTS))
        drawn = hit.nonzero()[:, 0]
        drawn = drawn[target.has_mask[own[drawn]]][: sampling.masks]
        mask_rois.append(boxes[drawn])
        mask_image.append(torch.full_like(drawn, index))
        mask_targets.append(mask_target(boxes[drawn], own[drawn], target))
    label, roi, goal = torch.cat(labels), torch.cat(rois), torch.cat(wanted)
    logits, deltas = model.roi_heads.classify(maps, roi, torch.cat(image))
    moves = deltas.float()[label == 1, 1]
    sure = label.float()
    sure[label == 1] = target_score(moves.detach(), goal, roi[label == 1])
    regions = (torch.cat(mask_rois), torch.cat(mask_image), torch.cat(mask_targets))
    return {
        "classes": F.cross_entropy(logits.float(), torch.stack([1 - sure, sure], 1)),
        "box": F.smooth_l1_loss(moves, goal, beta=1 / 9, reduction="sum") / max(len(label), 1),
        "mask": _mask_term(model, maps, *regions),
    }


def target_score(moves: Tensor, goal: Tensor, rois: Tensor) -> Tensor:
    """Return the target scores (P,) of regions whose predicted deltas are moves (P, 4).

    The score rises with the IoU of the predicted box and the true one, goal (P, 4) (Zhang et al.
    2021, VarifocalNet, §3). With a target of 1 for every matched region, a region between two
    people, whose box stays between them, would be detected as one person.
    """
    found = ops.decode(moves, rois, roi_heads.BOX_WEIGHTS)
    true = ops.decode(goal, rois, roi_heads.BOX_WEIGHTS)
    low = torch.maximum(found[:, :2], true[:, :2])
    both = (torch.minimum(found[:, 2:], true[:, 2:]) - low).clamp(min=0).prod(1)
    overlap = both / (ops.area(found) + ops.area(true) - both).clamp(min=1e-6)
    return ((overlap - POOR) / (FAIR - POOR)).clamp(0, 1)


def _mask_term(
    model: MaskRcnn, maps: list[Tensor], rois: Tensor, image: Tensor, targets: Tensor
) -> Tensor:
    if len(rois) == 0:
        return maps[0].new_zeros(()).float()
    labels = torch.ones(len(rois), dtype=torch.long, device=rois.device)
    logits = model.roi_heads.draw(maps, rois, image, labels)
    return F.binary_cross_entropy_with_logits(logits.float(), targets)


def mask_target(rois: Tensor, person: Tensor, targets: Targets) -> Tensor:
    """Return the masks (P, 28, 28) in [0, 1] of each region's person (P,) on the region's grid."""
    if len(rois) == 0:
        return rois.new_zeros(0, 28, 28)
    extent = targets.extents[person]  # (P, 4) box over which the mask grid lies
    steps = (torch.arange(56, device=rois.device) + 0.5) / 56
    size = rois[:, 2:] - rois[:, :2]
    points = rois[:, None, :2] + steps[None, :, None] * size[:, None]  # (P, 56, 2)
    unit = (points - extent[:, None, :2]) / (extent[:, None, 2:] - extent[:, None, :2])
    x, y = (2 * unit - 1).unbind(-1)  # (P, 56) in [-1, 1] inside the box
    n = len(rois)
    grid = torch.stack([x[:, None].expand(n, 56, 56), y[:, :, None].expand(n, 56, 56)], -1)
    drawn = F.grid_sample(targets.masks[person][:, None], grid, align_corners=False)
    return F.avg_pool2d(drawn, 2)[:, 0]
