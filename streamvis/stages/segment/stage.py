"""The semantic segmentation stage, and the segmenter in it: a picture in, classes and features out.

A forecast stage in the same worker uses the features of the current call, which are too large to be
sent between processes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streamvis.messages import Array, Packet, Segmentation
from streamvis.models.inference.segmentation import SegmentedFrame, accelerate_segmenter
from streamvis.models.weights import load_segmenter
from streamvis.stages.protocol import Site, Stage
from streamvis.stages.segment import Segment
from streamvis.stages.segment.features import SegmenterFeatures, key_of


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


class SegmentStage(Stage):
    """Segment every frame, and lend its features."""

    def __init__(self, config: Segment, site: Site) -> None:
        self.pixels = site.pixels
        self.segmenter = SceneSegmenter(config, site.device)
        self.lent = SegmenterFeatures(config.weights, self.segmenter.model, {})

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Segmentation]:
        self.lent.frames.clear()
        for packet in packets:
            scene = self.segmenter(self.pixels(packet.frame))
            self.lent.frames[key_of(packet.frame)] = scene.maps
            yield scene.part
