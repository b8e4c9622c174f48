"""The second stage of Mask R-CNN (He et al. 2017): class, box and mask of each region."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models import ops
from streamvis.models.layers import FrozenBatchNorm2d

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SMALLEST_SIDE = 1e-2  # pixels; detections with a shorter side are dropped


class Instances(NamedTuple):
    """The detected instances of one image, best first."""

    boxes: Tensor  # (N, 4) xyxy
    scores: Tensor  # (N,)
    labels: Tensor  # (N,) int64
    masks: Tensor  # (N, 28, 28) probabilities on a grid over the box; (N, 0, 0) when not asked for


class BoxHead(nn.Module):
    """Two fully connected layers on the pooled region."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(channels * 7 * 7, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # x (R, C, 7, 7)
        return F.relu(self.fc7(F.relu(self.fc6(x.flatten(1)))))  # (R, width)


class BoxPredictor(nn.Module):
    """Class logits and class-specific deltas; class 0 is the background."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, classes)
        self.bbox_pred = nn.Linear(width, 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x).unflatten(1, (-1, 4))  # (R, K), (R, K, 4)


def conv_blocks(channels: int, count: int, norm_eps: float | None) -> nn.Sequential:
    """3×3 convolutions on the pooled region (R, C, h, w), each with its norm unless eps is None."""
    blocks = nn.Sequential()
    for _ in range(count):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=norm_eps is None)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        norm = [] if norm_eps is None else [FrozenBatchNorm2d(channels, norm_eps)]
        blocks.append(nn.Sequential(conv, *norm, nn.ReLU(inplace=True)))
    return blocks


def convolutional_box_head(channels: int, width: int, norm_eps: float) -> nn.Sequential:
    """Four convolutions, then one fully connected layer: (R, C, 7, 7) -> (R, width)."""
    blocks = conv_blocks(channels, 4, norm_eps)
    return blocks.extend((nn.Flatten(), nn.Linear(channels * 7 * 7, width), nn.ReLU(inplace=True)))


class MaskPredictor(nn.Module):
    """Double the resolution, then one mask for each class: (R, C, 14, 14) -> (R, K, 28, 28)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(channels, channels, 2, 2)
        self.mask_fcn_logits = nn.Conv2d(channels, classes, 1)
        nn.init.kaiming_normal_(self.conv5_mask.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.mask_fcn_logits.weight, std=0.01)  # start undecided, at p = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.mask_fcn_logits(F.relu(self.conv5_mask(x)))


class RoiHeads(nn.Module):
    """Classify and refine proposals, then draw masks on the final boxes only."""

    def __init__(
        self,
        channels: int,
        classes: int,
        strides: tuple[int, ...],
        *,
        width: int,
        convolutions: int,
        canonical: float,
        overlap: float,
        vote: float,
        soften: float | None,  # sigma of the penalty of boxes beside better ones
        norm_eps: float | None,  # None: two fully connected layers on the box, and no norms
    ) -> None:
        super().__init__()
        self.strides = strides
        self.canonical = canonical
        self.min_score = 0.05
        self.overlap = overlap
        self.most = 100
        self.soften = soften
        self.vote = vote  # overlap from which neighbours have a say in a box; 1: none has
        self.box_head: BoxHead | nn.Sequential
        if norm_eps is None:
            self.box_head = BoxHead(channels, width)
        else:
            self.box_head = convolutional_box_head(channels, width, norm_eps)
        self.box_predictor = BoxPredictor(width, classes)
        self.mask_head = conv_blocks(channels, convolutions, norm_eps)
        self.mask_predictor = MaskPredictor(channels, classes)

    def pool(self, maps: list[Tensor], rois: Tensor, image: Tensor, bins: int) -> Tensor:
        levels = maps[: len(self.strides)]
        return ops.roi_align(levels, self.strides, rois, image, bins, self.canonical)

    def classify(self, maps: list[Tensor], rois: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, K) and deltas (R, K, 4)."""
        return self.box_predictor(self.box_head(self.pool(maps, rois, image, 7)).float())

    def draw(self, maps: list[Tensor], rois: Tensor, image: Tensor, labels: Tensor) -> Tensor:
        """Mask logits (R, 28, 28) of each region's own class."""
        logits = self.mask_predictor(self.mask_head(self.pool(maps, rois, image, 14)))
        return logits[torch.arange(len(rois), device=rois.device), labels]

    def forward(
        self,
        maps: list[Tensor],
        proposals: list[Tensor],
        sizes: list[tuple[int, int]],
        masks: bool = True,
    ) -> list[Instances]:
        counts = [len(boxes) for boxes in proposals]
        if not any(counts):
            return [_nothing(boxes, masks) for boxes in proposals]
        image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        logits, deltas = self.classify(maps, torch.cat(proposals), image.to(maps[0].device))
        boxes = ops.decode(deltas.float(), torch.cat(proposals)[:, None], BOX_WEIGHTS)
        scores = logits.float().softmax(1)
        found = [
            self._select(b, s, size)
            for b, s, size in zip(boxes.split(counts), scores.split(counts), sizes, strict=True)
        ]
        return self._with_masks(maps, found) if masks else found

    def _select(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> Instances:
        # boxes (R, K, 4), scores (R, K): drop the background, then NMS within each class
        boxes = ops.clip(boxes[:, 1:], *size)
        keep = (scores[:, 1:] > self.min_score) & (
            (boxes[..., 2:] - boxes[..., :2]) >= SMALLEST_SIDE
        ).all(2)
        region, label = keep.nonzero(as_tuple=True)
        boxes, scores = boxes[region, label], scores[region, label + 1]
        best = ops.nms(boxes, scores, self.overlap, groups=label)[: self.most]
        kept, score = boxes[best], scores[best]
        far = (label * 2.0 * max(size))[:, None]  # classes apart, so that each is on its own
        if self.vote < 1:
            kept = ops.vote(kept + far[best], boxes + far, scores, self.vote) - far[best]
        if self.soften is not None:
            score = ops.soften((boxes + far)[best], score, self.soften)
            order = score.argsort(descending=True, stable=True)
            order = order[score[order] > self.min_score]
            kept, score, best = kept[order], score[order], best[order]
        return Instances(kept, score, label[best] + 1, boxes.new_zeros(len(best), 0, 0))

    def _with_masks(self, maps: list[Tensor], found: list[Instances]) -> list[Instances]:
        counts = [len(f.boxes) for f in found]
        boxes = torch.cat([f.boxes for f in found])
        if len(boxes) == 0:
            return [f._replace(masks=boxes.new_zeros(0, 28, 28)) for f in found]
        image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(boxes.device)
        logits = self.draw(maps, boxes, image, torch.cat([f.labels for f in found]))
        masks = logits.float().sigmoid().split(counts)
        return [f._replace(masks=m) for f, m in zip(found, masks, strict=True)]


def _nothing(boxes: Tensor, masks: bool) -> Instances:
    """No instances, on the device of some boxes."""
    side = 28 if masks else 0
    labels = boxes.new_zeros(0, dtype=torch.int64)
    return Instances(boxes[:0], boxes.new_zeros(0), labels, boxes.new_zeros(0, side, side))
