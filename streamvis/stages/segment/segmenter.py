"""The segmenter of scenes: a picture in, its segmentation and features out."""

from typing import NamedTuple

from streamvis.messages import Array, Segmentation
from streamvis.models.inference.segmentation import SegmentedFrame, accelerate_segmenter
from streamvis.models.weights import load_segmenter
from streamvis.stages.segment import Segment


class SegmentedScene(NamedTuple):
    """What a segmenter returns for one picture."""

    part: Segmentation
    maps: SegmentedFrame  # with the features, on the device


class SceneSegmenter:
    """Segment pictures at the height that the weights were trained with, or at `lines`."""

    def __init__(self, config: Segment, device: str) -> None:
        self.model = load_segmenter(config.weights, device)
        self.network = accelerate_segmenter(
            self.model, device, config.precision, config.engine, config.lines
        )
        self.labels = self.model.architecture.segments

    def __call__(self, pixels: Array) -> SegmentedScene:
        """Segment a picture (H, W, 3) uint8 RGB of any size."""
        maps = self.network.segment(pixels)
        part = Segmentation(labels=self.labels, classes=maps.classes, unknown=maps.unknown)
        return SegmentedScene(part, maps)
