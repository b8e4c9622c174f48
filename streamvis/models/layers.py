"""Small blocks that several networks share."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def constant(values: tuple[float, ...] | tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    """Return a tensor of these values, of the type and on the device of `like`.

    It is made once for each type and device: making it copies from the host, which waits for a GPU
    and has no place in a CUDA graph. It is never freed, because graphs know its address.
    """
    return _constant(values, like.dtype, like.device)


@cache
def _constant(
    values: tuple[float, ...] | tuple[tuple[float, ...], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    with torch.inference_mode(False):  # training may use it as well
        return torch.tensor(values, dtype=dtype, device=device)


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and affine: y = x·scale + shift, per channel."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 0.0) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift, (C,) each."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.affine()
        return x * scale[:, None, None] + shift[:, None, None]


class LevelNorms(nn.Module):
    """A norm for each level of a pyramid whose convolutions are shared; `set_level` chooses."""

    def __init__(self, channels: int, eps: float, levels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, eps) for _ in range(levels))
        self.level = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[self.level](x)


def set_level(model: nn.Module, level: int) -> None:
    """Have every norm of the model be that of this level."""
    for module in model.modules():
        if isinstance(module, LevelNorms):
            module.level = level


def per_level(model: nn.Module, levels: int, shared: str) -> None:
    """Give the model a norm for each level in place of one, but inside modules named `shared`."""
    for name, module in model.named_children():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            channels = len(module.running_mean)  # type: ignore[arg-type]
            setattr(model, name, LevelNorms(channels, module.eps, levels))
        elif name != shared:
            per_level(module, levels, shared)


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """Convolve and normalise in one pass: a frozen norm is folded into the kernel, not the map.

    The kernel is thousands of times smaller than the map, so folding anew at each call is
    cheap in training; `fuse` does it once for inference and leaves an identity behind.
    """
    if not isinstance(norm, FrozenBatchNorm2d):
        return norm(conv(x))
    scale, shift = folded(conv, norm)
    return convolve(x, conv, conv.weight * scale[:, None, None, None], shift)


def folded(conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> tuple[Tensor, Tensor]:
    """What the norm does to the kernel, and the bias of both: (C,) each."""
    scale, shift = norm.affine()
    return scale, shift if conv.bias is None else shift + conv.bias * scale


def convolve(x: Tensor, conv: nn.Conv2d, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Apply `conv` with another kernel and bias."""
    if conv.groups > 1 and x.requires_grad and x.device.type == "cpu":
        # oneDNN's backward of bf16 depthwise convolutions is 4 to 5 times slower than fp32's
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x.float(), kernel, bias, conv.stride, conv.padding, 1, conv.groups)
    return F.conv2d(x, kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


class Separable(nn.Module):
    """A 5×5 filter for each channel, then a 1×1 mix: an eighth of the work of a dense 3×3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # x (B, C, H, W)
        if not x.requires_grad:
            return self.mix(self.depthwise(x))
        return self.mix(convolve(x, self.depthwise, self.depthwise.weight, self.depthwise.bias))


@torch.no_grad()
def fold(conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> nn.Conv2d:
    """The convolution that does both."""
    scale, shift = folded(conv, norm)
    conv.weight.mul_(scale[:, None, None, None])
    conv.bias = nn.Parameter(shift.clone())
    return conv


PAIRS = (
    ("conv1", "bn1"),
    ("conv2", "bn2"),
    ("conv3", "bn3"),
    ("0", "1"),  # of a shortcut
    ("stem", "stem_norm"),
    ("expand", "expand_norm"),
    ("depthwise", "depthwise_norm"),
    ("project", "project_norm"),
    ("head", "head_norm"),
)


def fuse(model: nn.Module) -> nn.Module:
    """Fold every frozen norm into its convolution, for inference; the model is changed."""
    for module in model.modules():
        called_alike = [(name, f"{name}_bn") for name, _ in module.named_children()]
        for conv_name, norm_name in (*PAIRS, *called_alike):
            conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                fold(conv, norm)
                setattr(module, norm_name, nn.Identity())
    return model
