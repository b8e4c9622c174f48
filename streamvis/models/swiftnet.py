"""SwiftNet (Oršić, Krešo, Bevandić, Šegvić, CVPR 2019) for semantic segmentation.

    model = load_segmenter("street-seg")
    features = model.features(model.normalise(pixels))  # (B, C, H/4, W/4)
    labels = model.full_size(model.logits(features), size).argmax(1)

An encoder down to stride 32 is followed by spatial pyramid pooling (SPP) and by three light
upsampling modules, each with a skip connection of its stride.

The pyramidal variant (Oršić & Šegvić, Pattern Recognition 2020) applies one encoder, with norms for
each level, to the image, its half and its quarter, sums maps of equal strides, and upsamples from
stride 128.

With the encoder HRNet, which keeps its resolution, the V2 head (Wang et al., TPAMI 2020) takes the
place of pooling and upsampling.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.messages import Array
from streamvis.models.efficientnet import EfficientNetLite0
from streamvis.models.hrnet import HrnetBody, HrnetConfig
from streamvis.models.hrnet_heads import V2Features
from streamvis.models.layers import per_level, set_level
from streamvis.models.resnet import ResNet18Whole

SLOW = 0.005  # momentum of the norms in the pyramid, which have few cells
GRIDS = (8, 4, 2)
STRIDE = 4  # of logits
LAST = 32  # stride of the last map of the encoder
MEAN, STD = (73.15, 82.90, 72.30), (47.67, 48.49, 47.73)  # of Cityscapes' RGB, for ResNet-18
Width = Annotated[int, Meta(ge=8, le=1024, multiple_of=2)]


class SwiftNetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The architecture of a segmenter, stored in weights files."""

    name: str
    body: Literal["efficientnet_lite0", "resnet18", "hrnet"]
    segments: Annotated[tuple[str, ...], Meta(min_length=2, max_length=250)]  # class names
    widths: tuple[Width, Width, Width] = (128, 128, 128)  # of the modules at strides 16, 8, 4
    lines: Annotated[int, Meta(ge=64, le=4096)] = 360  # height in px of training images
    outliers: bool = False  # with a second head for out-of-distribution pixels
    outlier_widths: tuple[Width, ...] = ()  # of dilated convolutions for its context
    levels: Annotated[int, Meta(ge=1, le=4)] = 1  # of the image pyramid, each half the previous one
    trunk_width: Annotated[int, Meta(ge=8, le=128)] = 48  # of HRNet, at stride 4
    skips: bool = True  # False: features (input of forecasters) are those of SPP at stride 32

    def __post_init__(self) -> None:
        if self.levels > 1 and len(set(self.widths)) > 1:
            raise ValueError("a pyramid sums maps of all strides: its `widths` have to be equal")
        if not self.skips and (self.levels > 1 or self.outliers):
            raise ValueError("`skips: false` goes with one level and without `outliers`")
        if self.body == "hrnet" and (self.levels > 1 or not self.skips):
            raise ValueError("the encoder hrnet goes with one level and with `skips`")


def bn_relu_conv(
    inputs: int, outputs: int, kernel: int, momentum: float = 0.1, dilation: int = 1
) -> nn.Sequential:
    norm = nn.BatchNorm2d(inputs, momentum=momentum)
    around = kernel // 2 * dilation
    conv = nn.Conv2d(inputs, outputs, kernel, padding=around, dilation=dilation, bias=False)
    return nn.Sequential(norm, nn.ReLU(), conv)


class SpatialPyramid(nn.Module):
    """Spatial pyramid pooling: means over coarse grids, concatenated with the map and mixed."""

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


