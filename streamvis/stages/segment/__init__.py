"""Semantic segmentation."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.messages import Part, Segmentation, SourceInfo
from streamvis.stages.protocol import Site, Stage, StageConfig
from streamvis.stages.segment.features import SegmenterFeatures

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The condition for `unknown.begin`, which reports an out-of-distribution object."""

    p: Annotated[float, Meta(gt=0, le=1)] = 0.5  # probability from which a pixel counts as
    # out-of-distribution
    area: Annotated[float, Meta(gt=0, le=1)] = 0.002  # share of the frame that connected pixels of
    # this kind must cover; the object has ended once they cover less than half of it
    min_s: Annotated[float, Meta(ge=0, le=60)] = 0.5  # how long they must cover it before the event
    # is published


class Segment(StageConfig, frozen=True, tag="segment"):
    """Assign a class to every pixel and, with suitable weights, find out-of-distribution pixels."""

    weights: str = "street-seg"  # name of shipped weights, or path to a .safetensors file
    lines: Annotated[int, Meta(ge=64, le=2160)] | None = None  # px; the frame is scaled to this
    # height before segmentation; none: as the weights were trained
    unknown: Alarm = Alarm()  # when an out-of-distribution object is reported; needs weights that
    # find them, such as street-outlier
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

    @classmethod
    def event_types(cls) -> EventTypes:
        from streamvis.stages.segment.events import SCENE_EVENTS

        return SCENE_EVENTS

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        from streamvis.stages.segment.deriver import SceneDeriver

        return SceneDeriver(self.unknown, source, policy, state)
