"""Deformable convolution (Dai et al. 2017) and backward warping."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sample(maps: Tensor, rows: Tensor, columns: Tensor, padding: str = "zeros") -> Tensor:
    """Read maps (B, C, H, W) bilinearly at cells (row, column), both (B, h, w): (B, C, h, w).

    Whole numbers are the centres of cells. Beyond the maps there is nothing, or with
    `padding="border"` the nearest cell. Places are fp32 at least: bf16 has none between 64 and
    64.5.
    """
    dtype = torch.promote_types(maps.dtype, torch.float32)
    height, width = maps.shape[-2:]
    places = torch.stack([columns.to(dtype) / width, rows.to(dtype) / height], -1)
    half = places.new_tensor([1 / width, 1 / height])
    # unlike with align_corners, a map of one cell has a scale too
    grid = 2 * places + (half - 1)
    found = F.grid_sample(maps.to(dtype), grid, "bilinear", padding, align_corners=False)
    return found.to(maps.dtype)


def warp(maps: Tensor, flow: Tensor) -> Tensor:
    """Backward warping: out(y, x) = maps(y + flow_y, x + flow_x), the border repeated.

    maps (B, C, H, W); flow (B, 2, H, W) is x and y in cells, on the grid of what comes out:
    what has moved to the right by 3 cells is fetched with a flow of −3.
    """
    y, x = _cells(flow)
    return sample(maps, y + flow[:, 1].to(y.dtype), x + flow[:, 0].to(x.dtype), "border")


def deform_conv2d(
    x: Tensor,  # (B, C, H, W)
    offset: Tensor,  # (B, 2·k·k, h, w): y and x of every tap in cells, taps row by row
    weight: Tensor,  # (O, C, k, k)
    bias: Tensor | None = None,  # (O,)
    *,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Convolve (B, O, h, w) with taps moved by offsets, stride 1; nothing is outside the map.

    The arguments and the result are torchvision's.
    """
    taps = weight.shape[-2] * weight.shape[-1]
    y, x0 = _cells(offset)
    k = torch.arange(taps, device=x.device)
    down = (k // weight.shape[-1] * dilation - padding).to(y.dtype)[:, None, None]
    right = (k % weight.shape[-1] * dilation - padding).to(y.dtype)[:, None, None]
    moved = offset.to(y.dtype).unflatten(1, (taps, 2))  # (B, k·k, 2, h, w)
    rows = (moved[:, :, 0] + (y + down)).flatten(1, 2)  # (B, k·k·h, w)
    columns = (moved[:, :, 1] + (x0 + right)).flatten(1, 2)
    read = sample(x, rows, columns).flatten(2).unflatten(2, (taps, -1))  # (B, C, k·k, h·w)
    out = weight.to(read.dtype).flatten(1) @ read.flatten(1, 2)  # (B, O, h·w)
    out = out.unflatten(2, tuple(offset.shape[-2:]))
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


class DeformConv2d(nn.Module):
    """A deformable convolution with predicted offsets, initialised as a regular convolution.

    Version 1: offsets only, no masks; stride 1, and padded to keep the size.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.padding, self.dilation = kernel // 2 * dilation, dilation
        self.offset = nn.Conv2d(
            inputs, 2 * kernel * kernel, kernel, padding=self.padding, dilation=dilation
        )
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Conv2d
        bound = 1 / math.sqrt(inputs * kernel * kernel)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        # x (B, C, H, W) -> (B, O, H, W)
        return deform_conv2d(
            x,
            self.offset(x),
            self.weight,
            self.bias,
            padding=self.padding,
            dilation=self.dilation,
        )


def _cells(like: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (h, 1) and columns (1, w) of the cells of a map (…, h, w)."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    y = torch.arange(like.shape[-2], device=like.device, dtype=dtype)
    x = torch.arange(like.shape[-1], device=like.device, dtype=dtype)
    return y[:, None], x[None]
