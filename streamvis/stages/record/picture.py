"""The annotated picture of a frame, made by the overlays of the stages above.

    picture = draw_packet(pixels, packet)  # of one packet, without what was before it

docs/annotated-video.md is the legend.
"""

from collections.abc import Iterable, Mapping

import msgspec
import numpy as np

from streamvis.messages import Array, Packet, SourceInfo
from streamvis.stages import installed_kinds
from streamvis.stages.overlay import Canvas, Drawing, Overlay
from streamvis.stages.protocol import StageConfig, part_name
from streamvis.viz.panels import surrounded
from streamvis.viz.style import DARK, PALE, shade


def draw_packet(pixels: Array, packet: Packet) -> Array:
    """Return a picture of the frame with the parts of its packet, drawn as in the annotated video.

    `pixels` is the frame, (H, W, 3) uint8 RGB, and stays as it is. The stages that wrote the parts
    are taken to have the default settings. The picture is larger than the frame where parts are
    shown beside it, as segmentations are. It has neither trails nor a ground map, which show what
    was before.
    """
    frame = packet.frame
    source = SourceInfo(
        id=frame.source,
        label=frame.source,
        width=frame.width,
        height=frame.height,
        fps=0,
        live=False,
    )
    parts = {type(part) for part in packet.parts}
    writers = [one for one in _defaults() if one.writes in parts]
    overlays = overlays_of(writers, Drawing(source=source))
    return framed(drawn(overlays, packet, pixels))


def _defaults() -> Iterable[StageConfig]:
    """Yield the default settings of all kinds that have some."""
    for kind in installed_kinds().kinds:
        if not any(field.required for field in msgspec.structs.fields(kind)):
            yield kind()


def overlays_of(above: Iterable[StageConfig], drawing: Drawing) -> dict[str, Overlay]:
    """Return new overlays by the name of the part that each draws, in the order of drawing.

    Of several stages that write the same part the first has an overlay.
    """
    overlays: dict[str, Overlay] = {}
    for config in above:
        name = part_name(config.writes)
        if name not in overlays and (overlay := config.overlay(drawing)) is not None:
            overlays[name] = overlay
    return dict(sorted(overlays.items(), key=lambda item: item[1].order))


def drawn(
    overlays: Mapping[str, Overlay], packet: Packet, pixels: Array, elapsed_s: float = 0.0
) -> Canvas:
    """Return the canvas of a frame on which all overlays have drawn."""
    panels = sum(overlay.panels for overlay in overlays.values())
    canvas = Canvas.of(pixels, panels, elapsed_s)
    for overlay in overlays.values():
        overlay.draw(canvas, packet)
    for label in canvas.above:
        canvas.style.write_label(canvas.image, label)
    return canvas


def framed(canvas: Canvas) -> Array:
    """Return the picture with what overlays have added beside and around it."""
    picture = np.concatenate([canvas.image, *canvas.beside], axis=1)
    return surrounded(picture, canvas.panels, canvas.cell, canvas.band)


def draw_caption(canvas: Canvas, caption: str, clock: str) -> None:
    """Draw the bar along the lower edge: the caption, cut to fit, and the clock."""
    image, style = canvas.image, canvas.style
    height, width = image.shape[:2]
    pad = (style.bar - style.text) // 2
    shade(image[max(0, height - style.bar) :], DARK, 0.62)
    room = width - 3 * pad - style.width(clock)
    style.write(image, style.ending(caption, room), pad, height - pad, PALE)
    style.write(image, clock, width - pad - style.width(clock), height - pad, PALE)
