"""The event log and the event feed."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.stages.protocol import Site, Stage, StageConfig, has_events


class Publish(StageConfig, frozen=True, tag="publish"):
    """Write events to the log, then publish them on the feed."""

    bind: str | None = "tcp://127.0.0.1:5560"  # ZeroMQ address of the feed; none: event log only
    update_every_s: Annotated[float, Meta(ge=0)] = 0.0  # shortest interval between two updates of
    # the same thing, such as a track; 0: one for every frame
    attach: tuple[Literal["masks"], ...] = ()  # data sent with the events on the feed, not to the
    # log; masks: the label map as PNG

    stateful: ClassVar[bool] = True
    follows_status: ClassVar[bool] = True

    def uses(self, other: StageConfig) -> bool:
        return has_events(other)

    def missing(self, above: Sequence[StageConfig]) -> str | None:
        if any(map(self.uses, above)):
            return None
        return (
            "has nothing to publish: no stage above it has events; name one that has, such as a "
            "tracker, in its `after`"
        )

    def build(self, site: Site) -> Stage:
        from streamvis.stages.publish.stage import PublishStage

        return PublishStage(self, site)
