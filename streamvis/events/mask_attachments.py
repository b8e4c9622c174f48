"""Segmentation masks attached to events: grey PNGs whose values index the event's labels.

for event in streamvis.subscribe("tcp://127.0.0.1:5560", family="forecast"):
    classes = mask_of(event)  # (h, w) uint8, or None
"""

import struct

import cv2
import numpy as np

from streamvis.errors import DataError
from streamvis.events.deriver import PublishPolicy
from streamvis.events.envelope import Event, Mask
from streamvis.events.feed import LONGEST
from streamvis.messages import Array

SIGNATURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # then width and height, u32 big-endian


def png(classes: Array) -> bytes | None:
    """Classes (h, w) uint8 as a PNG; None when it is larger than subscribers accept."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(classes))
    return data.tobytes() if done and data.size <= LONGEST else None


def mask_attachment(
    labels: tuple[str, ...], classes: Array, policy: PublishPolicy
) -> tuple[Mask | None, tuple[bytes, ...]]:
    """Return the description of a mask and its attachment; None and none without masks."""
    data = png(classes) if policy.masks else None
    if data is None:
        return None, ()
    height, width = classes.shape
    return Mask(attachment=0, w=width, h=height, labels=labels), (data,)


def mask_of(event: Event) -> Array | None:
    """The classes (h, w) uint8 attached to an event; None without an attachment.

    DataError when the attachment is not the mask that the event describes.
    """
    members = (getattr(event.what, name) for name in event.what.__struct_fields__)
    masks = (getattr(member, "mask", None) for member in members)
    mask = next((mask for mask in masks if isinstance(mask, Mask)), None)
    if mask is None or mask.attachment >= len(event.attachments):
        return None
    return _read(event.attachments[mask.attachment], mask)


def _read(data: bytes, mask: Mask) -> Array:
    """Decode a mask; its size is checked first, since a small file may hold a huge picture."""
    start = SIGNATURE + struct.pack(">II", mask.w, mask.h) if _drawable(mask) else None
    classes = None
    if start and data.startswith(start):
        classes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if classes is None or classes.shape != (mask.h, mask.w) or classes.dtype != np.uint8:
        raise DataError(
            f"the attachment of {len(data)} bytes is not a grey PNG of {mask.w}×{mask.h} pixels, "
            "as its event says"
        )
    return classes


def _drawable(mask: Mask) -> bool:
    return 0 < mask.w <= 8192 and 0 < mask.h <= 8192
