"""The class of every pixel: how it comes from the feed, and when viewers are sent it."""

import json
import struct

import cv2
import numpy as np
import pytest
from web_video import HEADER, MASK

from streamvis.events.envelope import Event, FrameRef, Mask, Time, encode
from streamvis.runtime.control import SourcePicture
from streamvis.stages.segment.events import Scene, SceneUpdate
from streamvis.web.video_masks import mask_of_message
from streamvis.web.video_pairing import ShownFrame
from streamvis.web.video_source import _take
from streamvis.web.video_viewer import Viewer

CLASSES = np.arange(12, dtype=np.uint8).reshape(3, 4)
PNG = cv2.imencode(".png", CLASSES)[1].tobytes()


def message(mask, *attachments, n=7):
    """A message of the feed, as the publisher sends it."""
    event = Event(
        id="x",
        source="gate",
        epoch="e1",
        tseq=1,
        offset=0,
        time=Time(media_us=40_000 * n, capture_us=5),
        frame=FrameRef(n=n, seq=n, w=640, h=480, stream_epoch=2),
        what=SceneUpdate(Scene(classes={"road": 1.0}, mask=mask)),
    )
    return [b"sv1/gate/scene/", struct.pack(">Q", 1), encode(event), *attachments]


MASKED = Mask(attachment=0, w=4, h=3, labels=("road", "sky"))


class Channel:
    source = "gate"

    def __init__(self):
        self.masks = []

    def mask(self, mask):
        self.masks.append(mask)


def picture(n):
    found = SourcePicture(
        source="gate",
        n=n,
        stream_epoch=2,
        media_us=40_000 * n,
        capture_us=5,
        width=640,
        height=480,
        jpeg=b"jpeg",
    )
    return ShownFrame(found, None)


def test_a_viewer_is_sent_the_mask_of_a_frame_with_its_labels():
    channel, viewer = Channel(), Viewer()
    assert not _take(channel, message(MASKED, PNG))  # these are no tracks
    viewer.mask(*channel.masks)
    (sent,) = viewer.messages(0.0)
    assert HEADER.unpack_from(sent) == (MASK, 2, 7, 280_000, 5, 640, 480)
    payload = sent[HEADER.size :]
    (length,) = struct.unpack_from("<H", payload)
    assert json.loads(payload[2 : 2 + length]) == {"labels": ["road", "sky"]}
    pixels = cv2.imdecode(np.frombuffer(payload[2 + length :], np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(pixels, CLASSES)


@pytest.mark.parametrize(
    "parts",
    [
        message(None),
        message(MASKED),  # without its attachment
        message(Mask(attachment=3, w=4, h=3, labels=()), PNG),
        message(Mask(attachment=0, w=4, h=3, labels=("x" * 70_000,)), PNG),
        [*message(MASKED)[:2], b'{"type": "scene.update", "scene": ' + b"[" * 100_000, PNG],
        [*message(MASKED)[:2], b'{"type": "zone.update"}', PNG],
        message(MASKED)[:2],
    ],
)
def test_messages_without_a_mask_are_passed_over(parts):
    channel = Channel()
    assert not _take(channel, parts)
    assert channel.masks == []


def test_a_viewer_that_acknowledges_nothing_is_sent_no_more_masks_then_the_newest():
    viewer = Viewer()
    for n in range(50):
        viewer.offer(picture(n), 0.0)
        viewer.mask(mask_of_message(message(MASKED, PNG, n=n)))
        sent = viewer.messages(0.0)
        assert len(sent) == (2 if n < 2 else 0)
    viewer.acknowledge(0, 0.0)
    kinds = [HEADER.unpack_from(one)[:3] for one in viewer.messages(0.0)]
    assert (MASK, 2, 49) in kinds
    assert all(seq == 49 for _, _, seq in kinds)
