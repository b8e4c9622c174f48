"""Segmentation on the picture: out-of-distribution pixels are highlighted; a panel beside it.

The panel shows the last segmented frame, in class colours.
"""

from typing import ClassVar

import cv2
import msgspec
import numpy as np

from streamvis.messages import Array, Packet, Segmentation
from streamvis.stages.overlay import Canvas, Overlay
from streamvis.viz.legend import Entry
from streamvis.viz.panels import BandEntry, Panel, outline, titled
from streamvis.viz.scene import blended, palette_of
from streamvis.viz.style import UNKNOWN, Style

HIGHLIGHT_FROM = 0.3  # out-of-distribution probability from which a pixel is highlighted
HIGHLIGHT_OPACITY = 0.75  # of the highlight at probability 1
SURE = 0.5  # probability from which a highlighted region is outlined
TITLE = "now"
LEGEND = Entry("area", UNKNOWN, 0, "out-of-distribution object", place=40)


class _StoredPanel(msgspec.Struct, frozen=True, array_like=True):
    """What the panel shows; a video has one size, so that it stays once there was one."""

    labels: tuple[str, ...]
    unknown: bool  # out-of-distribution pixels are highlighted


class SegmentOverlay(Overlay):
    """Highlight out-of-distribution pixels and show the classes; as before between two samples."""

    order: ClassVar[int] = 10
    panels: ClassVar[int] = 1

    def __init__(self) -> None:
        self.shown: _StoredPanel | None = None
        self.restart()

    def restart(self) -> None:
        self.unknown: Array | None = None  # (h, w) uint8, 255·probability
        self.panel: Array | None = None

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self.shown)

    def restore(self, state: bytes) -> None:
        self.shown = msgspec.msgpack.decode(state, type=_StoredPanel | None)

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        part = packet.part(Segmentation)
        if part is not None:
            self.shown = _StoredPanel(part.labels, part.unknown.size > 0)
            self.unknown = part.unknown
            panel = blended(canvas.small, part.classes, palette_of(part.labels))
            self.panel = titled(panel, TITLE)
        if self.unknown is not None and self.unknown.size:
            highlight(canvas.image, self.unknown)
            canvas.legend.append(LEGEND)
        if self.shown is not None:
            canvas.panels.append(Panel(TITLE, self.panel))
            canvas.band += map(BandEntry, self.shown.labels, palette_of(self.shown.labels))
            if self.shown.unknown:
                canvas.band.append(BandEntry("out-of-distribution", UNKNOWN))


def highlight(image: Array, unknown: Array) -> None:
    """Highlight out-of-distribution pixels; `unknown` (h, w) uint8 is 255 · probability."""
    if not (unknown > 255 * HIGHLIGHT_FROM).any():
        return
    height, width = image.shape[:2]
    code = cv2.resize(unknown, (width, height), interpolation=cv2.INTER_LINEAR)
    x, y, w, h = cv2.boundingRect((code > 255 * HIGHLIGHT_FROM).astype(np.uint8))
    region = image[y : y + h, x : x + w]
    p = code[y : y + h, x : x + w] / np.float32(255)
    share = np.clip((p - HIGHLIGHT_FROM) / (1 - HIGHLIGHT_FROM), 0, 1) * np.float32(
        HIGHLIGHT_OPACITY
    )
    region[:] = cv2.blendLinear(region, np.full_like(region, UNKNOWN), 1 - share, share)
    line = Style.for_size(height, width).line
    outline(image, (code >= 255 * SURE).astype(np.uint8), UNKNOWN, line)
