"""BN-Inception (Ioffe & Szegedy 2015) as temporal segment networks use it (Wang et al. 2016).

Layers are called as in the Caffe files, `/` written `_`, so published TSN weights fit by name.
Pooling rounds up, as Caffe's does: 224 px give 28, 14 and 7 cells.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models.layers import FrozenBatchNorm2d, conv_norm

EPS = 1e-5

Pool = Literal["avg", "max", "max_reduce"]
Cell = tuple[int, tuple[int, int], tuple[int, int], Pool, int]
# 1×1, (3×3 reduce, 3×3), (double reduce, double), pool, its projection; 0: there is none.
# `max_reduce` cells halve the map.
CELLS: dict[str, Cell] = {
    "3a": (64, (64, 64), (64, 96), "avg", 32),
    "3b": (64, (64, 96), (64, 96), "avg", 64),
    "3c": (0, (128, 160), (64, 96), "max_reduce", 0),
    "4a": (224, (64, 96), (96, 128), "avg", 128),
    "4b": (192, (96, 128), (96, 128), "avg", 128),
    "4c": (160, (128, 160), (128, 160), "avg", 128),
    "4d": (96, (128, 192), (160, 192), "avg", 128),
    "4e": (0, (128, 192), (192, 256), "max_reduce", 0),
    "5a": (352, (192, 320), (160, 224), "avg", 128),
    "5b": (352, (192, 320), (192, 224), "max", 128),
}
TAPS = (("3a", "3b"), ("3c", "4a", "4b", "4c", "4d"), ("5a", "5b"))


def width(cell: str, inputs: int) -> int:
    """Channels that a cell gives."""
    one, (_, three), (_, double), pool, projected = CELLS[cell]
    return one + three + double + (inputs if pool == "max_reduce" else projected)


class BnInception(nn.Module):
    """The trunk, giving the nine maps that OFF taps; the last is also what is classified."""

    mean = (104 / 255, 117 / 255, 123 / 255)  # blue, green, red
    std = (1 / 255,) * 3
    bgr = True
    skip = 0

    def __init__(self, inputs: int = 3) -> None:
        super().__init__()
        self._add("conv1_7x7_s2", inputs, 64, 7, 2)
        self._add("conv2_3x3_reduce", 64, 64, 1)
        self._add("conv2_3x3", 64, 192, 3)
        channels, tapped = 192, {}
        for name in CELLS:
            self._add_cell(name, channels)
            channels = tapped[name] = width(name, channels)
        self.levels = tuple(tuple(tapped[name] for name in level) for level in TAPS)
        self.outputs = channels

    def _add(self, name: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2))
        self.add_module(f"{name}_bn", FrozenBatchNorm2d(outputs, EPS))

    def _add_cell(self, name: str, inputs: int) -> None:
        one, (reduce, three), (double_reduce, double), pool, projected = CELLS[name]
        stride, at = 2 if pool == "max_reduce" else 1, f"inception_{name}"
        if one:
            self._add(f"{at}_1x1", inputs, one, 1)
        self._add(f"{at}_3x3_reduce", inputs, reduce, 1)
        self._add(f"{at}_3x3", reduce, three, 3, stride)
        self._add(f"{at}_double_3x3_reduce", inputs, double_reduce, 1)
        self._add(f"{at}_double_3x3_1", double_reduce, double, 3)
        self._add(f"{at}_double_3x3_2", double, double, 3, stride)
        if projected:
            self._add(f"{at}_pool_proj", inputs, projected, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        # x (B, inputs, H, W)
        x = F.max_pool2d(self._conv(x, "conv1_7x7_s2"), 3, 2, ceil_mode=True)
        x = self._conv(self._conv(x, "conv2_3x3_reduce"), "conv2_3x3")
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)  # (B, 192, H/8, W/8)
        maps = []
        for name in CELLS:
            x = self._cell(x, name)
            if name != "4e":
                maps.append(x)
        return maps

    def _conv(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            conv, norm = self.get_submodule(name), self.get_submodule(f"{name}_bn")
            assert isinstance(conv, nn.Conv2d)
            x = F.relu(conv_norm(x, conv, norm))
        return x

    def _cell(self, x: Tensor, name: str) -> Tensor:
        one, _, _, pool, projected = CELLS[name]
        at = f"inception_{name}"
        parts = [self._conv(x, f"{at}_1x1")] if one else []
        parts.append(self._conv(x, f"{at}_3x3_reduce", f"{at}_3x3"))
        double = (f"{at}_double_3x3_reduce", f"{at}_double_3x3_1", f"{at}_double_3x3_2")
        parts.append(self._conv(x, *double))
        pooled = _pooled(x, pool)
        parts.append(self._conv(pooled, f"{at}_pool_proj") if projected else pooled)
        return torch.cat(parts, 1)


def _pooled(x: Tensor, pool: Pool) -> Tensor:
    if pool == "avg":
        return F.avg_pool2d(x, 3, 1, 1)  # cells beyond the border count as zeros, as in Caffe
    if pool == "max":
        return F.max_pool2d(x, 3, 1, 1)
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def from_tsn(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published TSN file's tensors by this module's names, without classifier and counters.

    Files differ in prefixes, and in an axis of length 1 before the numbers of norms.
    """
    renamed = {}
    for key, value in state.items():
        name = key.replace("/", "_").removeprefix("module.").removeprefix("base_model.")
        if name.startswith(("conv", "inception_")) and not name.endswith("num_batches_tracked"):
            renamed[name] = value.squeeze(0) if "_bn." in name and value.dim() == 2 else value
    return renamed
