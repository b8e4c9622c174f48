"""Box arithmetic of two-stage detectors in plain torch: coder, IoU, NMS and RoIAlign.

Everything is vectorised and runs on CPU and CUDA alike. Numerics follow torchvision's kernels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.models.layers import constant

LARGEST_LOG_RATIO = math.log(1000 / 16)  # of a side to its anchor's, when decoding


def encode(boxes: Tensor, anchors: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Deltas (N, 4) that `decode` turns back into boxes (N, 4) given anchors (N, 4)."""
    size = anchors[:, 2:] - anchors[:, :2]
    wanted = boxes[:, 2:] - boxes[:, :2]
    centre = anchors[:, :2] + size / 2
    shift = (boxes[:, :2] + wanted / 2 - centre) / size
    return torch.cat([shift, torch.log(wanted / size)], 1) * constant(weights, boxes)


def decode(deltas: Tensor, anchors: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Boxes (..., 4) from deltas (..., 4) and anchors (..., 4) that broadcast to them."""
    deltas = deltas / constant(weights, deltas)
    size = anchors[..., 2:] - anchors[..., :2]
    centre = anchors[..., :2] + size / 2 + deltas[..., :2] * size
    half = torch.exp(deltas[..., 2:].clamp(max=LARGEST_LOG_RATIO)) * size / 2
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes (..., 4) cut at the border of the image."""
    limit = constant((width, height, width, height), boxes)
    return torch.minimum(boxes.clamp(min=0), limit)


def area(boxes: Tensor) -> Tensor:
    """Areas (...,) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Shared areas (..., N, M) of boxes (..., N, 4) and (..., M, 4)."""
    # rows of memory, not strides: (..., N, 1) and (..., 1, M) each
    x1, y1, x2, y2 = a.mT.contiguous()[..., None].unbind(-3)
    u1, v1, u2, v2 = b.mT.contiguous()[..., None, :].unbind(-3)
    width = torch.minimum(x2, u2) - torch.maximum(x1, u1)
    height = torch.minimum(y2, v2) - torch.maximum(y1, v1)
    return width.clamp(min=0) * height.clamp(min=0)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (..., N, M) of boxes (..., N, 4) and (..., M, 4)."""
    both = intersection(a, b)
    return both / (area(a)[..., None] + area(b)[..., None, :] - both).clamp(min=1e-9)


def nms(boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None = None) -> Tensor:
    """Indices kept by greedy non-maximum suppression, best first; groups do not suppress others.

    Greedy NMS is the unique fixed point of keep[j] = no kept i before j overlaps j. Iterating
    that equation settles box by box in score order, in as many rounds as the longest chain of
    overlaps (a handful), each one a vectorised pass.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    over = iou(boxes, boxes) > threshold  # (N, N): row i would suppress column j
    if groups is not None:
        over &= groups[order][:, None] == groups[order]
    over = over.float().triu(1)
    keep = over.new_ones(len(boxes))
    for _ in range(len(boxes)):
        settled = (keep @ over == 0).float()  # counts of kept suppressors
        if torch.equal(settled, keep):
            break
        keep = settled
    return order[keep.bool()]


def settle(over: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Return which rows greedy NMS keeps (..., N) bool, and whether that is certain (...,) bool.

    over: (..., N, N) float, upper triangles, 1 where row i would suppress column j. As `nms`, but
    with a fixed number of rounds, so that nothing waits for a comparison: it is certain where the
    last round changed nothing.
    """
    keep = before = over.new_ones(over.shape[:-1])
    for _ in range(rounds):
        before, keep = keep, ((keep[..., None, :] @ over)[..., 0, :] == 0).float()
    return keep.bool(), (keep == before).all(-1)


def vote(kept: Tensor, boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Kept boxes (..., K, 4) as means of candidates (..., N, 4) that overlap them at least so much.

    Box voting (Gidaris & Komodakis 2015, §4.2): NMS keeps the best-scored box, but its
    neighbours saw the same person, and their mean, weighted by score and overlap, lies closer.
    """
    overlap = iou(kept, boxes)  # (..., K, N)
    weight = torch.where(overlap >= threshold, overlap * scores[..., None, :], 0)
    return weight @ boxes / weight.sum(-1, keepdim=True).clamp(min=1e-9)


def soften(boxes: Tensor, scores: Tensor, sigma: float) -> Tensor:
    """Scores (..., N) less what boxes (..., N, 4) share with better ones; both sorted, best first.

    The Gaussian penalty of Soft-NMS (Bodla et al. 2017, §3), of all better boxes at once: a box
    that NMS let stand beside another is more likely its double than one that stands alone.
    """
    shared = iou(boxes, boxes).triu(1)  # (..., N, N): row i is better than column j
    return scores * torch.exp(-(shared**2).sum(-2) / sigma)


def roi_align(
    maps: Sequence[Tensor],  # (B, C, H_l, W_l), fine to coarse
    strides: Sequence[int],
    rois: Tensor,  # (R, 4) xyxy image pixels
    image: Tensor,  # (R,) index of each RoI's image
    bins: int,
    canonical: float = 112.0,  # side in px from which the second map is used
) -> Tensor:
    """Average features in bins over each RoI, on the map that suits its size: (R, C, bins, bins).

    RoIAlign (He et al. 2017, §3) as torchvision with sampling_ratio=2, aligned=False: two samples
    a bin and axis, not aligned to pixel centres; those more than a cell outside the map are 0,
    those on its rim take the nearest cell. Map l takes sides sqrt(area) in
    [canonical·2^(l-1), canonical·2^l): equation 1 of Lin et al. 2017.

    A bin is a weighted sum of 16 cells, so all bins of all RoIs are rows of one sparse product.
    """
    level = torch.floor(1 + torch.log2(area(rois).sqrt() / canonical) + 1e-6)
    level = level.clamp(0, len(maps) - 1).long()  # (R,)
    heights, widths, starts, total = [], [], [], 0
    for x in maps:
        heights.append(x.shape[2])
        widths.append(x.shape[3])
        starts.append(total)
        total += x.shape[0] * x.shape[2] * x.shape[3]
    table = torch.cat([x.permute(0, 2, 3, 1).flatten(0, 2) for x in maps])  # (cells, C)
    table = table.float() if table.requires_grad else table
    cells_of = constant((tuple(heights), tuple(widths), tuple(starts)), level)
    height, width, start = cells_of[:, level]  # (R,) each
    scaled = rois / constant(tuple(strides), rois)[level][:, None]
    rows, down = _taps(scaled[:, 1], scaled[:, 3], height, bins)  # (R, bins, 4)
    columns, across = _taps(scaled[:, 0], scaled[:, 2], width, bins)
    cells = rows[:, :, None, :, None] * width.view(-1, 1, 1, 1, 1) + columns[:, None, :, None]
    cells = cells + (start + image * height * width).view(-1, 1, 1, 1, 1)
    weights = down[:, :, None, :, None] * across[:, None, :, None]  # (R, bins, bins, 4, 4)
    pooled = F.embedding_bag(
        cells.view(-1, 16),
        table,
        mode="sum",
        per_sample_weights=weights.view(-1, 16).to(table.dtype),
    )
    return pooled.view(len(rois), bins, bins, -1).permute(0, 3, 1, 2)


def _taps(low: Tensor, high: Tensor, cells: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Cells (R, bins, 4) that each bin between low and high reads on one axis, and their weights.

    low, high and cells (R,) are in cells of the map; the two samples of a bin read two each.
    """
    steps = (torch.arange(2 * bins, device=low.device, dtype=low.dtype) + 0.5) / (2 * bins)
    at = low[:, None] + steps * (high - low).clamp(min=1.0)[:, None]  # (R, 2·bins)
    last = cells[:, None] - 1
    inside = ((at >= -1) & (at <= cells[:, None])).to(at.dtype)
    at = at.clamp(min=0)
    first = torch.minimum(at.long(), last)
    share = torch.where(first == last, 0, at - first) * inside  # on the rim: the rim
    taps = torch.stack([first, torch.minimum(first + 1, last)], -1)
    weights = torch.stack([inside - share, share], -1) / 2
    return taps.unflatten(1, (bins, 2)).flatten(2), weights.unflatten(1, (bins, 2)).flatten(2)
