"""Semantic segmentation."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.messages import Part, Segmentation
from streamvis.stages.protocol import Site, Stage, StageConfig
from streamvis.stages.segment.features import SegmenterFeatures

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class Segment(StageConfig, frozen=True, tag="segment"):
    """Assign a class to every pixel and, with suitable weights, find out-of-distribution pixels."""

    weights: str = "street-seg"  # name of shipped weights, or path to a .safetensors file
    lines: Annotated[int, Meta(ge=64, le=2160)] | None = None  # px; the frame is scaled to this
    # height before segmentation; none: as the weights were trained
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    writes: ClassVar[type[Part]] = Segmentation
    torch: ClassVar[bool] = True
    lends: ClassVar[type | None] = SegmenterFeatures

    def build(self, site: Site) -> Stage:
        from streamvis.stages.segment.stage import SegmentStage

        return SegmentStage(self, site)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.segment.overlay import SegmentOverlay

        return SegmentOverlay()
