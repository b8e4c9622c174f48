"""The class of every pixel, as `scene.update` has it attached on the feed, for viewers."""

import struct
from typing import Literal, NamedTuple

import msgspec

from streamvis.events.envelope import FrameRef, Mask, Time

FAMILY = "scene"
LENGTH = struct.Struct("<H")  # of the JSON that is before the PNG
PAYLOAD = 2  # number of the message frame with the event; attachments follow it


class MaskLabels(msgspec.Struct, frozen=True):
    """What a viewer has to know of a mask."""

    labels: tuple[str, ...]  # names of pixel values, from 0


class MaskOfScene(msgspec.Struct, frozen=True):
    """What is read of the scene."""

    mask: Mask | None = None


class MaskedScene(msgspec.Struct, frozen=True):
    """What is read of a `scene.update` event."""

    type: Literal["scene.update"]
    frame: FrameRef
    time: Time
    scene: MaskOfScene


class ClassMask(NamedTuple):
    """A mask, as it is sent: the header without its kind, and what follows it."""

    header: tuple[int, int, int, int, int, int]
    payload: bytes


_decode = msgspec.json.Decoder(MaskedScene).decode


def mask_of_message(parts: list[bytes]) -> ClassMask | None:
    """Return the mask of a message of the feed; None: it has none.

    Raises DecodeError, RecursionError or IndexError for another message.
    """
    event = _decode(parts[PAYLOAD])
    mask, frame, time = event.scene.mask, event.frame, event.time
    if mask is None or mask.attachment < 0:
        return None
    labels = msgspec.json.encode(MaskLabels(mask.labels))
    if len(labels) >= 1 << 16:
        return None
    header = (frame.stream_epoch, frame.n, time.media_us, time.capture_us, frame.w, frame.h)
    png = parts[PAYLOAD + 1 + mask.attachment]
    return ClassMask(header, LENGTH.pack(len(labels)) + labels + png)
