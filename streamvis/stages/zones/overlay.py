"""Zones and lines on the picture: who is in a zone and for how long, who has crossed a line."""

from typing import ClassVar

import msgspec
import numpy as np

from streamvis.messages import Array, Packet
from streamvis.stages.overlay import Canvas, Drawing, Overlay
from streamvis.stages.zones.events import ZoneLayoutSet
from streamvis.stages.zones.part import Zones
from streamvis.viz.legend import Entry
from streamvis.viz.style import PALE, PALETTE
from streamvis.viz.zones import Label, Sides, Size, ZonesDrawing
from streamvis.zone_layout import ZoneLayout

ZONE = Entry("area", PALETTE[0], 0, "zone: people inside, longest stay", place=42)
LINE = Entry("line", PALE, 1, "line: crossings; the arrow points in", place=43)


class _LastSeen(msgspec.Struct, array_like=True):
    """What labels say until the next frame with the part: by zone and by line."""

    layout: ZoneLayout
    zones: dict[str, tuple[int, int]]  # people, longest stay in µs
    lines: dict[str, tuple[int, int]]  # in, out


class ZonesOverlay(Overlay):
    """Fill zones, with how many people are inside and the longest stay; draw lines with totals.

    They are drawn below people, on the ground plane in perspective, and their labels above all
    layers. A zone with people has a thick outline.
    """

    order: ClassVar[int] = 12

    def __init__(self, drawing: Drawing, layout: ZoneLayout) -> None:
        self.source = drawing.source
        self.last = _LastSeen(layout, {}, {})
        self._drawings: dict[Size, ZonesDrawing] = {}  # of the present layout

    def restart(self) -> None:
        self.last = _LastSeen(self.last.layout, {}, {})

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self.last)

    def restore(self, state: bytes) -> None:
        self.last = msgspec.msgpack.decode(state, type=_LastSeen)
        self._drawings.clear()

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        part = packet.part(Zones)
        if part is not None:
            self._take(part)
        layout = self.last.layout
        zones = {name: label_of(*seen) for name, seen in self.last.zones.items()}
        lines = {
            name: Sides(f"in {right}", f"out {left}")
            for name, (right, left) in self.last.lines.items()
        }
        height, width = canvas.image.shape[:2]
        labels = self._drawing((width, height)).draw(canvas.image, zones, lines)
        canvas.above += labels
        canvas.plates += [label.plate for label in labels]
        canvas.legend += [ZONE] * bool(layout.zones) + [LINE] * bool(layout.lines)

    def _take(self, part: Zones) -> None:
        """Remember the numbers of a frame, and the layout where it has changed."""
        layout = self.last.layout
        for event in part.events:
            if isinstance(event, ZoneLayoutSet):
                layout = event.zone
        if layout != self.last.layout:
            self._drawings.clear()
        inside = zip(part.people.tolist(), part.longest_us.tolist(), strict=True)
        totals = zip(part.in_total.tolist(), part.out_total.tolist(), strict=True)
        self.last = _LastSeen(
            layout,
            dict(zip(part.zones, inside, strict=True)),
            dict(zip(part.lines, totals, strict=True)),
        )

    def _drawing(self, size: Size) -> ZonesDrawing:
        if size not in self._drawings:
            plane = self._plane(size)
            self._drawings[size] = ZonesDrawing(self.last.layout, size, plane)
        return self._drawings[size]

    def _plane(self, size: Size) -> Array | None:
        """Return the map from pixels of the picture to metres, if the source has one."""
        source = self.source
        if source.ground_plane is None:
            return None
        plane: Array = np.reshape(source.ground_plane, (3, 3))
        if not (source.width and source.height):
            return plane
        return plane @ np.diag([source.width / size[0], source.height / size[1], 1])


def label_of(people: int, longest_us: int) -> Label:
    """Return what is said of a zone: the people inside, and the longest stay where there is one."""
    if not people:
        return Label("0")
    return Label(f"{people}, {stay(longest_us)}", bold=True)


def stay(us: int) -> str:
    """Return a time of stay as minutes and seconds, or hours and minutes: 0:07, 12:30, 2 h 05."""
    seconds = us // 1_000_000
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02}"
    return f"{seconds // 60}:{seconds % 60:02}"
