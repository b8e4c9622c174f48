"""Detection of people by a network of your own (docs/own-detector.md)."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.fields import Gate, Polygon, Share, check_areas
from streamvis.messages import Detections, Part
from streamvis.stages.protocol import Site, Stage, StageConfig

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay

Side = Annotated[int, Meta(ge=32, le=8192)]
ClassNumber = Annotated[int, Meta(ge=0)]


class Yolox(StageConfig, frozen=True, tag="yolox"):
    """Detect people with a YOLOX, YOLOv8 or YOLO11 network from an ONNX file."""

    weights: str  # path to an .onnx file
    layout: Literal["auto", "yolox", "yolov8"] = "auto"  # arrangement of the network's
    # output, and its input: yolox is (1, A, 5 + classes), yolov8 (1, 4 + classes, N); auto: by the
    # output's shape
    classes: Annotated[tuple[ClassNumber, ...], Meta(min_length=1)] = (0,)  # numbers of the
    # network's classes that are detected, all of them as people; COCO's person is 0
    min_score: Share = 0.1  # detections with a lower score are discarded; the tracker needs weak
    # ones to continue tracks, so that a high value loses people
    nms_iou: Share = 0.65  # of two boxes that overlap by more than this intersection over union,
    # the one with the lower score is discarded
    input_size: tuple[Side, Side] | None = None  # px; height and width of the network's input, for
    # a file that leaves them free; none: as the file says
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the engine and the hardware support it
    engine: Literal["auto", "openvino", "onnxruntime"] = "auto"  # inference engine; auto: OpenVINO
    # on a CPU when it is installed, else ONNX Runtime
    region: tuple[Polygon, ...] = ()  # keep only detections whose foot point lies in one of these
    # polygons; corners are shares of the frame's width and height, from the upper left corner;
    # empty: the whole frame
    min_height: Annotated[float, Meta(ge=0)] = 0.0  # px of the source frame; detections whose box
    # is lower are discarded
    gate: Gate = "auto"  # true: look only at frames in which something has moved since the last
    # look, and at one each second; false: at every frame; auto: true for live sources

    writes: ClassVar[type[Part]] = Detections
    torch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_areas(self.region)

    def keeps_state(self, live: bool) -> bool:
        return self.gate is True or (self.gate == "auto" and live)

    def build(self, site: Site) -> Stage:
        from streamvis.stages.yolox.stage import YoloxStage

        return YoloxStage(self, site)

    def examine_files(self) -> str:
        from streamvis.stages.yolox.stage import open_yolox

        return str(open_yolox(self, "cpu"))

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.detect.overlay import DetectOverlay

        return DetectOverlay(self.region, drawing.masks)
