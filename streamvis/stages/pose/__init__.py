"""Poses of tracked people: keypoints, smoothed along each track, and postures."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.fields import Share
from streamvis.messages import Motion, Part, Poses, SourceInfo, Tracks
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class PoseEstimation(StageConfig, frozen=True, tag="pose"):
    """Estimate the 17 keypoints of tracked people, smooth them, and recognise postures.

    Frames between two estimates have the keypoints that the smoothing predicts, at little cost.
    """

    weights: str = "pose-lite"  # name of shipped weights, or path to a .safetensors or .pth file
    interval_s: Annotated[float, Meta(gt=0, le=1)] = 0.2  # media time between two estimates of a
    # person
    people: Annotated[int, Meta(ge=1, le=256)] = 10  # largest number of people estimated in one
    # frame; those with the largest boxes are taken, and stay until another box is larger by a
    # quarter
    min_height: Annotated[float, Meta(ge=8)] = 48.0  # px of the source frame; people are not
    # estimated where the larger side of their box is smaller
    min_score: Share = 0.3  # keypoints with a lower score are not measured: they are predicted for
    # a second, and postures do without them
    begin: Share = 0.7  # a posture begins once it has been at least this clear for `min_s`
    end: Share = 0.3  # a posture ends once it has been less clear than this for `min_s`; must not
    # exceed `begin`
    min_s: Annotated[float, Meta(ge=0, le=60)] = 1.0  # how long a posture must stay above `begin`
    # or below `end` before an event is published
    fallen_s: Annotated[float, Meta(ge=0, le=60)] = 0.3  # the same for `fallen`
    update_s: Annotated[float, Meta(ge=0)] = 1.0  # media time between two pose.update of a track
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    reads: ClassVar[Parts] = frozenset({Tracks})
    may_read: ClassVar[Parts] = frozenset({Motion})
    writes: ClassVar[type[Part]] = Poses
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.end > self.begin:
            raise ValueError(
                f"`end` is {self.end:g}, above `begin`, {self.begin:g}: a posture would be over "
                "before it began; make `end` the smaller"
            )

    def build(self, site: Site) -> Stage:
        from streamvis.stages.pose.stage import PoseStage

        return PoseStage(self, site)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.pose.overlay import PoseOverlay

        return PoseOverlay(self)

    @classmethod
    def event_types(cls) -> EventTypes:
        from streamvis.stages.pose.events import POSE_EVENTS

        return POSE_EVENTS

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        from streamvis.stages.pose.deriver import PoseDeriver

        return PoseDeriver(self, source, state)
