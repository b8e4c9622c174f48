"""Tracking of people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.fields import Share
from streamvis.messages import Detections, Embeddings, Motion, Part, SourceInfo, Tracks
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class Jipda(StageConfig, frozen=True, tag="jipda"):
    """Track people by joint integrated probabilistic data association (JIPDA)."""

    mode: Literal["auto", "jipda", "jipda_embed", "gnn_embed"] = "auto"  # association by motion
    # (jipda), by motion and appearance (jipda_embed), or by global nearest neighbour on appearance
    # (gnn_embed); auto: jipda_embed where a stage above writes embeddings, else jipda
    camera: Literal["auto", "fixed", "moving"] = "auto"  # moving: compensate camera motion; auto:
    # where a stage above estimates it
    space: Literal["auto", "image", "ground"] = "auto"  # coordinates of the track state, pixels or
    # metres on the ground; auto: ground where the source has a ground plane that is not grazing, by
    # the size of gates on it; positions in metres are reported with any plane
    birth_score: Share = 0.7  # detections with a lower score can continue a track but not start one
    p_detect: Annotated[float, Meta(gt=0, lt=1)] = 0.9  # probability that a visible person is
    # detected in a frame
    memory_s: Annotated[float, Meta(gt=0, le=60)] = 3.0  # a track without detections is predicted
    # for at most this long
    remember_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0  # a person can be re-identified by
    # appearance for this long after the track was lost
    refresh_s: Annotated[float, Meta(ge=0, le=60)] = 0.5  # from one embedding of a person whose
    # identity is not ambiguous to the next; 0: in each frame
    reentry: bool = False  # also re-identify people who left through the frame's edge; false: they
    # get a new id
    clutter: Annotated[float, Meta(gt=0)] | None = None  # per px² and frame; density of false
    # detections; none: estimated while running

    reads: ClassVar[Parts] = frozenset({Detections})
    may_read: ClassVar[Parts] = frozenset({Embeddings, Motion})
    writes: ClassVar[type[Part]] = Tracks
    stateful: ClassVar[bool] = True

    @property
    def reads_masks(self) -> bool:
        return False

    def missing(self, above: Sequence[StageConfig]) -> str | None:
        parts = {one.writes for one in above}
        if self.mode in ("jipda_embed", "gnn_embed") and Embeddings not in parts:
            return (
                f"has mode {self.mode}, but no stage above it writes Embeddings; add "
                "{name: embed, after: [detect], run: {kind: appearance}} and name embed in its "
                "`after`"
            )
        if self.camera == "moving" and Motion not in parts:
            return (
                "has camera moving, but no stage above it measures camera motion; add "
                "{name: camera, run: {kind: camera_motion}} and name camera in its `after`"
            )
        return None

    def chosen(self, source: SourceInfo) -> dict[str, str]:
        if self.space != "auto" or source.ground_plane is None:
            return {}
        from streamvis.tracking.space_choice import choose_space

        return {"space": choose_space(source, self.space).text}

    def build(self, site: Site) -> Stage:
        from streamvis.stages.track.stage import TrackStage

        return TrackStage(self, site)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.track.overlay import TrackOverlay

        return TrackOverlay(drawing)

    @classmethod
    def event_types(cls) -> EventTypes:
        from streamvis.stages.track.events import TRACK_EVENTS

        return TRACK_EVENTS

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        from streamvis.stages.track.deriver import TrackDeriver

        return TrackDeriver(source, policy, state)
