"""The layers of the annotated picture: each kind of stage draws its own part.

    class DensityOverlay(Overlay):
        def draw(self, canvas: Canvas, packet: Packet) -> None:
            part = packet.part(DensityMap)
            if part is not None:
                shade(canvas.image, …)
                canvas.legend.append(Entry("area", SKY, 0, "crowded"))

A kind returns its overlay from `StageConfig.overlay`; there is one overlay for each source.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol

import cv2
import msgspec
import numpy as np

from streamvis.messages import Array, Packet, SourceInfo
from streamvis.viz.legend import Entry
from streamvis.viz.panels import BandEntry, Panel, cell_of
from streamvis.viz.style import Colour, PlacedLabel, Plate, Style

MOST_MOVES = 4  # of a plate that would cover another one


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """What the overlays of a source are drawn for: the source, and settings of kind `record`."""

    source: SourceInfo
    trail_s: float = 0.0  # length of trails; 0: none
    masks: bool = True
    horizon_s: float | None = None  # of the forecast that is shown; None: the farthest


@dataclass
class Canvas:
    """The annotated picture of one frame while overlays draw on it.

    Overlays draw on `image` in place, and append to the lists what belongs beside the picture.
    """

    pixels: Array  # (H, W, 3) uint8 RGB, the frame, read-only
    image: Array  # (H, W, 3) uint8 RGB, the picture
    style: Style  # line widths and text sizes for this picture
    cell: tuple[int, int]  # width and height of a panel, px
    elapsed_s: float = 0.0  # since the previous picture; in the video, also across reconnects
    plates: list[Plate] = field(default_factory=list)  # areas that labels should not cover
    above: list[PlacedLabel] = field(default_factory=list)  # labels above all layers
    legend: list[Entry] = field(default_factory=list)  # of what is drawn
    beside: list[Array] = field(default_factory=list)  # pictures (H, any width, 3) to the right
    panels: list[Panel] = field(default_factory=list)  # around the picture
    band: list[BandEntry] = field(default_factory=list)  # legend of the panels, below everything

    @classmethod
    def of(cls, pixels: Array, panels: int = 0, elapsed_s: float = 0.0) -> "Canvas":
        """Return the canvas of a frame around which there will be so many panels."""
        height, width = pixels.shape[:2]
        return cls(
            pixels=pixels,
            image=np.array(pixels, dtype=np.uint8, order="C"),
            style=Style.for_size(height, width),
            cell=cell_of(height, width, panels),
            elapsed_s=elapsed_s,
        )

    @cached_property
    def small(self) -> Array:
        """The frame at the size of a panel, (h, w, 3) uint8; not to be drawn on."""
        return cv2.resize(self.pixels, self.cell, interpolation=cv2.INTER_AREA)

    def plate(self, text: str, x: int, y: int, colour: Colour, *, below: bool = False) -> None:
        """Write a label with its lower left corner at (x, y), moved where it would cover others.

        It is moved up, or down first where it belongs `below` something.
        """
        y = (self._lower(text, x, y) if below else None) or self._higher(text, x, y)
        self.plates.append(self.style.plate(self.image, text, x, y, colour))

    def _higher(self, text: str, x: int, y: int) -> int:
        """Return the lower edge at which the label covers no other, at y or above."""
        for _ in range(MOST_MOVES):
            covered = self._covered(self.style.place(self.image, text, x, y))
            if not covered:
                break
            y = min(top for _, top, _, _ in covered)
        return y

    def _lower(self, text: str, x: int, y: int) -> int | None:
        """Return the same at y or below; None where the picture ends before, or the caption is."""
        for _ in range(MOST_MOVES):
            place = self.style.place(self.image, text, x, y)
            covered = self._covered(place)
            if not covered:
                return y
            y = max(bottom for _, _, _, bottom in covered) + place[3] - place[1]
            if y > len(self.image) - self.style.bar:
                return None
        return None

    def _covered(self, plate: Plate) -> list[Plate]:
        x1, y1, x2, y2 = plate
        return [
            (a, b, c, d) for a, b, c, d in self.plates if a < x2 and x1 < c and b < y2 and y1 < d
        ]


class Overlay(Protocol):
    """The layer of one kind of stage in the annotated pictures of one source.

    Only `draw` has to be written. It is called for each frame, also for one without the stage's
    part; an overlay that remembers something writes the other methods as well.
    """

    order: ClassVar[int] = 50  # lower ones are drawn first, below the others: out-of-distribution
    # objects 10, detections 20, tracks 30, actions 40
    panels: ClassVar[int] = 0  # how many panels it adds around the picture

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        """Draw what the packet's parts say, and remember what later pictures need."""

    def state(self) -> bytes:
        """Return what a successor needs to continue after the last picture."""
        return b""

    def restore(self, state: bytes) -> None:
        """Continue from the state of a predecessor."""
        return

    def restart(self) -> None:
        """Discard what belongs to the previous stream epoch: ids and media time start anew."""
        return
