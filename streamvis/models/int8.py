"""Int8 arithmetic of a detector's convolutions, from the ranges that their inputs had.

    ranges = measure_ranges(model, pictures)  # once, on pictures of the training set
    quantise(model, ranges)  # its dense part then rounds as int8 does

The rounding is a part of the torch module: it says what int8 computes, and OpenVINO, which converts
the module, finds convolutions in it that it runs in int8. Inputs have 256 steps over the range of
their layer, kernels 255 over the range of each output channel.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from streamvis.errors import DataError, WeightsError
from streamvis.files import replace, sha256_of
from streamvis.models.layers import fuse
from streamvis.models.mask_rcnn import MaskRcnn

MAKE = "make it with: streamvis train int8 WEIGHTS --data FOLDER"
LARGEST = 1 << 20  # bytes of a file of ranges
TOP = 127  # of the kernels' whole numbers
TINY = 1e-8
# Their outputs are scores and offsets of boxes, which rounding would move, and they cost little
EXACT = re.compile(r"rpn\.head\.(cls_logits|bbox_pred)$")
Bound = Annotated[float, Meta(ge=-1e9, le=1e9)]
Ranges = Mapping[str, tuple[float, float]]  # name of a convolution -> least and largest input


class Int8File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of ranges holds."""

    weights_sha256: str  # of the file whose network they were measured in
    pictures: int
    ranges: Annotated[dict[str, tuple[Bound, Bound]], Meta(min_length=1, max_length=10_000)]


def int8_path(weights: Path) -> Path:
    """Return where the ranges of these weights lie: beside them."""
    return weights.with_suffix(".int8.json")


def read_ranges(weights: Path) -> Ranges:
    """Return the ranges that were measured for these weights; WeightsError without them."""
    path = int8_path(weights)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise WeightsError(
            f"{path}: {reason}; int8 needs the ranges of the network's values: {MAKE}"
        ) from None
    try:
        held = msgspec.json.decode(data, type=Int8File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WeightsError(f"{path} is not a file of ranges ({error}); {MAKE}") from None
    if held.weights_sha256 != sha256_of(weights):
        raise WeightsError(f"{path} was made for other weights than {weights.name}; {MAKE}")
    return held.ranges


def write_ranges(weights: Path, ranges: Ranges, pictures: int, out: Path) -> None:
    """Write the ranges of these weights, one layer a line."""
    held = Int8File(sha256_of(weights), pictures, dict(ranges))
    text = msgspec.json.format(msgspec.json.encode(held), indent=1)
    lines = re.sub(rb"\[\s+([^\]\s]+),\s+([^\]\s]+)\s+\]", rb"[\1, \2]", text)
    try:
        replace(out, lines + b"\n")
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}") from None


@torch.inference_mode()
def measure_ranges(model: MaskRcnn, pictures: Iterable[Tensor]) -> Ranges:
    """Return the mean least and mean largest input of each convolution, and 0 within.

    pictures: (3, H, W) uint8. The mean, as rare values of single pictures would make all steps
    coarse. A layer that several maps pass has one range for all of them. Norms are folded.
    """
    fuse(model)
    layers, seen = convolutions(model), dict[str, tuple[float, float]]()

    def note(name: str, x: Tensor) -> None:
        low, high = seen.get(name, (0.0, 0.0))
        least, largest = (float(bound) for bound in x.aminmax())
        seen[name] = min(low, least), max(high, largest)

    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: note(name, given[0]))
        for name, layer in layers.items()
    ]
    sums, count = dict.fromkeys(layers, (0.0, 0.0)), 0
    try:
        for picture in pictures:
            seen.clear()
            model.dense(model.prepare([picture])[0])
            sums = {n: (low + seen[n][0], high + seen[n][1]) for n, (low, high) in sums.items()}
            count += 1
    finally:
        for hook in hooks:
            hook.remove()
    if not count:
        raise DataError("there are no pictures to measure ranges on; expected 1 or more")
    return {n: (float(f"{a / count:.5g}"), float(f"{b / count:.5g}")) for n, (a, b) in sums.items()}


def convolutions(model: MaskRcnn) -> dict[str, nn.Conv2d]:
    """Return the convolutions of the dense part that run in int8."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        and name.startswith(("backbone.", "rpn."))
        and not EXACT.search(name)
    }


def quantise(model: MaskRcnn, ranges: Ranges) -> None:
    """Let the dense part, whose norms are folded, round as int8 does; raises WeightsError."""
    layers = convolutions(model)
    if ranges.keys() != layers.keys():
        odd = min(ranges.keys() ^ layers.keys())
        raise WeightsError(
            f"ranges of int8: {len(ranges)} layers, expected the {len(layers)} of the network; "
            f"one that only one of them has: '{odd[:80]}'; {MAKE}"
        )
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Int8Convolution(layer, *ranges[name]))


class Int8Convolution(nn.Module):
    """A convolution of rounded inputs and a rounded kernel."""

    steps: Tensor
    zeros: Tensor

    def __init__(self, layer: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.layer = layer
        self.step = max(high - low, TINY) / 255
        self.zero = min(max(round(-low / self.step), 0), 255)  # the whole number that means 0
        steps = layer.weight.detach().abs().amax((1, 2, 3)).clamp_min(TINY) / TOP
        self.register_buffer("steps", steps)  # of the kernel, (C,)
        self.register_buffer("zeros", torch.zeros(len(steps), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, 0, 255)
        layer = self.layer
        kernel = torch.fake_quantize_per_channel_affine(
            layer.weight, self.steps, self.zeros, 0, -TOP, TOP
        )
        return layer._conv_forward(x, kernel, layer.bias)
