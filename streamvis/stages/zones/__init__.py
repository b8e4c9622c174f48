"""Zones and lines: who is in a zone, who has crossed a line, and for how long."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.messages import Forecast, Part, SourceInfo, Tracks
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig
from streamvis.stages.zones.part import Zones
from streamvis.zone_layout import Line, Zone, ZoneLayout

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class ZoneCounter(StageConfig, frozen=True, tag="zones"):
    """Count people in zones and over lines, with corrections, probabilities and forecasts."""

    zones: tuple[Zone, ...] = ()  # zones of each source that has no zones file
    lines: tuple[Line, ...] = ()  # lines of each source that has no zones file
    update_s: Annotated[float, Meta(ge=0)] = 1.0  # media time between two zone.update, and between
    # two zone.forecast, of a zone
    horizons_s: tuple[Annotated[float, Meta(gt=0, le=30)], ...] = (1.0, 3.0)  # how far ahead
    # occupancy is forecast; none: no forecasts
    keep_s: Annotated[float, Meta(ge=0, le=3700)] = 90.0  # corrections of tracks that ended longer
    # ago do not change what was counted
    absent_s: Annotated[float, Meta(gt=0, le=3600)] = 4.0  # a track that no frame has had for so
    # long is taken as lost until it is seen again, though it has not ended

    reads: ClassVar[Parts] = frozenset({Tracks})
    may_read: ClassVar[Parts] = frozenset({Forecast})
    writes: ClassVar[type[Part]] = Zones
    stateful: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.layout_of(None)

    def layout_of(self, source: SourceInfo | None) -> ZoneLayout:
        """Return the zones and lines of a source: its own, or those of the settings."""
        if source is not None and source.zones is not None:
            return source.zones
        return ZoneLayout(zones=self.zones, lines=self.lines)

    @property
    def reads_pixels(self) -> bool:
        return False

    def build(self, site: Site) -> Stage:
        from streamvis.stages.zones.stage import ZonesStage

        return ZonesStage(self)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.zones.overlay import ZonesOverlay

        return ZonesOverlay(drawing, self.layout_of(drawing.source))

    @classmethod
    def event_types(cls) -> EventTypes:
        from streamvis.stages.zones.events import ZONE_EVENTS

        return ZONE_EVENTS

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        from streamvis.stages.zones.deriver import ZonesDeriver

        return ZonesDeriver(source, state)
