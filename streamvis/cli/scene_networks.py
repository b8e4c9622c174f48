"""Networks of scenes as evaluation needs them: on the engines that stages use, by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from streamvis.cli.settings import configure
from streamvis.config import Segment
from streamvis.errors import UsageError
from streamvis.messages import Array
from streamvis.models.inference.forecasts import PastFrame, accelerate_forecaster
from streamvis.models.inference.segmentation import SegmentedFrame, Size, accelerate_segmenter
from streamvis.models.swiftnet import full_size
from streamvis.models.weights import check_origin, load_forecaster, load_segmenter


class Look(NamedTuple):
    """What a segmenter makes of a picture."""

    seen: SegmentedFrame
    size: Size  # (H, W) of the picture

    @property
    def labels(self) -> Array:
        """The classes at the picture's size, (H, W) uint8."""
        return sized(self.seen.classes, self.size)


class Network(Protocol):
    """Reads scenes."""

    names: tuple[str, ...]  # of the K classes

    def look(self, pixels: Array) -> Look:
        """At a picture (H, W, 3) uint8 RGB."""

    def strangeness(self, look: Look) -> Array:
        """How probably every pixel is none of the classes, (H, W) float32."""


class Segmenter:
    """A segmenter on its engine."""

    def __init__(self, config: Segment, device: str) -> None:
        self.config, self.device = config, device
        self.model = load_segmenter(config.weights, device)
        self.names = self.model.architecture.segments
        self.engine = accelerate_segmenter(
            self.model, device, config.precision, config.engine, config.lines
        )

    def look(self, pixels: Array) -> Look:
        return Look(self.engine.look(pixels), (pixels.shape[0], pixels.shape[1]))

    @torch.inference_mode()
    def strangeness(self, look: Look) -> Array:
        """By the second head; without one, how far the likeliest class is from certain."""
        features = look.seen.features.float()
        if self.model.unknown is None:
            known = _at_size(self.model.logits(features), look).softmax(1).amax(1)
        else:
            known = _at_size(self.model.strangeness(features), look).softmax(1)[:, 0]
        return (1 - known)[0].clamp(0, 1).cpu().numpy()


def _at_size(maps: Tensor, look: Look) -> Tensor:
    """Maps (1, K, h, w) at the picture's own size, (1, K, H, W)."""
    height, width = look.seen.classes.shape
    maps = full_size(maps, (height, width))
    return F.interpolate(maps, look.size, mode="bilinear", align_corners=False)


def sized(classes: Array, size: Size) -> Array:
    """Classes (h, w) at another size."""
    if classes.shape == size:
        return classes
    return cv2.resize(classes, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


class Forecasting:
    """A forecaster on its engine, and what it tells is read by its segmenter's head."""

    def __init__(self, weights: str, segmenter: Segmenter) -> None:
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
        """Forecasters with the same one keep the same of a picture."""
        return self.engine.memory

    def remember(
        self, media_us: int, pixels: Array, look: Look, before: PastFrame | None = None
    ) -> PastFrame:
        return self.engine.remember(media_us, pixels, look.seen, before)

    def forecast(self, past: Sequence[PastFrame], times: int) -> Array:
        return self.engine.forecast(past, times, shares=False).classes

    def shares(self, past: Sequence[PastFrame]) -> Array:
        return self.engine.forecast(past).shares


def open_segmenters(weights: Sequence[str], pairs: Sequence[str], device: str) -> list[Segmenter]:
    """Segmenters, all of them set alike by `key=value` texts."""
    configs = [configure(Segment, {"weights": path}, pairs) for path in weights]
    return [Segmenter(config, device) for config in configs]


def open_forecasters(weights: Sequence[str], segmenter: Segmenter) -> dict[str, Forecasting]:
    """Forecasters by name, which have learnt from this segmenter."""
    forecasters = [Forecasting(path, segmenter) for path in weights]
    return dict(zip(named(weights), forecasters, strict=True))


def named(weights: Sequence[str]) -> list[str]:
    """What tables call weights: their files' names, or all of their paths if two are alike."""
    if len(set(weights)) < len(weights):
        raise UsageError(f"--weights {' --weights '.join(weights)}: one is given twice")
    names = [Path(path).stem for path in weights]
    return names if len(set(names)) == len(names) else list(weights)


def eight_bits(look: Look) -> Array:
    """`unknown` as it is told to other stages, at the picture's size, in [0, 1]."""
    height, width = look.size
    told = cv2.resize(look.seen.unknown, (width, height), interpolation=cv2.INTER_LINEAR)
    return told.astype(np.float32) / 255
