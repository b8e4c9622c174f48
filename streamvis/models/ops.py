"""Box arithmetic of two-stage detectors in plain torch: coder, IoU, NMS and RoIAlign.

Everything is vectorised and runs on CPU and CUDA alike. Numerics follow torchvision's kernels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST_LOG_RATIO = math.log(1000 / 16)  # of a side to its anchor's, when decoding


def encode(boxes: Tensor, anchors: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Deltas (N, 4) that `decode` turns back into boxes (N, 4) given anchors (N, 4)."""
    size = anchors[:, 2:] - anchors[:, :2]
    wanted = boxes[:, 2:] - boxes[:, :2]
    centre = anchors[:, :2] + size / 2
    shift = (boxes[:, :2] + wanted / 2 - centre) / size
    return torch.cat([shift, torch.log(wanted / size)], 1) * boxes.new_tensor(weights)


def decode(deltas: Tensor, anchors: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Boxes (..., 4) from deltas (..., 4) and anchors (..., 4) that broadcast to them."""
    deltas = deltas / deltas.new_tensor(weights)
    size = anchors[..., 2:] - anchors[..., :2]
    centre = anchors[..., :2] + size / 2 + deltas[..., :2] * size
    half = torch.exp(deltas[..., 2:].clamp(max=LARGEST_LOG_RATIO)) * size / 2
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes (..., 4) cut at the border of the image."""
    limit = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), limit)


def area(boxes: Tensor) -> Tensor:
    """Areas (...,) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Shared areas (N, M) of boxes (N, 4) and (M, 4)."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clamp(min=0).prod(2)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    both = intersection(a, b)
    return both / (area(a)[:, None] + area(b)[None] - both).clamp(min=1e-9)


def nms(boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None = None) -> Tensor:
    """Indices kept by greedy non-maximum suppression, best first; groups do not suppress others.

    Greedy NMS is the unique fixed point of keep[j] = no kept i before j overlaps j. Iterating
    that equation settles box by box in score order, in as many rounds as the longest chain of
    overlaps (a handful), each one a vectorised pass.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    over = (iou(boxes, boxes) > threshold).triu(1)  # (N, N): row i would suppress column j
    if groups is not None:
        over &= groups[order][:, None] == groups[order][None]
    keep = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for _ in range(len(boxes)):
        settled = ~(over & keep[:, None]).any(0)
        if torch.equal(settled, keep):
            break
        keep = settled
    return order[keep]


def vote(kept: Tensor, boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Kept boxes (K, 4) as means of the candidates (N, 4) that overlap them at least so much.

    Box voting (Gidaris & Komodakis 2015, §4.2): NMS keeps the best-scored box, but its
    neighbours saw the same person, and their mean, weighted by score and overlap, lies closer.
    """
    overlap = iou(kept, boxes)  # (K, N)
    weight = torch.where(overlap >= threshold, overlap * scores, 0)
    return weight @ boxes / weight.sum(1, keepdim=True).clamp(min=1e-9)


def roi_align(features: Tensor, rois: Tensor, image: Tensor, scale: float, bins: int) -> Tensor:
    """Average features (B, C, H, W) in bins over each RoI: (R, C, bins, bins).

    rois (R, 4) in image pixels, image (R,) the index of each RoI's image, scale the map's size
    over the image's. Two samples a bin and axis, not aligned to pixel centres (He et al. 2017,
    §3, as torchvision with sampling_ratio=2, aligned=False): samples more than one cell outside
    the map are 0, those on its rim take the nearest cell.
    """
    height, width = features.shape[-2:]
    start = rois[:, :2] * scale
    size = (rois[:, 2:] * scale - start).clamp(min=1.0)
    steps = (torch.arange(2 * bins, device=rois.device, dtype=rois.dtype) + 0.5) / (2 * bins)
    x = start[:, :1] + steps * size[:, :1]  # (R, 2·bins)
    y = start[:, 1:] + steps * size[:, 1:]
    inside = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None]
    grid = torch.stack(
        [
            (2 * x / max(width - 1, 1) - 1)[:, None, :].expand(inside.shape),
            (2 * y / max(height - 1, 1) - 1)[:, :, None].expand(inside.shape),
        ],
        dim=-1,
    )  # (R, 2·bins, 2·bins, 2) in [-1, 1], corners on cell centres
    features = features.float()
    pooled = features.new_zeros(len(rois), features.shape[1], bins, bins)
    for index in range(len(features)):
        chosen = (image == index).nonzero()[:, 0]
        if len(chosen) == 0:
            continue
        points = grid[chosen].flatten(0, 1)[None]  # (1, r·2·bins, 2·bins, 2)
        sampled = F.grid_sample(
            features[index : index + 1], points, padding_mode="border", align_corners=True
        )  # (1, C, r·2·bins, 2·bins)
        sampled = sampled * inside[chosen].flatten(0, 1).to(sampled.dtype)
        means = F.avg_pool2d(sampled, 2)  # (1, C, r·bins, bins)
        pooled[chosen] = means[0].unflatten(1, (len(chosen), bins)).transpose(0, 1)
    return pooled


def roi_align_levels(
    maps: Sequence[Tensor],  # (B, C, H_l, W_l), fine to coarse
    strides: Sequence[int],
    rois: Tensor,  # (R, 4)
    image: Tensor,  # (R,)
    bins: int,
    canonical: float,
) -> Tensor:
    """RoIAlign on the level that suits each RoI: (R, C, bins, bins).

    Level l takes sides sqrt(area) in [canonical·2^(l-1), canonical·2^l): equation 1 of Lin et
    al. 2017 (FPN), with `canonical` the side at which the second level takes over.
    """
    level = torch.floor(1 + torch.log2(area(rois).sqrt() / canonical + 1e-6))
    level = level.clamp(0, len(maps) - 1)
    pooled = rois.new_zeros(len(rois), maps[0].shape[1], bins, bins)
    for index, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        chosen = (level == index).nonzero()[:, 0]
        if len(chosen):
            pooled[chosen] = roi_align(features, rois[chosen], image[chosen], 1 / stride, bins)
    return pooled
