"""HRNet (Sun, Xiao, Liu, Wang, CVPR 2019) for human pose: V1 as published, and a light one.

    network = Hrnet(ARCHITECTURES["hrnet-w32"])
    heatmaps = network.heatmaps(network.normalise(crops))  # (B, 17, H/4, W/4), peaks up to 1

A branch at stride 4 is kept from start to end; branches of half the resolution are added one by
one, and all of them exchange repeatedly. Tensors of the published networks have their names of
`pose_hrnet.py`: conv1, layer1, transition1, stage2.0.branches, stage2.0.fuse_layers, final_layer.

The light one makes each new branch with a stage of EfficientNet-Lite0, so that it starts from
trained weights; what it gives is the logarithm of a density over the cells.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.messages import Array
from streamvis.models.efficientnet import EfficientNetLite0, same_pad
from streamvis.models.layers import FrozenBatchNorm2d, constant, conv_norm
from streamvis.models.resnet import EPS, BasicBlock, Bottleneck

KEYPOINTS = 17  # of COCO
STRIDE = 4  # of the heatmaps
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation of RGB
TRUNK = ((3, 5), (5, 11), (11, 15))  # blocks of EfficientNet-Lite0 that begin each new branch
LIGHT = (40, 112, 192)  # their channels, at strides 8, 16 and 32
Norm = type[nn.Module]
Side = Annotated[int, Meta(ge=64, le=1024, multiple_of=32)]
Count = Annotated[int, Meta(ge=1, le=8)]


class HrnetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The architecture of a pose network, stored in weights files."""

    name: str
    width: Annotated[int, Meta(ge=8, le=128)]  # channels at stride 4
    keypoints: Annotated[int, Meta(ge=1, le=1000)] = KEYPOINTS
    size: tuple[Side, Side] = (256, 192)  # height and width of a crop in px
    modules: tuple[Count, Count, Count] = (1, 4, 3)  # of the stages with 2, 3 and 4 branches
    blocks: Count = 4  # of a branch in a module
    body: Literal["hrnet", "efficientnet_lite0"] = "hrnet"  # what makes the branches
    sigma: Annotated[float, Meta(ge=0.5, le=8)] = 2.0  # of a heatmap's peak, in cells

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Of the branches at strides 4, 8, 16 and 32."""
        if self.body == "hrnet":
            return (self.width, 2 * self.width, 4 * self.width, 8 * self.width)
        return (self.width, *LIGHT)

    @property
    def first_cell(self) -> float:
        """Where the centre of a heatmap's first cell is in a crop, px from its border."""
        return 0.5 if self.body == "hrnet" else STRIDE / 2  # the published code's convention


ARCHITECTURES = {
    "hrnet-w32": HrnetConfig(name="hrnet-w32", width=32),
    "hrnet-w48": HrnetConfig(name="hrnet-w48", width=48),
    "pose-lite": HrnetConfig(
        name="pose-lite", width=32, modules=(1, 1, 1), blocks=1, body="efficientnet_lite0"
    ),
}


LAST_BRANCH = "stage4.0.branches.3.0.conv1.weight"  # a tensor of every published network


def published(final: Tensor) -> HrnetConfig:
    """Return the architecture of a published network with this last kernel (K, W, 1, 1).

    Files do not say which size of crops they were trained on: 256×192 is assumed.
    """
    keypoints, width = final.shape[:2]
    return HrnetConfig(name=f"hrnet-w{width}", width=int(width), keypoints=int(keypoints))


def conv_bn(inputs: int, outputs: int, norm: Norm, stride: int = 1, relu: bool = True) -> nn.Module:
    """Return a 3×3 convolution with a norm, and ReLU if asked for."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return NormedConv(conv, norm(outputs, EPS), *([nn.ReLU()] if relu else []))


class NormedConv(nn.Sequential):
    """A convolution, its norm and what follows, by their indices."""

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, *rest = self
        assert isinstance(conv, nn.Conv2d)
        x = conv_norm(x, conv, norm)
        for module in rest:
            x = module(x)
        return x


class SumBlock(BasicBlock):
    """Two 3×3 around a shortcut, without a last ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return self.sums(x)


