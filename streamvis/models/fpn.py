"""Feature pyramid network (Lin et al. 2017)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models.layers import FrozenBatchNorm2d, Separable


class FeaturePyramid(nn.Module):
    """Lateral 1×1, top-down nearest upsampling, 3×3 smoothing; one coarser map by subsampling.

    A light one smooths each channel alone before it mixes them, and leaves the finest map as it
    is: that one is only pooled, which smooths it too.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        channels: int,
        light: bool = False,
        norm_eps: float | None = None,  # None: no norms after the convolutions
    ) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(conv_block(i, channels, 1, norm_eps) for i in inputs)
        if light:
            coarse = [Separable(channels) for _ in inputs[1:]]
            self.layer_blocks = nn.ModuleList([nn.Identity(), *coarse])
        else:
            self.layer_blocks = nn.ModuleList(
                conv_block(channels, channels, 3, norm_eps) for _ in inputs
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        # maps fine to coarse; returns one more than it is given, all with `channels` channels
        inner = [block(x) for block, x in zip(self.inner_blocks, maps, strict=True)]
        for fine in range(len(inner) - 2, -1, -1):
            size = inner[fine].shape[-2:]
            inner[fine] = inner[fine] + F.interpolate(inner[fine + 1], size, mode="nearest")
        smooth = [block(x) for block, x in zip(self.layer_blocks, inner, strict=True)]
        return [*smooth, F.max_pool2d(smooth[-1], 1, 2)]


def conv_block(inputs: int, outputs: int, kernel: int, norm_eps: float | None) -> nn.Sequential:
    """A convolution with a bias, or with a norm in its place."""
    if norm_eps is None:
        return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, FrozenBatchNorm2d(outputs, norm_eps))
