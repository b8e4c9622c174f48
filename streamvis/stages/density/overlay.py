"""Density on the picture: cells are opaque in proportion to the people who were in them."""

from typing import ClassVar

import cv2
import msgspec
import numpy as np

from streamvis.messages import Array, Density, Packet, SourceInfo
from streamvis.stages.overlay import Canvas, Overlay
from streamvis.viz.legend import Entry
from streamvis.viz.style import Colour

COLOUR: Colour = (0, 158, 115)  # bluish green
OPACITY = 0.6  # of the cell with most people; of others in proportion
FAINTEST = 0.08
LEGEND = Entry("area", COLOUR, 0, "people of the last interval", place=45)


class _StoredCells(msgspec.Struct, array_like=True):
    """The last interval: cells as column, row, people."""

    side: float
    unit: str
    cells: list[tuple[int, int, float]]


class DensityOverlay(Overlay):
    """Shade the cells of the last interval; on the ground plane they are drawn in perspective."""

    order: ClassVar[int] = 15

    def __init__(self, source: SourceInfo) -> None:
        plane = source.ground_plane
        self.to_picture = None if plane is None else np.linalg.inv(np.reshape(plane, (3, 3)))
        self.restart()

    def restart(self) -> None:
        self.last: _StoredCells | None = None

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self.last)

    def restore(self, state: bytes) -> None:
        self.last = msgspec.msgpack.decode(state, type=_StoredCells | None)

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        part = packet.part(Density)
        if part is not None and part.frames:
            rows = zip(part.cells.tolist(), part.people.tolist(), strict=True)
            cells = [(column, row, people) for (column, row), people in rows]
            self.last = _StoredCells(part.cell, part.unit, cells)
        if self.last is None or not self.last.cells:
            return
        most = max(people for _, _, people in self.last.cells)
        share = np.zeros(canvas.image.shape[:2], np.float32)
        for column, row, people in self.last.cells:
            outline = self._outline(self.last, column, row)
            if outline is not None:
                cv2.fillPoly(share, [outline], max(FAINTEST, OPACITY * people / most))
        tint = np.full_like(canvas.image, COLOUR)
        canvas.image[:] = cv2.blendLinear(canvas.image, tint, 1 - share, share)
        canvas.legend.append(LEGEND)

    def _outline(self, last: _StoredCells, column: int, row: int) -> Array | None:
        """Return the corners of a cell (4, 2) int32 px; None for one behind the camera."""
        square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
        corners = (square + np.array([column, row])) * last.side
        if last.unit == "px":
            return corners.round().astype(np.int32) - square.astype(np.int32)  # both ends are drawn
        if self.to_picture is None:
            return None
        seen = np.column_stack([corners, np.ones(4)]) @ self.to_picture.T  # (4, 3)
        if (seen[:, 2] * np.sign(seen[0, 2]) <= 1e-9).any():
            return None
        return (seen[:, :2] / seen[:, 2:]).clip(-1e5, 1e5).round().astype(np.int32)
