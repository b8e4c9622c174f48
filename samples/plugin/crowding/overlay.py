"""Draws lines between close people in the annotated video."""

from typing import ClassVar

import cv2

from crowding import Neighbours
from streamvis.messages import Packet
from streamvis.stages.overlay import Canvas, Overlay
from streamvis.viz.legend import Entry

RED = (213, 94, 0)


class CrowdingOverlay(Overlay):
    """A line from each close person's foot point to the nearest neighbour's."""

    order: ClassVar[int] = 35  # above the tracks

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        part = packet.part(Neighbours)
        if part is None or not len(part.ids):
            return
        for (x, y), (u, v) in part.feet.round().astype(int).tolist():
            cv2.line(canvas.image, (x, y), (u, v), RED, 2 * canvas.style.line, cv2.LINE_AA)
        canvas.legend.append(Entry("line", RED, 2, "close together"))
