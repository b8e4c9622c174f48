"""Detectors as plain functions of pixels, for any kind of weights."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from streamvis.config import MaskRcnn
from streamvis.messages import Array, Detections

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
    from streamvis.api.networks import Detector as OwnDetector

    return OwnDetector(device=device, **msgspec.structs.asdict(config))
