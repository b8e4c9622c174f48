"""Segmenters and forecasters as evaluation needs them: on the engines that the stages use."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.config import Segment
from streamvis.errors import UsageError
from streamvis.messages import Array
from streamvis.models.inference.forecasts import PastFrame, accelerate_forecaster
from streamvis.models.inference.segmentation import SegmentedFrame, Size, accelerate_segmenter
from streamvis.models.swiftnet import full_size
from streamvis.models.weights import check_origin, load_forecaster, load_segmenter


class SegmentedPicture(NamedTuple):
    """A segmenter's output for one picture."""

    seen: SegmentedFrame
    size: Size  # (H, W) of the picture

    @property
    def labels(self) -> Array:
        """The classes at the picture's size, (H, W) uint8."""
        return sized(self.seen.classes, self.size)


class SceneNetwork(Protocol):
    """A network that classifies every pixel of a picture."""

    names: tuple[str, ...]  # of the K classes

    def segment(self, pixels: Array) -> SegmentedPicture:
        """Segment a picture (H, W, 3) uint8 RGB."""

    def unknown(self, picture: SegmentedPicture) -> Array:
        """Return how probably each pixel is out of distribution, (H, W) float32."""


class EvaluatedSegmenter:
    """A segmenter on the engine that its stage would use."""

    def __init__(self, config: Segment, device: str) -> None:
        self.config, self.device = config, device
        self.model = load_segmenter(config.weights, device)
        self.names = self.model.architecture.segments
        self.engine = accelerate_segmenter(
            self.model, device, config.precision, config.engine, config.lines
        )

    def segment(self, pixels: Array) -> SegmentedPicture:
        return SegmentedPicture(self.engine.segment(pixels), (pixels.shape[0], pixels.shape[1]))

    @torch.inference_mode()
    def unknown(self, picture: SegmentedPicture) -> Array:
        """By the second head; without one, one minus the probability of the likeliest class."""
        features = picture.seen.features.float()
        if self.model.unknown is None:
            known = _at_size(self.model.logits(features), picture).softmax(1).amax(1)
        else:
            known = _at_size(self.model.strangeness(features), picture).softmax(1)[:, 0]
        return (1 - known)[0].clamp(0, 1).cpu().numpy()


def _at_size(maps: Tensor, picture: SegmentedPicture) -> Tensor:
    """Resize maps (1, K, h, w) to the picture's own size, (1, K, H, W)."""
    height, width = picture.seen.classes.shape
    maps = full_size(maps, (height, width))
    return F.interpolate(maps, picture.size, mode="bilinear", align_corners=False)


def sized(classes: Array, size: Size) -> Array:
    """Resize classes (h, w)."""
    if classes.shape == size:
        return classes
    return cv2.resize(classes, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


class EvaluatedForecaster:
    """A forecaster on the engine that its stage would use, with its segmenter's head."""

    def __init__(self, weights: str, segmenter: EvaluatedSegmenter) -> None:
        self.weights = weights
        model = load_forecaster(weights, segmenter.device)
        check_origin(weights, segmenter.config.weights)
        about, config = model.architecture, segmenter.config
        self.past = about.past
        self.every_us, self.horizon_us = round(about.every_s * 1e6), round(about.horizon_s * 1e6)
        self.engine = accelerate_forecaster(
            model, segmenter.model, segmenter.device, config.precision, config.engine
        )

    @property
    def memory(self) -> object:
        """Forecasters with the same memory keep the same state of a picture."""
        return self.engine.memory

    def remember(
        self,
        media_us: int,
        pixels: Array,
        picture: SegmentedPicture,
        before: PastFrame | None = None,
    ) -> PastFrame:
        return self.engine.encode(media_us, pixels, picture.seen, before)

    def forecast(self, past: Sequence[PastFrame], times: int) -> Array:
        return self.engine.forecast(past, times, shares=False).classes

    def shares(self, past: Sequence[PastFrame]) -> Array:
        return self.engine.forecast(past).shares


def open_segmenters(configs: Sequence[Segment], device: str) -> dict[str, EvaluatedSegmenter]:
    """Load segmenters, by name."""
    names = weight_names([config.weights for config in configs])
    segmenters = [EvaluatedSegmenter(config, device) for config in configs]
    return dict(zip(names, segmenters, strict=True))


def open_forecasters(
    weights: Sequence[str], segmenter: EvaluatedSegmenter
) -> dict[str, EvaluatedForecaster]:
    """Load forecasters that were trained on this segmenter's features, by name."""
    forecasters = [EvaluatedForecaster(path, segmenter) for path in weights]
    return dict(zip(weight_names(weights), forecasters, strict=True))


def weight_names(weights: Sequence[str]) -> list[str]:
    """Name weights by their files; by their whole paths where two files have the same name."""
    if len(set(weights)) < len(weights):
        raise UsageError(
            f"--weights {' --weights '.join(weights)}: one is given twice; give each one once"
        )
    names = [Path(path).name.removesuffix(".safetensors") for path in weights]
    return names if len(set(names)) == len(names) else list(weights)


def published_unknown(picture: SegmentedPicture) -> Array:
    """Return `unknown` in 8 bits, as other stages receive it, at the picture's size, in [0, 1]."""
    height, width = picture.size
    published = cv2.resize(picture.seen.unknown, (width, height), interpolation=cv2.INTER_LINEAR)
    return published.astype(np.float32) / 255
