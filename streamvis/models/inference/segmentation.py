"""A segmenter made quick where it runs: a picture of any size in, what every pixel of it is out.

    scene = accelerate_segmenter(load_segmenter("street-seg"), "cpu")
    seen = scene.look(pixels)  # (H, W, 3) uint8 RGB
    told = scene.read(future, seen.classes.shape)  # of features that a forecaster told

A picture's result depends on that picture alone, and is the same each time on one engine.
Engines, precisions and numbers of threads round differently: a pixel in some hundreds, all at
boundaries, may get another class.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from streamvis.messages import Array
from streamvis.models.inference.select import Engine, Precision, choose
from streamvis.models.layers import fuse
from streamvis.models.swiftnet import STRIDE, SwiftNet, SwiftNetConfig, full_size
from streamvis.models.upsample_argmax import upsample_argmax

if TYPE_CHECKING:
    from streamvis.models.inference.openvino import CompiledPlan

Size = tuple[int, int]  # height, width
MOST_SIZES = 4  # sizes of pictures for which a compiled network is kept


class SegmentedFrame(NamedTuple):
    """What was made of one picture, in memory of its own."""

    features: Tensor  # (1, C, h, w) at stride 4 of the padded picture, on the network's device
    classes: Array  # (H, W) uint8, the likeliest, at the size that the network looks at
    unknown: Array  # (⌈H/4⌉, ⌈W/4⌉) uint8, 255·probability of no class; (0, 0) of a plain one


class ClassMaps(NamedTuple):
    """What features say, in memory of its own."""

    classes: Array  # (H, W) uint8, as of a picture
    shares: Array  # (K, ⌈H/4⌉, ⌈W/4⌉) float32, probabilities of the classes


class SegmentationNetwork(Protocol):
    """What a stage needs of a segmenter, whatever computes it."""

    architecture: SwiftNetConfig
    dtype: torch.dtype  # of features
    lines: int  # height of the pictures it looks at

    def segment(self, pixels: Array) -> SegmentedFrame:
        """A picture (H, W, 3) uint8 RGB of any size."""

    def decode(self, features: Tensor, size: Size) -> ClassMaps:
        """Features (1, C, h, w), told of a picture that was looked at in `size`."""


def accelerate_segmenter(
    model: SwiftNet,
    device: str,
    precision: Precision = "auto",
    engine: Engine = "auto",
    lines: int | None = None,  # px; None: as trained
) -> SegmentationNetwork:
    """Fold norms, compute in bf16 where the hardware has it, compiled if possible.

    The model is taken over.
    """
    engine, dtype = choose(device, precision, engine)
    fuse(model)
    model.eval().requires_grad_(False)
    lines = lines or model.architecture.lines
    if engine == "openvino":
        return CompiledSegmenter(model, dtype, lines)
    return TorchSegmenter(model, device, dtype, lines)


class SegmentationHead(nn.Module):
    """Features (B, C, h, w) of pictures of one size in, what they say out.

    Classes (B, H, W) uint8 and their probabilities (B, K, ⌈H/4⌉, ⌈W/4⌉).
    """

    def __init__(self, model: SwiftNet, size: Size) -> None:
        super().__init__()
        self.classes, self.size = model.classes, size

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classes(features)
        height, width = cells(self.size)
        return argmax_classes(logits, self.size), logits[:, :, :height, :width].softmax(1)


class SegmentationLogits(nn.Module):
    """The same for graphs on a CPU: in the place of classes, the logits for `likeliest_of`."""

    def __init__(self, model: SwiftNet, size: Size) -> None:
        super().__init__()
        self.classes, self.size = model.classes, size

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classes(features)
        height, width = cells(self.size)
        return logits, logits[:, :, :height, :width].softmax(1)


def argmax_classes(logits: Tensor, size: Size) -> Tensor:
    """Classes (B, H, W) uint8 of logits (B, K, h, w) at stride 4, the first of equals."""
    whole = full_size(logits, size)
    best, classes = whole[:, 0], torch.zeros_like(whole[:, 0])
    for index in range(1, whole.shape[1]):
        one = whole[:, index]
        classes = torch.where(one > best, torch.full_like(best, index), classes)
        best = torch.maximum(one, best)
    return classes.to(torch.uint8)


def cells(size: Size) -> Size:
    """How many places of a map at stride 4 a picture covers."""
    return -(-size[0] // STRIDE), -(-size[1] // STRIDE)


def resize_to_lines(pixels: Array, lines: int) -> Array:
    """The picture `lines` high, its aspect kept, in memory of its own."""
    height, width = pixels.shape[:2]
    if height == lines:
        return np.array(pixels, order="C")
    smooth = cv2.INTER_AREA if lines < height else cv2.INTER_LINEAR
    return cv2.resize(pixels, (max(round(width * lines / height), 1), lines), interpolation=smooth)


class _SegmenterGraph(nn.Module):
    """From a picture (1, H, W, 3) uint8 to its features, logits and, if told, strangeness."""

    def __init__(self, model: SwiftNet, size: Size, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model, self.size, self.dtype = model, size, dtype

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x = self.model.normalise(pixels).to(self.dtype)
        features = self.model.features(x.contiguous(memory_format=torch.channels_last))
        read = features.float()
        logits = self.model.logits(read)
        if self.model.unknown is None:
            return features, logits
        height, width = cells(self.size)
        strange = self.model.strangeness(read)[:, :, :height, :width].softmax(1)[:, 1]
        return features, logits, (strange * 255).round().to(torch.uint8)


class TorchSegmenter:
    """On the device; convolutions in `dtype`, norms and what is read from features in fp32."""

    def __init__(self, model: SwiftNet, device: str, dtype: torch.dtype, lines: int) -> None:
        self.architecture, self.dtype, self.lines = model.architecture, dtype, lines
        exact = {
            id(part) for head in (model.classes, model.unknown) if head for part in head.modules()
        }
        for part in model.modules():
            if isinstance(part, nn.Conv2d) and id(part) not in exact:
                part.to(dtype)
        self.model, self.device = model.to(device), device

    @torch.inference_mode()
    def segment(self, pixels: Array) -> SegmentedFrame:
        picture = resize_to_lines(pixels, self.lines)
        size = (picture.shape[0], picture.shape[1])
        look = _SegmenterGraph(self.model, size, self.dtype)
        features, logits, *rest = look(torch.from_numpy(picture)[None].to(self.device))
        return _seen(features, argmax_classes(logits, size)[0].cpu().numpy(), rest)

    @torch.inference_mode()
    def decode(self, features: Tensor, size: Size) -> ClassMaps:
        classes, shares = SegmentationHead(self.model, size)(features.float())
        return ClassMaps(classes[0].cpu().numpy(), shares[0].cpu().numpy())


def _seen(features: Tensor, classes: Array, rest: Sequence[Tensor]) -> SegmentedFrame:
    unknown = rest[0][0].cpu().numpy() if rest else np.zeros((0, 0), np.uint8)
    return SegmentedFrame(features, classes, unknown)


class CompiledSegmenter:
    """On OpenVINO, from pixels to logits in one graph; one for each of the last few sizes."""

    def __init__(self, model: SwiftNet, dtype: torch.dtype, lines: int) -> None:
        from streamvis.models.inference.openvino import CompiledPlan, one_thread

        self.architecture, self.dtype, self.lines = model.architecture, dtype, lines
        self.model, self.compile, self.alone = model, CompiledPlan, one_thread
        self.looks: OrderedDict[Size, CompiledPlan] = OrderedDict()
        self.reads: OrderedDict[Size, CompiledPlan] = OrderedDict()

    def segment(self, pixels: Array) -> SegmentedFrame:
        picture = torch.from_numpy(resize_to_lines(pixels, self.lines))[None]  # (1, H, W, 3)
        size = (picture.shape[1], picture.shape[2])
        if size not in self.looks:
            maps = [torch.float32] if self.model.unknown is None else [torch.float32, torch.uint8]
            types = [torch.uint8, self.dtype, *maps]
            self.looks[size] = self.compile(
                _SegmenterGraph(self.model, size), [picture], self.dtype, types
            )
        with self.alone():
            features, logits, *rest = _newest(self.looks, size)(picture)
            classes = upsample_argmax(logits[0].numpy(), size)
            return _seen(features.clone(), classes, [x.clone() for x in rest])

    def decode(self, features: Tensor, size: Size) -> ClassMaps:
        if size not in self.reads:
            types = [self.dtype, torch.float32, torch.float32]
            part = SegmentationLogits(self.model, size)
            self.reads[size] = self.compile(part, [features.float()], self.dtype, types)
        with self.alone():
            logits, shares = _newest(self.reads, size)(features.to(self.dtype))
            return ClassMaps(upsample_argmax(logits[0].numpy(), size), shares[0].clone().numpy())


def _newest(plans: "OrderedDict[Size, CompiledPlan]", size: Size) -> "CompiledPlan":
    """The plan for a size, which is kept longest."""
    plans.move_to_end(size)
    if len(plans) > MOST_SIZES:
        plans.popitem(last=False)
    return plans[size]
