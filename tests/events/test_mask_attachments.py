"""Pictures of classes beside events, and what is made of those that are none."""

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from streamvis.errors import DataError
from streamvis.events.envelope import Event, Mask, Time
from streamvis.events.feed import LONGEST
from streamvis.events.mask_attachments import mask_of, png
from streamvis.events.source_events import Finish, SourceEof
from streamvis.stages.segment.events import Scene, SceneUpdate


def event_with(*attachments, w=4, h=3, attachment=0):
    mask = Mask(attachment=attachment, w=w, h=h, labels=("road",))
    return Event(
        id="x",
        source="cam1",
        epoch="e",
        tseq=1,
        offset=0,
        time=Time(media_us=0),
        what=SceneUpdate(Scene(classes={}, mask=mask)),
        attachments=attachments,
    )


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_reading_undoes_writing(classes):
    h, w = classes.shape
    np.testing.assert_array_equal(mask_of(event_with(png(classes), w=w, h=h)), classes)


def test_a_slice_of_a_larger_array_is_written_as_it_looks():
    classes = np.arange(24, dtype=np.uint8).reshape(4, 6)[1:, ::2]
    np.testing.assert_array_equal(mask_of(event_with(png(classes), w=3, h=3)), classes)


def test_what_subscribers_would_not_take_is_not_written():
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1100), np.uint8)
    assert png(noise) is None
    assert len(png(np.zeros((1024, 1100), np.uint8))) < LONGEST


def test_an_event_without_a_mask_or_without_its_attachment_has_none():
    event = event_with()
    assert mask_of(event) is None
    assert mask_of(event_with(b"other", attachment=1)) is None
    what = SourceEof(Finish(1))
    assert mask_of(msgspec.structs.replace(event, what=what, attachments=(b"x",))) is None
    bare = SceneUpdate(Scene(classes={}))
    assert mask_of(msgspec.structs.replace(event, what=bare, attachments=(b"x",))) is None


good = png(np.zeros((3, 4), np.uint8))


@pytest.mark.parametrize(
    "event",
    [
        event_with(b""),
        event_with(b"noise" * 20),
        event_with(good[:30]),
        event_with(good, w=3, h=4),
        event_with(good, w=2**40, h=3),
        event_with(good, w=0, h=0),
        event_with(png(np.zeros((20_000, 1), np.uint8)), w=1, h=20_000),
        event_with(cv2.imencode(".png", np.zeros((3, 4, 3), np.uint8))[1].tobytes()),
        event_with(cv2.imencode(".png", np.zeros((3, 4), np.uint16))[1].tobytes()),
        event_with(cv2.imencode(".jpg", np.zeros((3, 4), np.uint8))[1].tobytes()),
    ],
    ids=range(10),
)
def test_what_is_not_the_picture_that_was_told_of_is_a_data_error(event):
    with pytest.raises(DataError, match="is not a grey PNG of"):
        mask_of(event)


@given(st.binary(max_size=200))
def test_noise_is_a_data_error_or_a_picture(data):
    try:
        classes = mask_of(event_with(good[:26] + data))
    except DataError:
        return
    assert classes.shape == (3, 4)
