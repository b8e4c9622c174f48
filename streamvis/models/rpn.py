"""Region proposal network (Ren et al. 2015) over a feature pyramid."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models import ops
from streamvis.models.layers import Separable

BOX_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
SMALLEST_SIDE = 1e-3  # pixels; proposals with a shorter side are dropped


def base_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors (A, 4) about the origin, corners rounded to whole pixels; ratios are h/w."""
    cpu = torch.device("cpu")  # also where the model's shapes alone are asked for
    ratio = torch.tensor(ratios, dtype=torch.float32, device=cpu).sqrt()
    size = torch.tensor(sizes, dtype=torch.float32, device=cpu)
    h = (ratio[:, None] * size).flatten() / 2
    w = (size / ratio[:, None]).flatten() / 2
    return torch.stack([-w, -h, w, h], 1).round()


@lru_cache(maxsize=64)
def grid_anchors(
    base: tuple[tuple[float, ...], ...], rows: int, columns: int, stride: tuple[int, int]
) -> Tensor:
    """Base anchors at every cell's origin (rows·columns·A, 4): y outer, x inner, then anchors."""
    y, x = torch.meshgrid(
        torch.arange(rows) * stride[0], torch.arange(columns) * stride[1], indexing="ij"
    )
    shift = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (shift + torch.tensor(base)).reshape(-1, 4)


class RpnHead(nn.Module):
    """3×3 convolutions, then objectness and deltas for each anchor; shared by all levels."""

    def __init__(self, channels: int, anchors: int, light: bool, convolutions: int = 1) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        for _ in range(convolutions):
            look = Separable(channels) if light else nn.Conv2d(channels, channels, 3, padding=1)
            self.conv.append(nn.Sequential(look, nn.ReLU(inplace=True)))
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.groups == 1:
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        # per level: objectness (B, H·W·A) and deltas (B, H·W·A, 4), in the anchors' order
        logits, deltas = [], []
        for x in maps:
            x = self.conv(x)
            logits.append(self.cls_logits(x).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.bbox_pred(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
        return logits, deltas


class RegionProposals(nn.Module):
    """Region proposals: feature maps to candidate boxes."""

    def __init__(
        self,
        channels: int,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float],
        keep_before: int,
        keep_after: int,
        light: bool = False,
        overlap: float = 0.7,
        convolutions: int = 1,
    ) -> None:
        super().__init__()
        self.base = [base_anchors(level, ratios) for level in sizes]
        self.head = RpnHead(channels, len(self.base[0]), light, convolutions)
        self.keep_before = keep_before
        self.keep_after = keep_after
        self.overlap = overlap
        self.min_logit = -math.inf  # of the objectness of a proposal

    def anchors(self, maps: Sequence[Tensor], image: tuple[int, int]) -> list[Tensor]:
        """Anchors (H·W·A, 4) of each level that has some, for a padded image (height, width)."""
        grids = []
        for base, x in zip(self.base, self.seen(maps), strict=True):
            rows, columns = x.shape[-2:]
            stride = (image[0] // rows, image[1] // columns)
            key = tuple(tuple(row) for row in base.tolist())
            grids.append(grid_anchors(key, rows, columns, stride).to(x.device))
        return grids

    def seen(self, maps: Sequence[Tensor]) -> Sequence[Tensor]:
        """Those of the maps, fine to coarse, that are searched: the coarsest, one for each size."""
        return maps[-len(self.base) :]

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness (B, H·W·A) and deltas (B, H·W·A, 4) of each level."""
        return self.head(self.seen(maps))

    def propose(
        self,
        logits: Sequence[Tensor],  # per level (B, H·W·A)
        deltas: Sequence[Tensor],  # per level (B, H·W·A, 4)
        anchors: Sequence[Tensor],  # per level (H·W·A, 4)
        sizes: Sequence[tuple[int, int]],  # (height, width) of each image before padding
    ) -> list[Tensor]:
        """The best boxes (R, 4) of each image, best first."""
        scores, boxes = self.strongest(logits, deltas, anchors)
        return [
            self._best([b[i] for b in boxes], [s[i] for s in scores], size)
            for i, size in enumerate(sizes)
        ]

    def strongest(
        self, logits: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness (B, k) and boxes (B, k, 4) of each level's best anchors, best first."""
        scores, boxes = [], []
        for logit, delta, anchor in zip(logits, deltas, anchors, strict=True):
            best, index = logit.float().topk(min(self.keep_before, logit.shape[1]), dim=1)
            chosen = delta.float().gather(1, index[..., None].expand(-1, -1, 4))
            scores.append(best)
            boxes.append(ops.decode(chosen, anchor[index], BOX_WEIGHTS))
        return scores, boxes

    def _best(
        self, boxes: Sequence[Tensor], scores: Sequence[Tensor], size: tuple[int, int]
    ) -> Tensor:
        kept_boxes, kept_scores = [], []
        for level_boxes, level_scores in zip(boxes, scores, strict=True):
            clipped = ops.clip(level_boxes, *size)
            wide = ((clipped[:, 2:] - clipped[:, :2]) >= SMALLEST_SIDE).all(1)
            wide &= level_scores > self.min_logit
            clipped, level_scores = clipped[wide], level_scores[wide]
            keep = ops.nms(clipped, level_scores, self.overlap)
            kept_boxes.append(clipped[keep])
            kept_scores.append(level_scores[keep])
        score = torch.cat(kept_scores)
        order = score.argsort(descending=True, stable=True)[: self.keep_after]
        return torch.cat(kept_boxes)[order]


def rpn_losses(
    logits: Tensor,  # (N,) of the sampled anchors
    deltas: Tensor,  # (N, 4)
    positive: Tensor,  # (N,) bool
    targets: Tensor,  # (P, 4) deltas of the positive ones
) -> tuple[Tensor, Tensor]:
    """Objectness (mean) and box loss (sum over positives / all sampled)."""
    objectness = F.binary_cross_entropy_with_logits(logits, positive.to(logits.dtype))
    box = F.smooth_l1_loss(deltas[positive], targets, beta=1 / 9, reduction="sum")
    return objectness, box / max(len(logits), 1)
