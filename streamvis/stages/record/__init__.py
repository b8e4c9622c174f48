"""The annotated video."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from streamvis.messages import Actions, Detections, Forecast, Segmentation, Tracks
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig


class Record(StageConfig, frozen=True, tag="record"):
    """Write the annotated video."""

    trail_s: Annotated[float, Meta(ge=0)] = 3.0  # length of the trails behind people; 0: no trails
    masks: bool = True  # draw segmentation masks of people
    horizon_s: Annotated[float, Meta(ge=0)] | None = None  # show the forecast whose horizon is
    # nearest to this; none: the farthest
    crf: Annotated[int, Meta(ge=0, le=51)] = 23  # constant rate factor of H.264: lower means better
    # quality and larger files

    may_read: ClassVar[Parts] = frozenset({Detections, Tracks, Actions, Segmentation, Forecast})
    stateful: ClassVar[bool] = True

    def missing(self, above: Sequence[StageConfig]) -> str | None:
        if any(map(self.uses, above)):
            return None
        return (
            "has nothing to draw: no stage above it writes Detections, Tracks, Actions, "
            "Segmentation or Forecast; name one that does in its `after`"
        )

    def build(self, site: Site) -> Stage:
        from streamvis.stages.record.stage import RecordStage

        return RecordStage(self, site)
