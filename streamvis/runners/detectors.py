"""Detectors as plain functions of pixels, for any kind of weights."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from streamvis.config import MaskRcnn
from streamvis.errors import UsageError
from streamvis.messages import Array, Detections

Detector = Callable[[Array], Detections]  # pixels (H, W, 3) uint8 RGB -> people


def name_of(weights: str, pairs: Sequence[str]) -> str:
    """Name a detector in tables: its file's stem, and its settings."""
    return " ".join([Path(weights).stem, *pairs])


def open_detector(config: MaskRcnn, device: str = "cpu") -> Detector:
    """Load the detector of `config`; .onnx files are networks of kind `yolox`."""
    if config.weights.endswith(".onnx"):
        from streamvis.models.inference.onnx_networks import EngineChoice
        from streamvis.models.yolox import OnnxDetector

        path = Path(config.weights).expanduser()
        if config.precision == "int8":
            raise UsageError(
                f"precision int8: {path} is an ONNX file, which runs as it is; use auto"
            )
        choice = EngineChoice(device, precision=config.precision)
        theirs = OnnxDetector(path, min_score=config.min_score, choice=choice)
        return lambda pixels: theirs([pixels])[0]
    from streamvis.api.networks import Detector as OwnDetector

    return OwnDetector(device=device, **msgspec.structs.asdict(config))
