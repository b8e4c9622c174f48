"""The semantic segmentation stage.

A forecast stage in the same worker uses its features of the current call, which are too large to be
sent between processes.
"""

from collections.abc import Iterator, Sequence

from streamvis.messages import Packet, Segmentation
from streamvis.models.inference.segmentation import accelerate_segmenter
from streamvis.models.weights import load_segmenter
from streamvis.stages.protocol import Site
from streamvis.stages.segment import Segment
from streamvis.stages.segment.features import SegmenterFeatures, key_of


class SegmentStage:
    """Segment every frame, at the height the weights were trained with or at `lines`."""

    def __init__(self, config: Segment, site: Site) -> None:
        self.pixels = site.pixels
        model = load_segmenter(config.weights, site.device)
        self.network = accelerate_segmenter(
            model, site.device, config.precision, config.engine, config.lines
        )
        self.labels = model.architecture.segments
        self.lent = SegmenterFeatures(config.weights, model, {})

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Segmentation]:
        self.lent.frames.clear()
        for packet in packets:
            maps = self.network.segment(self.pixels(packet.frame))
            self.lent.frames[key_of(packet.frame)] = maps
            yield Segmentation(labels=self.labels, classes=maps.classes, unknown=maps.unknown)

    def close(self) -> None:
        """There are no resources to release."""
