"""The semantic segmentation stage.

A forecast stage in the same worker uses its features of the current call, which are too large to be
sent between processes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streamvis.config import Segment
from streamvis.messages import Frame, Packet, Segmentation, Site
from streamvis.models.inference.segmentation import SegmentedFrame, accelerate_segmenter
from streamvis.models.swiftnet import SwiftNet
from streamvis.models.weights import load_segmenter

Key = tuple[str, int, int]  # source, stream epoch, seq


class SharedFeatures(NamedTuple):
    """Features that the forecast stage of the same worker uses."""

    weights: str  # of the segmenter
    model: SwiftNet  # its head reads forecasts too
    seen: dict[Key, SegmentedFrame]  # of the frames of the last call


def key_of(frame: Frame) -> Key:
    return frame.source, frame.epoch, frame.seq


class SegmentStage:
    """Segment every frame, at the height the weights were trained with or at `lines`."""

    def __init__(self, config: Segment, site: Site, name: str) -> None:
        self.pixels = site.pixels
        model = load_segmenter(config.weights, site.device)
        self.network = accelerate_segmenter(
            model, site.device, config.precision, config.engine, config.lines
        )
        self.labels = model.architecture.segments
        self.shared = site.shared_features[name] = SharedFeatures(config.weights, model, {})

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Segmentation]:
        self.shared.seen.clear()
        for packet in packets:
            seen = self.network.segment(self.pixels(packet.frame))
            self.shared.seen[key_of(packet.frame)] = seen
            yield Segmentation(labels=self.labels, classes=seen.classes, unknown=seen.unknown)

    def close(self) -> None:
        """There are no resources to release."""
