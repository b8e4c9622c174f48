"""Drawings: what must show, where, in which colour, and what must leave the picture alone."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.errors import UsageError
from streamvis.messages import Detections, Tracks
from streamvis.viz.annotate import annotate, contact_sheet, paste_masks
from streamvis.viz.ground_map import Trail
from streamvis.viz.style import PALETTE, Style, colour_of, nice_step

BACKGROUND = 90
NAN2 = np.full((1, 2), np.nan)


def plain(height=240, width=320):
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def tracks(boxes, ids=None, detection=None, ground=None, velocity=None, space="image"):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    return Tracks(
        ids=np.arange(1, n + 1) if ids is None else np.array(ids),
        boxes=boxes,
        scores=np.ones(n, np.float32),
        existence=np.ones(n, np.float32),
        velocity=np.zeros((n, 2), np.float32) if velocity is None else np.array(velocity),
        covariance=np.full((n, 4), 0.25, np.float32),
        ground=np.full((n, 2), np.nan) if ground is None else np.reshape(ground, (n, 2)),
        entropy=np.zeros(n, np.float32),
        gated=np.ones(n, np.int32),
        detection=np.arange(n) if detection is None else np.array(detection),
        first_seen_us=np.zeros(n, np.int64),
        ended=np.zeros(0, np.int64),
        space=space,
    )


def detections(boxes, masks=False):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    return Detections(
        boxes=boxes,
        scores=np.full(n, 0.8, np.float32),
        labels=np.ones(n, np.int32),
        masks=np.full((n, 28, 28), 255, np.uint8) if masks else np.zeros((0, 0, 0), np.uint8),
    )


def changed(before, after):
    return (before != after).any(axis=2)


def test_nothing_to_draw_is_a_copy():
    pixels = plain()
    pixels.flags.writeable = False  # as a view on a shared slot is
    drawn = annotate(pixels)
    np.testing.assert_array_equal(drawn, pixels)
    assert drawn.flags.writeable
    assert not np.shares_memory(drawn, pixels)


def test_a_seen_box_is_solid_and_a_predicted_one_dashed():
    box = (100, 60, 160, 180)
    solid = annotate(plain(), tracks=tracks([box]))
    dashed = annotate(plain(), tracks=tracks([box], detection=[-1]))
    lower_edge = slice(105, 155)
    assert (solid[180, lower_edge] == colour_of(1)).all()
    on_line = (dashed[180, lower_edge] == colour_of(1)).all(axis=1)
    assert 0.3 < on_line.mean() < 0.8
    assert not changed(plain(), solid)[100:140, 110:150].any()  # the inside stays clear


def test_colours_belong_to_ids_and_neighbours_differ():
    assert len(set(PALETTE)) == len(PALETTE)
    one, other = (annotate(plain(), tracks=tracks([(100, 60, 160, 180)], ids=[i])) for i in (3, 4))
    assert tuple(one[180, 130]) == colour_of(3) != tuple(other[180, 130])


def test_masks_take_the_colour_of_their_track_and_can_be_left_out():
    box = (100, 60, 160, 180)
    found = detections([box], masks=True)
    drawn = annotate(plain(), found, tracks([box], ids=[2]))
    inside = drawn[120, 130].astype(int)
    towards = np.array(colour_of(2)) - BACKGROUND
    assert (np.sign(inside - BACKGROUND) == np.sign(towards)).all()
    assert (np.abs(inside - BACKGROUND) < np.abs(towards)).all()  # translucent
    without = annotate(plain(), found, tracks([box], ids=[2]), masks=False)
    assert (without[120, 130] == BACKGROUND).all()


def test_loose_detections_are_grey_and_owned_ones_are_not_drawn_twice():
    mine, loose = (20, 60, 60, 180), (200, 60, 240, 180)
    drawn = annotate(plain(), detections([mine, loose]), tracks([mine]))
    red, green, blue = drawn[180, 220].astype(int)
    assert max(red, green, blue) - min(red, green, blue) < 20
    assert (red, green, blue) != (BACKGROUND,) * 3
    assert tuple(drawn[180, 40]) == colour_of(1)


def test_clothes_keep_their_colour_under_a_mask():
    box = (100, 60, 160, 180)
    drawn = annotate(plain(), detections([box], masks=True), tracks([box]))
    shift = np.abs(drawn[120, 130].astype(int) - BACKGROUND)
    assert (shift < 0.25 * np.abs(np.array(colour_of(1)) - BACKGROUND) + 1).all()


def test_the_speed_stands_beside_the_id_where_it_is_known():
    box = (100, 60, 160, 180)
    slow = msgspec.structs.replace(tracks([box]), ground_velocity=np.array([[0.6, 0.8]]))
    plates = [
        (annotate(plain(), tracks=t) == colour_of(1)).all(axis=2) for t in (tracks([box]), slow)
    ]
    w = Style.for_size(240, 320).width("  1.0 m/s")
    widths = [np.ptp(np.flatnonzero(plate[:58].any(axis=0))) for plate in plates]
    assert widths[1] - widths[0] == pytest.approx(w, abs=4)


def test_names_of_people_beside_each_other_do_not_cover_each_other():
    boxes = [(100, 60, 130, 180), (104, 61, 134, 181)]
    one, both = (annotate(plain(), tracks=tracks(boxes[:n])) for n in (1, 2))
    alone, beside = ((drawn == colour_of(1)).all(axis=2)[:60].sum() for drawn in (one, both))
    assert alone == pytest.approx(beside, abs=20)


def test_a_detection_region_is_outlined():
    drawn = annotate(plain(), regions=(((0.25, 0.5), (0.75, 0.5), (0.75, 0.9), (0.25, 0.9)),))
    assert changed(plain(), drawn)[120, 85:235].all()
    assert not changed(plain(), drawn)[125:210, 85:235].any()


def test_trails_fade_with_age():
    x = np.linspace(20, 300, 30)
    trail = Trail(
        np.stack([x, np.full(30, 120)], axis=1), NAN2.repeat(30, 0), np.linspace(0, 1, 30)
    )
    drawn = annotate(plain(), trails={1: trail}).astype(int)
    strength = np.abs(drawn[120] - BACKGROUND).sum(axis=1)[25:295]
    thirds = [part.mean() for part in np.array_split(strength, 3)]
    assert thirds[0] < thirds[1] < thirds[2]


def test_the_bar_holds_caption_and_clock_and_nothing_else_changes():
    drawn = annotate(plain(), caption="camera 1", clock="00:00:01.000")
    rows = np.flatnonzero(changed(plain(), drawn).any(axis=1))
    assert rows.min() >= 240 - Style.for_size(240, 320).bar
    bar = drawn[rows.min() :]
    bright = (bar > 180).all(axis=2).any(axis=0)
    assert bright[:100].any()
    assert bright[-100:].any()


def test_a_long_caption_leaves_room_for_the_clock():
    wanted = annotate(plain(), clock="00:00:01.000")
    drawn = annotate(plain(), caption="x/" * 200, clock="00:00:01.000")
    w = Style.for_size(240, 320).width("00:00:01.000")
    np.testing.assert_array_equal(drawn[:, -w:], wanted[:, -w:])


anywhere = st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf"), -1e30])


@settings(max_examples=40)
@given(
    st.lists(st.tuples(*[anywhere] * 4), max_size=4),
    st.tuples(anywhere, anywhere),
    st.sampled_from([(1, 1), (7, 9), (16, 200), (240, 320)]),
)
def test_no_place_is_too_wild_to_draw(boxes, ground, size):
    n = len(boxes)
    trail = Trail(np.array([ground, ground]), np.array([ground, ground]), np.ones(2))
    with np.errstate(over="ignore"):
        who = tracks(boxes, ground=[ground] * n, detection=[-1, 0, 1, 2][:n], space="ground")
        found = detections(boxes, masks=True)
    drawn = annotate(plain(*size), found, who, {1: trail}, caption="a", clock="b")
    assert drawn.shape == (*size, 3)


@pytest.mark.parametrize(
    ("height", "width", "least"), [(240, 320, 9), (480, 640, 9), (1080, 1920, 17)]
)
def test_text_stays_legible(height, width, least):
    style = Style.for_size(height, width)
    assert least <= style.text <= height / 26


@given(st.floats(1e-3, 1e6))
def test_grid_steps_are_round_and_few(span):
    step = nice_step(span, 6)
    assert span / 6 <= step * (1 + 1e-6)
    assert step < span * 10 / 6
    assert round(step / 10 ** np.floor(np.log10(step) + 1e-9), 6) in (1, 2, 5)


def test_a_contact_sheet_holds_every_picture_whole():
    pictures = [np.full((20 + 10 * i, 40 + i, 3), 40 * i, np.uint8) for i in range(5)]
    sheet = contact_sheet(pictures, 2, ["one", "two", "three", "four", "five"])
    for picture in pictures:
        assert (sheet == picture[0, 0]).all(axis=2).sum() >= picture[:, :, 0].size
    assert sheet.shape[0] > 3 * 60
    assert sheet.shape[1] > 2 * 44
    bare = contact_sheet(pictures, 2)
    assert bare.shape[0] < sheet.shape[0]


def test_a_contact_sheet_that_cannot_be_is_told():
    with pytest.raises(UsageError, match="0 pictures"):
        contact_sheet([], 2)
    with pytest.raises(UsageError, match="1 captions for 2 pictures"):
        contact_sheet([plain(), plain()], 2, ["one"])


def test_paste_masks_is_at_hand_where_drawing_is():
    assert paste_masks(np.zeros((2, 28, 28), np.uint8), np.zeros((2, 4)), 4, 6).shape == (2, 4, 6)
