"""Detectors as plain functions of pixels, for any kind of weights."""

from collections.abc import Callable, Sequence
from pathlib import Path

from streamvis.config import MaskRcnn
from streamvis.messages import Array, Detections, Frame, Packet
from streamvis.stages.protocol import Site

Detector = Callable[[Array], Detections]  # pixels (H, W, 3) uint8 RGB -> people


def name_of(weights: str, pairs: Sequence[str]) -> str:
    """Name a detector in tables: its file's stem, and its settings."""
    return " ".join([Path(weights).stem, *pairs])


def open_detector(config: MaskRcnn, device: str = "cpu") -> Detector:
    """Load the detector of `config`; .onnx files are YOLOX networks and run on the CPU."""
    if config.weights.endswith(".onnx"):
        from streamvis.models.yolox import Yolox

        yolox = Yolox(Path(config.weights).expanduser(), min_score=config.min_score)
        return lambda pixels: yolox([pixels])[0]
    return _own_detector(config, device)


def _own_detector(config: MaskRcnn, device: str) -> Detector:
    from streamvis.stages.detect.stage import DetectStage

    slots: dict[str, Array] = {}  # slot -> pixels, in place of shared memory
    stage = DetectStage(config, Site(device=device, pixels=lambda frame: slots[frame.slot]))

    def detect(pixels: Array) -> Detections:
        slots["now"] = pixels
        height, width = pixels.shape[:2]
        frame = Frame(
            source="alone", seq=0, n=0, media_us=0, width=width, height=height, slot="now"
        )
        (part,) = stage([Packet(frame=frame)])
        return part

    return detect
