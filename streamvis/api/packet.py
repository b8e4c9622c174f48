"""A frame of a stream with its pixels and everything that was found in it."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from streamvis.messages import (
    Actions,
    Array,
    Density,
    Detections,
    Embeddings,
    Forecast,
    Frame,
    Motion,
    Part,
    Poses,
    Segmentation,
    Tracks,
)
from streamvis.stages.zones.part import Zones

P = TypeVar("P", bound=Part)


class StreamPacket(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A frame, its pixels, and the parts that stages have added to it.

    A part is None when the pipeline has no such stage, or skipped the frame.
    """

    frame: Frame
    parts: Sequence[Part]  # in the order of the pipeline
    pixels: Array  # (H, W, 3) uint8 RGB, read-only: copy it to draw on it

    def part(self, kind: type[P]) -> P | None:
        """Return the part of this kind, also of another package's."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    @property
    def source(self) -> str:
        """The id of the source."""
        return self.frame.source

    @property
    def time_s(self) -> float:
        """The media time, seconds from the source's first frame."""
        return self.frame.media_us / 1e6

    @property
    def detections(self) -> Detections | None:
        return self.part(Detections)

    @property
    def embeddings(self) -> Embeddings | None:
        return self.part(Embeddings)

    @property
    def motion(self) -> Motion | None:
        """The motion of the camera since the frame before."""
        return self.part(Motion)

    @property
    def tracks(self) -> Tracks | None:
        return self.part(Tracks)

    @property
    def actions(self) -> Actions | None:
        return self.part(Actions)

    @property
    def poses(self) -> Poses | None:
        return self.part(Poses)

    @property
    def segmentation(self) -> Segmentation | None:
        return self.part(Segmentation)

    @property
    def forecast(self) -> Forecast | None:
        return self.part(Forecast)

    @property
    def density(self) -> Density | None:
        """People by cell; its `frames` are 0 unless an interval has ended with this frame."""
        return self.part(Density)

    @property
    def zones(self) -> Zones | None:
        """The number of people in each zone, and the crossings of each line so far."""
        return self.part(Zones)

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        parts = "".join(
            f", {part!r}" for part in self.parts if isinstance(part, Detections | Tracks)
        )
        return f"StreamPacket({self.source}, {self.time_s:g} s, {width}x{height} px{parts})"
