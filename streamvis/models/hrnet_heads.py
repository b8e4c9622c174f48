"""Heads on HRNet's four maps (Wang et al., TPAMI 2020): V2 to label pixels, V2p to find boxes.

Both bring all maps to stride 4 and concatenate them, so that 15 times the width of the finest one
is left.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models.resnet import EPS

LEVELS = 5  # of the pyramid, at strides 4 to 64


def concatenated(maps: Sequence[Tensor]) -> Tensor:
    """Upsample maps (B, C_i, h_i, w_i) to the first, the finest, and concatenate their channels."""
    size = maps[0].shape[-2:]
    coarse = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in maps[1:]]
    return torch.cat([maps[0], *coarse], 1)  # (B, ΣC_i, h, w)


class V2Features(nn.Module):
    """Mix the concatenated maps by a 1×1 convolution, norm and ReLU: V2 before its last layer."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = sum(channels)
        self.mix = nn.Conv2d(self.channels, self.channels, 1)
        self.mix_bn = nn.BatchNorm2d(self.channels, EPS)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return F.relu(self.mix_bn(self.mix(concatenated(maps))))  # (B, ΣC_i, h, w)


class V2Pyramid(nn.Module):
    """Reduce the concatenated maps by a 1×1 convolution and average them down: V2p.

    Each level is smoothed by a 3×3 convolution of its own.
    """

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(sum(inputs), channels, 1)
        self.smooth = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(LEVELS)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        # maps fine to coarse; returns LEVELS maps, of which the last is half of the coarsest
        x = self.reduction(concatenated(maps))
        pooled = [x, *(F.avg_pool2d(x, 1 << n, ceil_mode=True) for n in range(1, LEVELS))]
        return [block(x) for block, x in zip(self.smooth, pooled, strict=True)]
