"""The semantic segmentation stage.

A forecast stage in the same worker uses its features of the current call, which are too large to be
sent between processes.
"""

from collections.abc import Iterator, Sequence

from streamvis.messages import Packet, Segmentation
from streamvis.stages.protocol import Site
from streamvis.stages.segment import Segment
from streamvis.stages.segment.features import SegmenterFeatures, key_of
from streamvis.stages.segment.segmenter import SceneSegmenter


class SegmentStage:
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

    def close(self) -> None:
        """There are no resources to release."""
