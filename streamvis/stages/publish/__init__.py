"""The event log and the event feed."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from streamvis.messages import Actions, Forecast, Segmentation, Tracks
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The condition for `unknown.begin`, which reports an out-of-distribution object."""

    p: Annotated[float, Meta(gt=0, le=1)] = 0.5  # probability from which a pixel counts as
    # out-of-distribution
    area: Annotated[float, Meta(gt=0, le=1)] = 0.002  # share of the frame that connected pixels of
    # this kind must cover; the object has ended once they cover less than half of it
    min_s: Annotated[float, Meta(ge=0, le=60)] = 0.5  # how long they must cover it before the event
    # is published


class Publish(StageConfig, frozen=True, tag="publish"):
    """Write events to the log, then publish them on the feed."""

    bind: str | None = "tcp://127.0.0.1:5560"  # ZeroMQ address of the feed; none: event log only
    update_every_s: Annotated[float, Meta(ge=0)] = 0.0  # shortest interval between two updates of
    # the same track, action, scene or forecast; 0: one for every frame
    unknown: Alarm = Alarm()  # when an out-of-distribution object is reported; needs weights that
    # find them, such as street-outlier
    attach: tuple[Literal["masks"], ...] = ()  # data sent with the events on the feed, not to the
    # log; masks: the label map as PNG

    may_read: ClassVar[Parts] = frozenset({Tracks, Actions, Segmentation, Forecast})
    stateful: ClassVar[bool] = True

    def missing(self, above: Sequence[StageConfig]) -> str | None:
        if any(map(self.uses, above)):
            return None
        return (
            "reads Tracks, but nothing above it writes them; Actions, Segmentation or "
            "Forecast would do as well: name the stage that writes them in its `after`"
        )

    def build(self, site: Site) -> Stage:
        from streamvis.stages.publish.stage import PublishStage

        return PublishStage(self, site)
