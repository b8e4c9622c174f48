"""SwiftNet (Oršić, Krešo, Bevandić, Šegvić, CVPR 2019): what every pixel of a scene is.

    model = load_segmenter("street-seg")
    features = model.features(model.normalise(pixels))  # (B, C, H/4, W/4)
    labels = model.full_size(model.logits(features), size).argmax(1)

A trunk goes down to stride 32, pooling over grids gives it the whole picture (SPP), and three
light modules come back up, each adding the trunk's map of its stride.
"""

from typing import Annotated, Literal, Protocol, cast

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.messages import Array
from streamvis.models.efficientnet import EfficientNetLite0

SLOW = 0.005  # momentum of the norms in the pyramid, which see few cells
GRIDS = (8, 4, 2)
STRIDE = 4  # of the map that logits are read from
Width = Annotated[int, Meta(ge=8, le=1024, multiple_of=2)]


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that tells one segmenter from another; weights files carry it."""

    name: str
    body: Literal["efficientnet_lite0"]
    segments: Annotated[tuple[str, ...], Meta(min_length=2, max_length=250)]  # class names
    widths: tuple[Width, Width, Width] = (128, 128, 128)  # of the modules at strides 16, 8, 4
    lines: Annotated[int, Meta(ge=64, le=4096)] = 360  # height in px of the pictures learnt from
    outliers: bool = False  # a second head says what belongs to no class


class Trunk(Protocol):
    """What a segmenter needs of its encoder."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: tuple[int, ...]  # of the maps at strides 4, 8, 16, 32

    def __call__(self, x: Tensor) -> list[Tensor]: ...


def bn_relu_conv(inputs: int, outputs: int, kernel: int, momentum: float = 0.1) -> nn.Sequential:
    norm = nn.BatchNorm2d(inputs, momentum=momentum)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(norm, nn.ReLU(), conv)


class SpatialPyramid(nn.Module):
    """Means over coarse grids beside the map itself, mixed."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        level = width // len(GRIDS)
        self.squeeze = bn_relu_conv(inputs, width, 1, SLOW)
        self.levels = nn.ModuleList(bn_relu_conv(width, level, 1, SLOW) for _ in GRIDS)
        self.mix = bn_relu_conv(width + len(GRIDS) * level, width, 1, SLOW)

    def forward(self, x: Tensor) -> Tensor:
        # x (B, inputs, h, w)
        x = self.squeeze(x)  # (B, width, h, w)
        height, width = x.shape[-2:]
        maps = [x]
        for grid, level in zip(GRIDS, self.levels, strict=True):
            cells = (grid, max(1, round(grid * int(width) / int(height))))
            pooled = level(F.adaptive_avg_pool2d(x, cells))
            maps.append(F.interpolate(pooled, (height, width), mode="bilinear"))
        return self.mix(torch.cat(maps, 1))  # (B, width, h, w)


class Upsample(nn.Module):
    """Bring a coarse map up to its skip connection and blend the two."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.bottleneck = bn_relu_conv(skip, inputs, 1)
        self.blend = bn_relu_conv(inputs, outputs, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # x (B, inputs, h, w), skip (B, skip, 2h, 2w)
        skip = self.bottleneck(skip)  # (B, inputs, 2h, 2w)
        x = F.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.blend(x + skip)  # (B, outputs, 2h, 2w)


def head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1))


class SwiftNet(nn.Module):
    """Pictures in; a map at stride 4 out, from which logits of classes and outliers are read."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.body = EfficientNetLite0()
        channels = self.body.channels
        widths = (architecture.widths[0], *architecture.widths)
        self.spp = SpatialPyramid(channels[3], widths[0])
        self.up = nn.ModuleList(
            Upsample(widths[i], channels[2 - i], widths[i + 1]) for i in range(3)
        )
        self.channels = widths[3]
        self.classes = head(self.channels, len(architecture.segments))
        self.unknown = head(self.channels, 2) if architecture.outliers else None
        trunk = cast(Trunk, self.body)
        self.register_buffer("mean", torch.tensor(trunk.mean)[:, None, None] * 255, False)
        self.register_buffer("std", torch.tensor(trunk.std)[:, None, None] * 255, False)

    mean: Tensor
    std: Tensor

    def normalise(self, pixels: Array | Tensor) -> Tensor:
        """Pictures (B, H, W, 3) uint8 RGB as the network takes them, padded to whole cells."""
        if isinstance(pixels, np.ndarray):
            pixels = torch.from_numpy(np.ascontiguousarray(pixels))
        x = pixels.to(self.mean.device).permute(0, 3, 1, 2).float()
        x = (x - self.mean) / self.std
        height, width = int(x.shape[2]), int(x.shape[3])
        return F.pad(x, (0, -width % 32, 0, -height % 32))  # (B, 3, H', W')

    def features(self, x: Tensor) -> Tensor:
        """The map that everything is read from, and that forecasters forecast."""
        # x (B, 3, H, W), H and W multiples of 32
        maps = self.body(x)
        y = self.spp(maps[3])
        for module, skip in zip(self.up, reversed(maps[:3]), strict=True):
            y = module(y, skip)
        return y  # (B, C, H/4, W/4)

    def logits(self, features: Tensor) -> Tensor:
        """Of each class, (B, K, H/4, W/4)."""
        return self.classes(features)

    def strangeness(self, features: Tensor) -> Tensor:
        """Logits of belonging to a class, and to none: (B, 2, H/4, W/4)."""
        if self.unknown is None:
            raise ValueError(f"{self.architecture.name} has no head for outliers")
        return self.unknown(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))


def full_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, K, h, w) at stride 4 of padded pictures, at the pictures' own size (B, K, H, W)."""
    shape = (int(maps.shape[2]) * STRIDE, int(maps.shape[3]) * STRIDE)
    return F.interpolate(maps, shape, mode="bilinear", align_corners=False)[
        :, :, : size[0], : size[1]
    ]
