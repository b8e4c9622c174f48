"""Detection of people."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.fields import Gate, Polygon, Share, check_areas
from streamvis.messages import Detections, Part
from streamvis.stages.protocol import Site, Stage, StageConfig

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay

TILED_FROM = 1920  # px of the longer side from which `tiles: auto` looks at tiles
AUTO_TILES = 2


class MaskRcnn(StageConfig, frozen=True, tag="mask_rcnn"):
    """Detect people with Mask R-CNN in the whole frame, in tiles of it, or in a region of it."""

    weights: str = "person-lite"  # name of shipped weights, or path to a .safetensors or .pth file
    min_score: Share = 0.1  # detections with a lower score are discarded; the tracker needs weak
    # ones to continue tracks, so that a high value loses people
    speed: Literal["fast", "balanced", "accurate"] = "balanced"  # fast: at 2/3 of the size, at most
    # 48 regions, int8 where it runs; balanced: at most 100 regions; accurate: as many as the
    # weights say, at up to 1.5 times the size where frames have as many pixels
    short_side: Literal["auto"] | Annotated[int, Meta(ge=64, le=2160)] | None = None  # px; the
    # frame's shorter side is scaled to this before detection; none: as the weights were trained, or
    # as `speed` says; auto: as none, but no more than needed for people of `min_height`
    masks: Literal["auto"] | bool = "auto"  # predict a segmentation mask for each detection; auto:
    # where a stage below draws or reads them, and in Python
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"  # arithmetic of the network; auto:
    # bf16 where the hardware supports it, or as `speed` says; int8: on OpenVINO, on CPUs with VNNI
    # or AMX, with a file WEIGHTS.int8.json beside the weights
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch
    tiles: Literal["auto"] | Annotated[int, Meta(ge=1, le=4)] = 1  # n > 1: detect in n × n
    # overlapping tiles at finer scale as well, at 1 + n² times the cost; auto: from 1920 px on,
    # in those of 2 × 2 tiles in which the whole frame shows small people, however unclear
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
        from streamvis.stages.detect.stage import DetectStage

        return DetectStage(self, site)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.detect.overlay import DetectOverlay

        return DetectOverlay(self.region, drawing.masks)
