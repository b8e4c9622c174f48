"""The annotated video."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from streamvis.stages.protocol import Site, Stage, StageConfig, has_overlay


class Record(StageConfig, frozen=True, tag="record"):
    """Write the annotated video."""

    trail_s: Annotated[float, Meta(ge=0)] = 3.0  # length of the trails behind people; 0: no trails
    masks: bool = True  # draw segmentation masks of people
    horizon_s: Annotated[float, Meta(ge=0)] | None = None  # show the forecast whose horizon is
    # nearest to this; none: the farthest
    crf: Annotated[int, Meta(ge=0, le=51)] = 23  # constant rate factor of H.264: lower means better
    # quality and larger files

    stateful: ClassVar[bool] = True

    def uses(self, other: StageConfig) -> bool:
        return has_overlay(other)

    @property
    def reads_masks(self) -> bool:
        return self.masks

    def missing(self, above: Sequence[StageConfig]) -> str | None:
        if any(map(self.uses, above)):
            return None
        return (
            "has nothing to draw: no stage above it has an overlay; name one that has, such as a "
            "detector, a tracker or a segmenter, in its `after`"
        )

    def build(self, site: Site) -> Stage:
        from streamvis.stages.record.stage import RecordStage

        return RecordStage(self, site)
