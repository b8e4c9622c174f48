"""A detector as a plain function, whatever file it comes from."""

from collections.abc import Callable, Sequence
from pathlib import Path

from streamvis.config import MaskRcnn
from streamvis.messages import Array, Detections, Frame, Packet, Site

Detector = Callable[[Array], Detections]  # pixels (H, W, 3) uint8 RGB -> people


def name_of(weights: str, pairs: Sequence[str]) -> str:
    """What to call a detector in tables: its file's stem, and how it was set."""
    return " ".join([Path(weights).stem, *pairs])


def open_detector(config: MaskRcnn, device: str = "cpu") -> Detector:
    """The detector of `config`; weights that end in .onnx are YOLOX's, and run on the CPU."""
    if config.weights.endswith(".onnx"):
        from streamvis.models.yolox import Yolox

        yolox = Yolox(Path(config.weights).expanduser(), min_score=config.min_score)
        return lambda pixels: yolox([pixels])[0]
    return _our_own(config, device)


def _our_own(config: MaskRcnn, device: str) -> Detector:
    from streamvis.stages.detect import DetectStage

    shown: dict[str, Array] = {}  # slot -> the picture, as shared memory has it in a run
    stage = DetectStage(config, Site(device=device, pixels=lambda frame: shown[frame.slot]))

    def detect(pixels: Array) -> Detections:
        shown["now"] = pixels
        height, width = pixels.shape[:2]
        frame = Frame(
            source="alone", seq=0, n=0, media_us=0, width=width, height=height, slot="now"
        )
        (part,) = stage([Packet(frame=frame)])
        return part

    return detect
