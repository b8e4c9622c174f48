"""Detection of people."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.fields import Polygon, Share, signed_area
from streamvis.messages import Detections, Part
from streamvis.stages.protocol import Site, Stage, StageConfig

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class MaskRcnn(StageConfig, frozen=True, tag="mask_rcnn"):
    """Detect people with Mask R-CNN in the whole frame, in tiles of it, or in a region of it."""

    weights: str = "person-lite"  # name of shipped weights, or path to a .safetensors or .pth file
    min_score: Share = 0.1  # detections with a lower score are discarded; the tracker needs weak
    # ones to continue tracks, so that a high value loses people
    short_side: Annotated[int, Meta(ge=64, le=2160)] | None = (
        None  # px; the frame's shorter side is
    )
    # scaled to this before detection; none: as the weights were trained
    masks: bool = True  # predict a segmentation mask for each detection
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch
    tiles: Literal["auto"] | Annotated[int, Meta(ge=1, le=4)] = 1  # n > 1: detect in n × n
    # overlapping tiles at finer scale as well, at 1 + n² times the cost; auto: 2 from 1080 lines up
    region: tuple[Polygon, ...] = ()  # keep only detections whose foot point lies in one of these
    # polygons; corners are shares of the frame's width and height, from the upper left corner;
    # empty: the whole frame
    min_height: Annotated[float, Meta(ge=0)] = (
        0.0  # px of the source frame; detections whose box is
    )
    # lower are discarded

    writes: ClassVar[type[Part]] = Detections
    torch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for polygon in self.region:
            if abs(signed_area(polygon)) < 5e-10:
                raise ValueError(
                    f"the polygon {[list(corner) for corner in polygon]} in `region` encloses no "
                    "area; list its corners in order, as you would walk around it"
                )

    def build(self, site: Site) -> Stage:
        from streamvis.stages.detect.stage import DetectStage

        return DetectStage(self, site)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.detect.overlay import DetectOverlay

        return DetectOverlay(self.region, drawing.masks)
