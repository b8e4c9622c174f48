"""Annotated pictures."""

from streamvis.api.checks import check_picture
from streamvis.api.packet import StreamPacket
from streamvis.errors import DataError
from streamvis.messages import Array, Frame, Packet, Part
from streamvis.stages.record.picture import draw_packet


def annotate(picture: Array, *found: StreamPacket | Packet | Part) -> Array:
    """Return a copy of the picture (H, W, 3) uint8 RGB with what was found drawn on it.

    found: a packet of `stream`, or parts: detections, tracks, actions, …. The copy is larger where
    parts are shown beside the picture, as segmentations are. docs/annotated-video.md is its legend.
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
    height, width = picture.shape[:2]
    frame = Frame(source="picture", seq=0, n=0, media_us=0, width=width, height=height)
    return draw_packet(picture, Packet(frame=frame, parts=parts))
