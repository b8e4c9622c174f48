"""The detection stage of a network of your own: pictures in, detections out."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from streamvis.messages import Detections, Packet
from streamvis.models.inference.onnx_networks import EngineChoice
from streamvis.models.yolox import OnnxDetector
from streamvis.stages.detect.region import RegionFilter
from streamvis.stages.gate import GatedStage, LookGates, detected
from streamvis.stages.protocol import Site
from streamvis.stages.yolox import Yolox


def open_yolox(config: Yolox, device: str) -> OnnxDetector:
    """Open the detector of these settings; raises WeightsError, ModelError, DeviceError."""
    return OnnxDetector(
        Path(os.path.expanduser(config.weights)),
        layout=config.layout,
        classes=config.classes,
        min_score=config.min_score,
        overlap=config.nms_iou,
        input_size=config.input_size,
        choice=EngineChoice(device, config.engine, config.precision),
    )


class YoloxStage(GatedStage):
    """Detect the people of all frames of a call, one by one, where something has moved."""

    def __init__(self, config: Yolox, site: Site) -> None:
        super().__init__(LookGates("yolox", config.gate, config.min_height))
        self.pixels = site.pixels
        self.detector = open_yolox(config, site.device)
        self.wanted = RegionFilter(config.region, config.min_height)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Detections]:
        found = detected(self.detector, self.gates, self.pixels, packets)
        for packet, part in zip(packets, found, strict=True):
            yield self.wanted(part, packet.frame.width, packet.frame.height)