def outlier_head(inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Return a head for inlier and outlier logits; with widths, with context at half resolution."""
    if not widths:
        return head(inputs, 2)
    wider = [
        bn_relu_conv(before, width, 3, dilation=1 << index)
        for index, (before, width) in enumerate(pairwise((inputs, *widths)))
    ]
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return nn.Sequential(nn.AvgPool2d(2), *wider, head(widths[-1], 2), up)


class Grow(nn.Module):
    """Upsample a coarse map to twice its size, without a skip connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.blend = bn_relu_conv(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        # x (B, inputs, h, w) -> (B, outputs, 2h, 2w)
        size = (2 * x.shape[-2], 2 * x.shape[-1])
        return self.blend(F.interpolate(x, size, mode="bilinear", align_corners=False))


class SwiftNet(nn.Module):
    """Images to a feature map at stride 4, with heads for class and outlier logits."""

    def __init__(self, architecture: SwiftNetConfig) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.body = trunk(a)
        self.cell = LAST << a.levels - 1  # px; sides of images are padded to multiples of it
        self.stride = STRIDE if a.skips else LAST  # of the features
        strides = self.body.channels
        widths = (a.widths[0], *a.widths)
        plain = a.levels == 1 and a.body != "hrnet"
        if plain:
            self.spp = SpatialPyramid(strides[3], widths[0])
        if plain and a.skips:
            self.up = nn.ModuleList(
                Upsample(widths[i], strides[2 - i], widths[i + 1]) for i in range(3)
            )
        if a.levels > 1:
            blends = len(strides) + a.levels - 2
            self.taps = nn.ModuleList(nn.Conv2d(c, widths[0], 1, bias=False) for c in strides)
            self.blends = nn.ModuleList(
                bn_relu_conv(widths[0], widths[0], 3) for _ in range(blends)
            )
        self.channels = widths[3] if a.skips else widths[0]  # of the features
        if a.body == "hrnet":
            self.v2 = V2Features(strides)
            self.channels = self.v2.channels
            self.classes = nn.Sequential(nn.Conv2d(self.channels, len(a.segments), 1))
        else:
            self.classes = head(widths[3], len(a.segments))
        if not a.skips:
            ladder = [Grow(widths[i], widths[i + 1]) for i in range(3)]
            self.classes = nn.Sequential(*ladder, *self.classes)
        self.unknown = outlier_head(self.channels, a.outlier_widths) if a.outliers else None
        # scaled in Python: arithmetic on the meta device takes seconds
        mean, std = (torch.tensor([255 * x for x in v]) for v in (self.body.mean, self.body.std))
        if a.body == "resnet18":
            mean, std = torch.tensor(MEAN), torch.tensor(STD)
        self.register_buffer("mean", mean[:, None, None], False)
        self.register_buffer("std", std[:, None, None], False)

    mean: Tensor
    std: Tensor

    def normalise(self, pixels: Array | Tensor) -> Tensor:
        """Normalise images (B, H, W, 3) uint8 RGB to network input, padded to whole cells."""
        if isinstance(pixels, np.ndarray):
            pixels = torch.from_numpy(np.ascontiguousarray(pixels))
        x = pixels.to(self.mean.device).permute(0, 3, 1, 2).float()
        x = (x - self.mean) / self.std
        height, width = int(x.shape[2]), int(x.shape[3])
        return F.pad(x, (0, -width % self.cell, 0, -height % self.cell))  # (B, 3, H', W')

    def features(self, x: Tensor) -> Tensor:
        """Compute the features, the input of the heads and of forecasters."""
        # x (B, 3, H, W), H and W multiples of `cell`
        if self.architecture.levels > 1:
            return self._fused(x)
        maps = self.body(x)
        if self.architecture.body == "hrnet":
            return self.v2(maps)
        y = self.spp(maps[3])
        if self.architecture.skips:
            for module, skip in zip(self.up, reversed(maps[:3]), strict=True):
                y = module(y, skip)
        return y  # (B, C, H/stride, W/stride)

    def _fused(self, x: Tensor) -> Tensor:
        """Compute features (B, C, H/4, W/4) of an image pyramid."""
        sums: dict[int, Tensor] = {}  # by stride
        for level in range(self.architecture.levels):
            size = (int(x.shape[2]) >> level, int(x.shape[3]) >> level)
            smaller = F.interpolate(x, size, mode="bicubic", align_corners=False) if level else x
            set_level(self.body, level)
            for index, (tap, y) in enumerate(zip(self.taps, self.body(smaller), strict=True)):
                stride = STRIDE << index + level
                sums[stride] = tap(y) + sums[stride] if stride in sums else tap(y)
        coarse, *finer = (sums[stride] for stride in sorted(sums, reverse=True))
        for blend, skip in zip(self.blends, finer, strict=True):
            up = F.interpolate(coarse, skip.shape[-2:], mode="bilinear", align_corners=False)
            coarse = blend(up + skip)
        return coarse

    def logits(self, features: Tensor) -> Tensor:
        """Return class logits (B, K, H/4, W/4)."""
        return self.classes(features)

    def strangeness(self, features: Tensor) -> Tensor:
        """Return inlier and outlier logits (B, 2, H/4, W/4)."""
        if self.unknown is None:
            raise ValueError(f"{self.architecture.name} has no head for outliers")
        return self.unknown(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))


def trunk(architecture: SwiftNetConfig) -> EfficientNetLite0 | ResNet18Whole | HrnetBody:
    """Return the encoder; in a pyramid its norms are per level, except those of shortcuts."""
    body: EfficientNetLite0 | ResNet18Whole | HrnetBody
    if architecture.body == "hrnet":
        return HrnetBody(HrnetConfig("hrnet", architecture.trunk_width), nn.BatchNorm2d)
    if architecture.body == "resnet18":
        body = ResNet18Whole(train_norms=True, sums=True)
    else:
        body = EfficientNetLite0()
    if architecture.levels > 1:
        per_level(body, architecture.levels, shared="downsample")
    return body


def full_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample maps (B, K, h, w) at stride 4 of padded images to the image size (B, K, H, W)."""
    shape = (int(maps.shape[2]) * STRIDE, int(maps.shape[3]) * STRIDE)
    return F.interpolate(maps, shape, mode="bilinear", align_corners=False)[
        :, :, : size[0], : size[1]
    ]
