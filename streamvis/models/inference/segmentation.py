"""Inference back ends of semantic segmentation: PyTorch, or compiled by OpenVINO.

    network = accelerate_segmenter(load_segmenter("street-seg"), "cpu")
    segmented = network.segment(pixels)  # (H, W, 3) uint8 RGB, any size

The result of a frame depends on that frame alone and is reproducible on one engine. Engines,
precisions and numbers of threads round differently: one pixel in some hundreds, always at a
boundary, may have another class.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from streamvis.messages import Array
from streamvis.models.inference.device import DeviceBatches, Part
from streamvis.models.inference.plan_cache import PlanCache
from streamvis.models.inference.select import Engine, Precision, choose
from streamvis.models.layers import fuse
from streamvis.models.swiftnet import STRIDE, SwiftNet, SwiftNetConfig, full_size
from streamvis.models.upsample_argmax import upsample_argmax

if TYPE_CHECKING:
    from streamvis.models.inference.openvino import CompiledPlan

Size = tuple[int, int]  # height, width


class SegmentedFrame(NamedTuple):
    """The segmentation of one frame, in memory of its own."""

    features: Tensor  # (1, C, h, w) of the padded frame, on the device
    classes: Array  # (H, W) uint8, most probable class, at the input size of the network
    unknown: Array  # (⌈H/4⌉, ⌈W/4⌉) uint8, 255·P(outlier); (0, 0) without outlier head


class SegmentationNetwork(Protocol):
    """The interface of a segmenter, independent of the back end."""

    architecture: SwiftNetConfig
    dtype: torch.dtype  # of features
    lines: int  # input height in px

    def segment(self, pixels: Array) -> SegmentedFrame:
        """Segment a frame (H, W, 3) uint8 RGB of any size."""


def accelerate_segmenter(
    model: SwiftNet,
    device: str,
    precision: Precision = "auto",
    engine: Engine = "auto",
    lines: int | None = None,  # px; None: as trained
) -> SegmentationNetwork:
    """Fold norms, use bf16 if the hardware has it, and compile if possible.

    The model is modified and owned by the result.
    """
    engine, dtype = choose(device, precision, engine)
    fuse(model)
    model.eval().requires_grad_(False)
    lines = lines or model.architecture.lines
    if engine == "openvino":
        return CompiledSegmenter(model, dtype, lines)
    return TorchSegmenter(model, device, dtype, lines)


class SegmentationHead(nn.Module):
    """Features (B, C, h, w) to classes (B, H, W) uint8 and probabilities (B, K, ⌈H/4⌉, ⌈W/4⌉)."""

    def __init__(self, model: SwiftNet, size: Size) -> None:
        super().__init__()
        self.classes, self.size = model.classes, size

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classes(features)
        height, width = cells(self.size)
        return argmax_classes(logits, self.size), logits[:, :, :height, :width].softmax(1)


class SegmentationLogits(nn.Module):
    """As `SegmentationHead` for compiled graphs: logits for `upsample_argmax`, probabilities."""

    def __init__(self, model: SwiftNet, size: Size) -> None:
        super().__init__()
        self.classes, self.size = model.classes, size

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classes(features)
        height, width = cells(self.size)
        return logits, logits[:, :, :height, :width].softmax(1)


def argmax_classes(logits: Tensor, size: Size) -> Tensor:
    """Return classes (B, H, W) uint8 of logits (B, K, h, w) at stride 4; ties: the first."""
    whole = full_size(logits, size)
    best, classes = whole[:, 0], torch.zeros_like(whole[:, 0])
    for index in range(1, whole.shape[1]):
        one = whole[:, index]
        classes = torch.where(one > best, torch.full_like(best, index), classes)
        best = torch.maximum(one, best)
    return classes.to(torch.uint8)


def cells(size: Size) -> Size:
    """Return the size of a map at stride 4 that covers a frame."""
    return -(-size[0] // STRIDE), -(-size[1] // STRIDE)


def resize_to_lines(pixels: Array, lines: int) -> Array:
    """Resize a frame to height `lines`, keeping its aspect, in memory of its own."""
    height, width = pixels.shape[:2]
    if height == lines:
        return np.array(pixels, order="C")
    smooth = cv2.INTER_AREA if lines < height else cv2.INTER_LINEAR
    return cv2.resize(pixels, (max(round(width * lines / height), 1), lines), interpolation=smooth)


class _SegmenterGraph(nn.Module):
    """A frame (1, H, W, 3) uint8 to features, logits and, with a head for it, P(outlier)."""

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
    """PyTorch back end: convolutions in `dtype`, norms and heads in fp32."""

    def __init__(self, model: SwiftNet, device: str, dtype: torch.dtype, lines: int) -> None:
        self.architecture, self.dtype, self.lines = model.architecture, dtype, lines
        exact = {
            id(part) for head in (model.classes, model.unknown) if head for part in head.modules()
        }
        for part in model.modules():
            if isinstance(part, nn.Conv2d) and id(part) not in exact:
                part.to(dtype)
        self.model = model.to(device)
        # the features, which come last, stay on the device
        self.run = DeviceBatches(self._part, device, downloads=1 if model.unknown is None else 2)

    def segment(self, pixels: Array) -> SegmentedFrame:
        ((classes, *rest, features),) = self.run([[resize_to_lines(pixels, self.lines)]])
        return _segmented(features, classes[0].numpy(), rest)

    def _part(self, shape: tuple[int, ...]) -> Part:
        size = (shape[1], shape[2])
        look = _SegmenterGraph(self.model, size, self.dtype)

        def part(pixels: Tensor) -> tuple[Tensor, ...]:
            features, logits, *rest = look(pixels)
            return (argmax_classes(logits, size), *rest, features)

        return part


def _segmented(features: Tensor, classes: Array, rest: Sequence[Tensor]) -> SegmentedFrame:
    unknown = rest[0][0].numpy() if rest else np.zeros((0, 0), np.uint8)
    return SegmentedFrame(features, classes, unknown)


class CompiledSegmenter:
    """OpenVINO back end: one graph from pixels to logits for each input size."""

    def __init__(self, model: SwiftNet, dtype: torch.dtype, lines: int) -> None:
        from streamvis.models.inference.openvino import CompiledPlan, one_thread

        self.architecture, self.dtype, self.lines = model.architecture, dtype, lines
        self.model, self.compile, self.alone = model, CompiledPlan, one_thread
        self.plans: PlanCache[Size, CompiledPlan] = PlanCache()

    def segment(self, pixels: Array) -> SegmentedFrame:
        picture = torch.from_numpy(resize_to_lines(pixels, self.lines))[None]  # (1, H, W, 3)
        size = (picture.shape[1], picture.shape[2])
        plan = self.plans.get(size, lambda: self._plan(picture, size))
        with self.alone():
            features, logits, *rest = plan(picture)
            classes = upsample_argmax(logits[0].numpy(), size)
            return _segmented(features.clone(), classes, [x.clone() for x in rest])

    def _plan(self, picture: Tensor, size: Size) -> "CompiledPlan":
        maps = [torch.float32] if self.model.unknown is None else [torch.float32, torch.uint8]
        types = [torch.uint8, self.dtype, *maps]
        return self.compile(_SegmenterGraph(self.model, size), [picture], self.dtype, types)
