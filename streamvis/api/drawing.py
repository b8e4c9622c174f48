"""Annotated pictures."""

from typing import TypeVar

from streamvis.api.checks import check_picture
from streamvis.api.packet import StreamPacket
from streamvis.errors import DataError
from streamvis.messages import Actions, Array, Detections, Packet, Part, Tracks
from streamvis.viz import annotate as drawing

P = TypeVar("P", bound=Part)


def annotate(picture: Array, *found: StreamPacket | Packet | Part, masks: bool = True) -> Array:
    """Return a copy of the picture (H, W, 3) uint8 RGB with what was found drawn on it.

    found: a packet of `stream`, or parts: detections, tracks, actions. masks: draw outlines of
    people, too.
    """
    check_picture(picture, "annotate")
    parts: list[Part] = []
    for one in found:
        if isinstance(one, StreamPacket | Packet):
            parts += one.parts
        elif isinstance(one, Part):
            parts.append(one)
        else:
            raise DataError(
                f"annotate: cannot draw a {type(one).__name__}; expected a packet or parts"
            )
    return drawing.annotate(
        picture,
        _first(Detections, parts),
        _first(Tracks, parts),
        actions=_first(Actions, parts),
        masks=masks,
    )


def _first(kind: type[P], parts: list[Part]) -> P | None:
    return next((part for part in parts if isinstance(part, kind)), None)
