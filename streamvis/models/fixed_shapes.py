"""Mask R-CNN in arrays whose shapes do not depend on what is found, as a GPU needs it.

    find = FixedShapes(model, (height, width), masks=True)
    rows, masks, exact = find(pixels)  # pixels (B, height, width, 3) uint8, on the model's device

Nothing in it waits for the device, so that it can be captured as a CUDA graph: what is discarded
keeps its row, with the score 0. It finds what `MaskRcnn` finds, in pictures that are `exact`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.models import ops, roi_heads, rpn
from streamvis.models.layers import constant
from streamvis.models.mask_rcnn import Dense, MaskRcnn, padded_size

ROUNDS = 16  # of NMS; pictures with longer chains of overlaps are not exact
CANDIDATES = 1024  # detections of all classes that NMS compares; pictures with more are not exact
NONE = float("-inf")  # objectness of what is no proposal


class FixedShapes:
    """The detector for pictures of one size."""

    def __init__(self, model: MaskRcnn, picture: tuple[int, int], masks: bool) -> None:
        """`picture`: height and width in px."""
        self.model, self.picture, self.masks = model, picture, masks
        self.size = model.size_of(*picture)
        self.padded = padded_size([self.size])
        self.anchors: list[Tensor] = []  # of each level; made once, as graphs know their addresses

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows (B, N, 6), masks (B, N, 28, 28) and exact (B,) bool; best first.

        A row is a box in px of the picture, score and label; zeros are no detection. Masks are
        uint8, 255 · probability; (B, N, 0, 0) when not asked for.
        """
        # pixels (B, H, W, 3)
        image = self.model.resize(pixels.permute(0, 3, 1, 2), self.size)
        margin = (0, self.padded[1] - self.size[1], 0, self.padded[0] - self.size[0])
        dense = self.model.dense(F.pad(image, margin).contiguous(memory_format=torch.channels_last))
        rois, real, settled = self._propose(dense)
        boxes, scores, labels, certain = self._select(dense.maps, rois, real)
        masks = pixels.new_zeros(*scores.shape, 0, 0)
        if self.masks:
            heads, image = self.model.roi_heads, _image_of(boxes)
            drawn = heads.draw(dense.maps, boxes.flatten(0, 1), image, labels.flatten())
            masks = drawn.float().sigmoid().mul(255).round().to(torch.uint8)
            masks = masks.unflatten(0, scores.shape)
        y, x = self.picture[0] / self.size[0], self.picture[1] / self.size[1]
        shown = boxes * constant((x, y, x, y), boxes)
        rows = torch.cat([shown, scores[..., None], labels[..., None].float()], -1)
        return rows * (scores > 0)[..., None], masks, settled & certain

    def _propose(self, dense: Dense) -> tuple[Tensor, Tensor, Tensor]:
        """Return proposals (B, R, 4), best first; which are real (B, R); settled (B,) bool."""
        head = self.model.rpn
        if not self.anchors:
            self.anchors = head.anchors(dense.maps, self.padded)
        scores, boxes = head.strongest(dense.logits, dense.deltas, self.anchors)
        most = max(level.shape[1] for level in scores)
        missing = [most - level.shape[1] for level in scores]
        levels = zip(scores, boxes, missing, strict=True)
        padded = [(F.pad(s, (0, m), value=NONE), F.pad(b, (0, 0, 0, m))) for s, b, m in levels]
        score = torch.stack([s for s, _ in padded], 1)  # (B, L, k)
        box = ops.clip(torch.stack([b for _, b in padded], 1), *self.size)  # (B, L, k, 4)
        score = torch.where(_wide(box, rpn.SMALLEST_SIDE), score, NONE)
        over = (ops.iou(box, box) > head.overlap) & (score > NONE)[..., None]
        keep, settled = ops.settle(over.float().triu(1), ROUNDS)
        score = torch.where(keep, score, NONE).flatten(1)
        best, order = (x[:, : head.keep_after] for x in score.sort(descending=True, stable=True))
        return _rows(box.flatten(1, 2), order), best > NONE, settled.all(1)

    def _select(
        self, maps: list[Tensor], rois: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return boxes (B, N, 4), scores (B, N), 0 for none, labels (B, N), and exact (B,)."""
        heads = self.model.roi_heads
        logits, deltas = heads.classify(maps, rois.flatten(0, 1), _image_of(rois))
        at = rois.flatten(0, 1)[:, None]  # (B·R, 1, 4)
        boxes = ops.clip(ops.decode(deltas.float(), at, roi_heads.BOX_WEIGHTS), *self.size)
        boxes = boxes[:, 1:].reshape(len(rois), -1, 4)  # (B, R·(K - 1), 4)
        scores = logits.float().softmax(1)[:, 1:].reshape(len(rois), real.shape[1], -1)
        classes = scores.shape[2]
        found = (scores > heads.min_score) & real[..., None]
        scores = torch.where(
            found.flatten(1) & _wide(boxes, roi_heads.SMALLEST_SIDE), scores.flatten(1), 0
        )
        scores, order = scores.sort(descending=True, stable=True)
        all_of_them = (scores[:, CANDIDATES:] == 0).all(1)  # (B,)
        scores, order = scores[:, :CANDIDATES], order[:, :CANDIDATES]
        boxes, labels = _rows(boxes, order), order % classes
        over = (ops.iou(boxes, boxes) > heads.overlap) & (scores > 0)[..., None]
        over &= labels[..., None] == labels[..., None, :]
        keep, settled = ops.settle(over.float().triu(1), ROUNDS)
        return *self._refine(boxes, scores, labels, keep), all_of_them & settled

    def _refine(
        self, boxes: Tensor, scores: Tensor, labels: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels of those kept, as `RoiHeads`: voted and softened."""
        heads = self.model.roi_heads
        first = (
            (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, : heads.most]
        )  # kept, best first
        far = (labels * 2.0 * max(self.size))[..., None]  # classes apart: each is on its own
        apart, score = boxes + far, torch.where(keep, scores, 0).gather(1, first)
        near, kept = _rows(far, first), _rows(apart, first)
        voted = ops.vote(kept, apart, scores, heads.vote) if heads.vote < 1 else kept
        boxes, labels = voted - near, labels.gather(1, first) + 1
        if heads.soften is not None:
            score, order = ops.soften(kept, score, heads.soften).sort(descending=True, stable=True)
            score = torch.where(score > heads.min_score, score, 0)
            boxes, labels = _rows(boxes, order), labels.gather(1, order)
        return boxes, score, labels


def _wide(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides of boxes (..., 4) are so long: (...,) bool."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= side).all(-1)


def _rows(x: Tensor, order: Tensor) -> Tensor:
    """Rows (B, M, C) of x (B, N, C) by their indices (B, M)."""
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))


def _image_of(boxes: Tensor) -> Tensor:
    """Indices (B·N,) of the images that boxes (B, N, 4) are in."""
    count = boxes.shape[0] * boxes.shape[1]
    return torch.arange(count, device=boxes.device) // boxes.shape[1]
