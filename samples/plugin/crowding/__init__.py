"""Crowding: people whose nearest neighbour is closer than a share of their height."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import msgspec
import numpy as np
from msgspec import Meta

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.messages import Part, SourceInfo, Tracks
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class Neighbours(msgspec.Struct, frozen=True, kw_only=True, tag="crowding.neighbours"):
    """The people of one frame who have a close neighbour, by ascending id."""

    ids: np.ndarray  # (N,) int64, of tracks
    feet: np.ndarray  # (N, 2, 2) float32, px: own foot point, and the nearest neighbour's
    close_us: np.ndarray  # (N,) int64, for how long the person has had a close neighbour


class Crowding(StageConfig, frozen=True, tag="crowding"):
    """Find people who stand close together."""

    near_heights: Annotated[float, Meta(gt=0)] = 0.5  # people are close when their foot points are
    # nearer than this, as a multiple of the mean height of their boxes
    people: Annotated[int, Meta(ge=2)] = 2  # so many close people are a crowd
    min_s: Annotated[float, Meta(ge=0)] = 1.0  # how long there must be so many, or fewer, before
    # an event

    reads: ClassVar[Parts] = frozenset({Tracks})
    writes: ClassVar[type[Part]] = Neighbours
    stateful: ClassVar[bool] = True

    def build(self, site: Site) -> Stage:
        from crowding.stage import CrowdingStage

        return CrowdingStage(self)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from crowding.overlay import CrowdingOverlay

        return CrowdingOverlay()

    @classmethod
    def event_types(cls) -> EventTypes:
        from crowding.events import CROWDING_EVENTS

        return CROWDING_EVENTS

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        from crowding.deriver import CrowdingDeriver

        return CrowdingDeriver(self, state)
