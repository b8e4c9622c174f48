"""The detection stage."""

from collections.abc import Iterator, Sequence

from streamvis.messages import Detections, Packet
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.detect.detector import PersonDetector
from streamvis.stages.protocol import Site


class DetectStage:
    """Detect the people of all frames of a call in one batch."""

    def __init__(self, config: MaskRcnn, site: Site) -> None:
        self.pixels = site.pixels
        self.detector = PersonDetector(config, site.device)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Detections]:
        return iter(self.detector([self.pixels(packet.frame) for packet in packets]))

    def close(self) -> None:
        """There are no resources to release."""