class HighResolutionModule(nn.Module):
    """Blocks for each branch, then every output is a sum over all branches.

    What comes from a coarser branch passes a 1×1 convolution and is repeated; what comes from a
    finer one passes 3×3 convolutions of stride 2, of which the last changes the width.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: int,
        norm: Norm,
        outputs: int,  # the finest so many branches are given
        linear: bool = False,  # no ReLU at the end of blocks and sums, but at the finest branch
    ) -> None:
        super().__init__()
        self.linear = linear
        kinds = [SumBlock if linear and i else BasicBlock for i in range(len(channels))]
        self.branches = nn.ModuleList(
            nn.Sequential(*(kind(c, c, 1, norm) for _ in range(blocks)))
            for kind, c in zip(kinds, channels, strict=True)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse_layer(channels, j, i, norm) for j in range(len(channels)))
            for i in range(outputs)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        # maps (B, C_i, H/2^i, W/2^i), fine to coarse
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for i, layers in enumerate(self.fuse_layers):
            assert isinstance(layers, nn.ModuleList)
            parts = [layer(x) for layer, x in zip(layers, maps, strict=True)]
            size = maps[i].shape[-2:]
            parts[i + 1 :] = [F.interpolate(x, size, mode="nearest") for x in parts[i + 1 :]]
            total = sum(parts[1:], parts[0])
            fused.append(total if self.linear and i else F.relu(total))
        return fused


def fuse_layer(channels: Sequence[int], j: int, i: int, norm: Norm) -> nn.Module:
    """Return what branch j passes on its way to branch i; coarse maps are repeated afterwards."""
    if j == i:
        return nn.Identity()
    if j > i:
        conv = nn.Conv2d(channels[j], channels[i], 1, bias=False)
        return NormedConv(conv, norm(channels[i], EPS))
    steps = [conv_bn(channels[j], channels[j], norm, 2) for _ in range(i - j - 1)]
    return nn.Sequential(*steps, conv_bn(channels[j], channels[i], norm, 2, relu=False))


class HrnetBody(nn.Module):
    """Images to maps at strides 4, 8, 16 and 32, of which the finest `outputs` are given."""

    strides = (4, 8, 16, 32)
    bgr = False

    def __init__(self, architecture: HrnetConfig, norm: Norm, outputs: int = 4) -> None:
        super().__init__()
        a = architecture
        self.channels = a.channels
        self.trunk: EfficientNetLite0 | None = None
        if a.body == "hrnet":
            self._add_published(norm)
        else:
            self.trunk = EfficientNetLite0()
            del self.trunk.blocks[TRUNK[-1][1] :]
            self.transition1 = nn.ModuleList([conv_bn(24, a.width, norm)])
        for index, modules in enumerate(a.modules):
            there = a.channels[: index + 2]
            given = [len(there)] * modules
            if index == len(a.modules) - 1:
                given[-1] = outputs
            linear = self.trunk is not None
            stage = [HighResolutionModule(there, a.blocks, norm, n, linear) for n in given]
            self.add_module(f"stage{index + 2}", nn.Sequential(*stage))

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the trained images, RGB in [0, 1]."""
        return IMAGENET[0] if self.trunk is None else self.trunk.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Deviation of the trained images."""
        return IMAGENET[1] if self.trunk is None else self.trunk.std

    def _add_published(self, norm: Norm) -> None:
        channels = self.channels
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = norm(64, EPS)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = norm(64, EPS)
        blocks = [Bottleneck(64 if i == 0 else 256, 64, 1, EPS, norm) for i in range(4)]
        self.layer1 = nn.Sequential(*blocks)
        finest = conv_bn(256, channels[0], norm)
        self.transition1 = nn.ModuleList([finest, new_branch(256, channels[1], norm)])
        for n in (2, 3):
            kept = [nn.Identity() for _ in range(n)]
            added = new_branch(channels[n - 1], channels[n], norm)
            self.add_module(f"transition{n}", nn.ModuleList([*kept, added]))

    def forward(self, x: Tensor) -> list[Tensor]:
        # x (B, 3, H, W), H and W multiples of 32 -> (B, C_i, H/4/2^i, W/4/2^i)
        x = self.stem(x)
        maps = [self.transition1[0](x)]
        for index in range(3):
            maps.append(self._coarser(index, maps[-1] if index else x))
            maps = self.get_submodule(f"stage{index + 2}")(maps)
        return maps

    def stem(self, x: Tensor) -> Tensor:
        """Compute the map at stride 4, of which the first two branches are made."""
        if self.trunk is None:
            x = F.relu(conv_norm(x, self.conv1, self.bn1))
            x = F.relu(conv_norm(x, self.conv2, self.bn2))
            return self.layer1(x)  # (B, 256, H/4, W/4)
        x = same_pad(x, 3, 2)
        x = F.relu6(conv_norm(x, self.trunk.stem, self.trunk.stem_norm), inplace=True)
        for block in self.trunk.blocks[: TRUNK[0][0]]:
            x = block(x)
        return x  # (B, 24, H/4, W/4)

    def _coarser(self, index: int, x: Tensor) -> Tensor:
        """Begin the next branch, at half the resolution of x."""
        if self.trunk is None:
            return self.get_submodule(f"transition{index + 1}.{index + 1}")(x)
        for block in self.trunk.blocks[slice(*TRUNK[index])]:
            x = block(x)
        return x


class Hrnet(HrnetBody):
    """Crops of people to a map for each keypoint, at stride 4."""

    def __init__(self, architecture: HrnetConfig, train_norms: bool = False) -> None:
        # only the finest branch is read in the end
        super().__init__(architecture, nn.BatchNorm2d if train_norms else FrozenBatchNorm2d, 1)
        self.architecture = architecture
        self.final_layer = nn.Conv2d(architecture.width, architecture.keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        # x (B, 3, H, W) as `normalise` gives them -> (B, keypoints, H/4, W/4)
        return self.final_layer(super().forward(x)[0])

    def heatmaps(self, x: Tensor) -> Tensor:
        """Compute heatmaps whose peaks say how sure they are, at most about 1."""
        maps = self(x).float()
        if self.trunk is None:
            return maps
        # a density that is a Gaussian of the trained size has a peak of 1
        peak = 2 * math.pi * self.architecture.sigma**2
        return maps.flatten(2).softmax(2).view_as(maps) * peak

    def normalise(self, crops: Array | Tensor) -> Tensor:
        """Normalise crops (B, H, W, 3) uint8 RGB to network input (B, 3, H, W) float32."""
        if isinstance(crops, np.ndarray):
            crops = torch.from_numpy(np.ascontiguousarray(crops))
        x = crops.permute(0, 3, 1, 2).float() / 255
        mean, std = (constant(v, x)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std


def new_branch(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    """Return a convolution of stride 2 with norm and ReLU, nested as in the published files."""
    return nn.Sequential(conv_bn(inputs, outputs, norm, 2))
