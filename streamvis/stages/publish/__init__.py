"""The event log and the event feed."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.stages.protocol import Site, Stage, StageConfig, has_events

LIVE_UPDATE_US = 1_000_000  # a frame's updates of a live source would be gigabytes a day


class Publish(StageConfig, frozen=True, tag="publish"):
    """Write events to the log, then publish them on the feed."""

    bind: str | None = "tcp://127.0.0.1:5560"  # ZeroMQ address of the feed; none: event log only
    keys: str | None = None  # directory of keys, made by `streamvis keys new DIR`: only clients
    # whose public key is there are served; needed for addresses that other machines can reach
    update_every_s: Annotated[float, Meta(ge=0)] | None = None  # shortest interval between two
    # updates of the same thing, such as a track; 0: one for every frame; none: 0 for files, 1 s for
    # live sources
    replay: bool = True  # start a process that answers late joiners and those who have missed
    # something from the event log, at the next port; without --out there is none
    keep_days: Annotated[float, Meta(gt=0)] | None = None  # events of hours that ended so long ago
    # are evicted from the log; none: never
    keep_gb: Annotated[float, Meta(ge=0.01)] | None = None  # size of the log from which the events
    # of its oldest hour are evicted; none: no limit
    attach: tuple[Literal["masks"], ...] = ()  # data sent with the events on the feed, not to the
    # log; masks: the label map as PNG

    provenance: bool = False  # state in each event about a frame on which device each stage
    # processed that frame, and how long it took: `prov.stages`

    stateful: ClassVar[bool] = True
    follows_status: ClassVar[bool] = True

    def every_us(self, *, live: bool) -> int:
        """Return the shortest media time between two updates of the same thing."""
        if self.update_every_s is not None:
            return round(self.update_every_s * 1e6)
        return LIVE_UPDATE_US if live else 0

    def uses(self, other: StageConfig) -> bool:
        return has_events(other)

    @property
    def reads_runs(self) -> bool:
        return self.provenance

    def missing(self, above: Sequence[StageConfig]) -> str | None:
        if any(map(self.uses, above)):
            return None
        return (
            "has nothing to publish: no stage above it has events; name one that has, such as a "
            "tracker, in its `after`"
        )

    @property
    def reads_pixels(self) -> bool:
        return False

    def build(self, site: Site) -> Stage:
        from streamvis.stages.publish.stage import PublishStage

        return PublishStage(self, site)
