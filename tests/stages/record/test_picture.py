"""Pictures of packets: which overlays draw, in which order, and what stays as it is."""

import itertools
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from factories import detections, packet, source, tracks
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.messages import Actions, ActionThresholds, Part
from streamvis.stages.actions import OffActions
from streamvis.stages.camera_motion import CameraMotion
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.embed import Appearance
from streamvis.stages.overlay import Canvas, Drawing, Overlay
from streamvis.stages.protocol import StageConfig, has_overlay
from streamvis.stages.record import Record
from streamvis.stages.record.picture import draw_caption, draw_packet, drawn, framed, overlays_of
from streamvis.stages.track import Jipda
from streamvis.viz.legend import Entry
from streamvis.viz.style import Style, colour_of

BACKGROUND = 90
BOX = (100, 60, 160, 180)
SIZE = (320, 240)


def plain(height=240, width=320):
    return np.full((height, width, 3), BACKGROUND, np.uint8)


class Crowding(msgspec.Struct, frozen=True, tag="crowding"):
    share: float


class Density(StageConfig, frozen=True, tag="density"):
    """A kind of another package."""

    red: int  # has no default
    writes: ClassVar[type[Part]] = Crowding

    def overlay(self, drawing):
        return DensityOverlay(self.red)


class DensityOverlay(Overlay):
    def __init__(self, red):
        self.red = red

    def draw(self, canvas, packet):
        part = packet.part(Crowding)
        if part is not None:
            canvas.image[: round(part.share * len(canvas.image))] = (self.red, 0, 0)
            canvas.legend.append(Entry("area", (self.red, 0, 0), 0, "crowded"))


def acting():
    thresholds = ActionThresholds(begin=0.7, end=0.5, min_us=0)
    return Actions(
        labels=("fight",),
        ids=np.array([1]),
        probabilities=np.array([[0.8]], np.float32),
        warm=np.array([True]),
        window_us=np.array([900_000]),
        sampled=np.array([True]),
        thresholds=thresholds,
    )


PARTS = (detections([BOX], masks=np.full((1, 28, 28), 255, np.uint8)), tracks([1], BOX), acting())


def drawn_by(config, parts):
    """A grey picture with these parts, as this stage draws its own."""
    overlays = overlays_of([config], Drawing(source=source(size=SIZE)))
    return framed(drawn(overlays, packet(0, *parts), plain()))


def test_without_parts_the_picture_is_a_copy_of_the_frame():
    pixels = plain()
    pixels.flags.writeable = False  # as a view on a shared slot is
    picture = draw_packet(pixels, packet(0))
    np.testing.assert_array_equal(picture, pixels)
    assert picture.flags.writeable
    assert not np.shares_memory(picture, pixels)


def test_the_parts_of_a_packet_are_drawn_by_the_kinds_that_write_them():
    picture = draw_packet(plain(), packet(0, *PARTS))
    assert (picture[180, 105:155] == colour_of(1)).all()
    assert (picture[120, 130] != BACKGROUND).any()  # the mask
    assert (picture[184:, 100:160] != BACKGROUND).any()  # the action
    assert (picture[:, 200:] == BACKGROUND).all()


def test_settings_of_the_stages_above_count():
    region = ([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9)],)
    with_region = drawn_by(MaskRcnn(region=region), PARTS)
    assert (with_region[24, 50:280] > BACKGROUND).all()
    assert (draw_packet(plain(), packet(0, *PARTS))[24, 50:280] == BACKGROUND).all()


def test_a_kind_of_another_package_is_drawn_by_its_overlay():
    part = Crowding(share=0.5)
    picture = drawn_by(Density(red=200), [part])
    assert (picture[:120] == (200, 0, 0)).all()
    assert (picture[120:] == BACKGROUND).all()
    assert (draw_packet(plain(), packet(0, part)) == BACKGROUND).all()


@pytest.mark.parametrize("above", list(itertools.permutations([MaskRcnn(), Jipda(), OffActions()])))
def test_the_order_of_stages_does_not_change_the_picture(above):
    overlays = overlays_of(above, Drawing(source=source(size=SIZE)))
    picture = framed(drawn(overlays, packet(0, *PARTS), plain()))
    np.testing.assert_array_equal(picture, draw_packet(plain(), packet(0, *PARTS)))


def test_of_two_stages_that_write_one_part_the_first_is_drawn():
    overlays = overlays_of([Density(red=200), Density(red=100)], Drawing(source=source(size=SIZE)))
    canvas = drawn(overlays, packet(0, Crowding(share=1)), plain())
    assert (canvas.image == (200, 0, 0)).all()
    assert [entry.colour for entry in canvas.legend] == [(200, 0, 0)]


def test_the_recorder_gets_the_parts_that_have_an_overlay():
    kinds = [MaskRcnn(), Jipda(), OffActions(), Density(red=1), Appearance(), CameraMotion()]
    assert [has_overlay(kind) for kind in kinds] == [True] * 4 + [False] * 2
    assert [Record().uses(kind) for kind in kinds] == [True] * 4 + [False] * 2
    assert Record().missing(kinds) is None
    assert "nothing to draw" in Record().missing([Appearance(), CameraMotion()])


def captioned(caption, clock):
    canvas = Canvas.of(plain())
    draw_caption(canvas, caption, clock)
    return canvas.image


def test_the_bar_holds_caption_and_clock_and_nothing_else_changes():
    image = captioned("camera 1", "00:00:01.000")
    rows = np.flatnonzero((image != BACKGROUND).any(axis=(1, 2)))
    assert rows.min() >= 240 - Style.for_size(240, 320).bar
    bright = (image[rows.min() :] > 180).all(axis=2).any(axis=0)
    assert bright[:100].any()
    assert bright[-100:].any()


def test_a_long_caption_leaves_room_for_the_clock():
    w = Style.for_size(240, 320).width("00:00:01.000")
    alone, beside = (captioned(text, "00:00:01.000") for text in ("", "x/" * 200))
    np.testing.assert_array_equal(beside[:, -w:], alone[:, -w:])


anywhere = st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf"), -1e30])


@settings(max_examples=40)
@given(
    st.lists(st.tuples(*[anywhere] * 4), max_size=4),
    st.sampled_from([(1, 1), (7, 9), (16, 200), (240, 320)]),
)
def test_no_place_is_too_wild_to_draw(boxes, size):
    n = len(boxes)
    overlays = overlays_of(
        [MaskRcnn(), Jipda(), OffActions()], Drawing(source=source(size=SIZE), trail_s=3)
    )
    with np.errstate(all="ignore"):
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        people = tracks(range(1, n + 1), boxes, detection=[-1, 0, 1, 2][:n])
    found = detections(boxes, masks=np.full((n, 28, 28), 255, np.uint8))
    for seq in range(2):
        picture = framed(drawn(overlays, packet(seq, found, people, acting()), plain(*size)))
        assert picture.shape == (*size, 3)
