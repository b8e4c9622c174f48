"""Density of people: how many stand in each cell of a grid."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.messages import Density, Part, SourceInfo, Tracks
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class DensityMap(StageConfig, frozen=True, tag="density"):
    """Count people in the cells of a grid by their foot points, as a mean over an interval."""

    cell_px: Annotated[float, Meta(ge=4)] = 64.0  # px of the source frame; side of a square cell
    cell_m: Annotated[float, Meta(ge=0.01)] | None = None  # side of a square cell on the
    # ground plane; then people without a position on it are not counted; none: cells of the frame
    interval_s: Annotated[float, Meta(ge=0.1)] = 10.0  # media time over which people are averaged

    reads: ClassVar[Parts] = frozenset({Tracks})
    writes: ClassVar[type[Part]] = Density
    stateful: ClassVar[bool] = True

    def build(self, site: Site) -> Stage:
        from streamvis.stages.density.stage import DensityStage

        return DensityStage(self)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.density.overlay import DensityOverlay

        return DensityOverlay(drawing.source)

    @classmethod
    def event_types(cls) -> EventTypes:
        from streamvis.stages.density.events import DENSITY_EVENTS

        return DENSITY_EVENTS

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        from streamvis.stages.density.deriver import DensityDeriver

        return DensityDeriver()
