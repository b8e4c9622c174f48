"""Pages of identity switches: what must show, and that no box and no picture breaks them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.viz.sheets.switches import SIDE, TRUTH, Moment, Pair, draw, side_of, switch_page
from streamvis.viz.style import colour_of

GROUND = (90, 90, 90)


def moment(person=(100, 60, 140, 160), box=(102, 62, 142, 162), track=3, others=(), ids=()):
    return Moment(
        frame=12,
        person=np.array(person, float),
        box=np.array(box, float),
        track=track,
        others=np.array(others, float).reshape(-1, 4),
        ids=np.array(ids, int),
    )


def frame(height=240, width=320):
    return np.full((height, width, 3), GROUND, np.uint8)


def pixels_of(image, colour):
    return int((image == colour).all(axis=2).sum())


def test_the_track_is_bold_the_truth_dashed_and_others_thin():
    one = moment(others=[(60, 60, 100, 160), (900, 0, 950, 90)], ids=[4, 5])
    image = draw(frame(), one, side_of([one], 240, 320))
    assert pixels_of(image, colour_of(3)) > 1.5 * pixels_of(image, colour_of(4)) > 0
    assert pixels_of(image, TRUTH) > 50
    assert pixels_of(image, colour_of(5)) == 0  # far off


def test_both_crops_of_a_switch_have_one_scale():
    small, large = moment(), moment(box=(80, 20, 160, 220))
    assert side_of([small, large], 480, 640) == side_of([large], 480, 640) == 400
    assert side_of([small, large], 240, 320) == 240  # no border where there need be none


def test_a_crop_at_the_edge_stays_in_the_picture():
    image = draw(frame(), moment(person=(0, 0, 20, 40), box=(0, 0, 20, 40)), 80)
    assert pixels_of(image[SIDE // 2 :, SIDE // 2 :], GROUND) > SIDE**2 / 5


coordinate = st.floats(-1e4, 1e4, width=32)
boxes = st.tuples(coordinate, coordinate, st.floats(0, 500), st.floats(0, 500)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(boxes, boxes, st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=40)
def test_no_box_breaks_a_crop(person, box, height, width):
    one = moment(person, box, others=[box], ids=[7])
    image = draw(frame(height, width), one, side_of([one], height, width))
    assert image.shape == (SIDE, SIDE, 3)


def test_a_page_has_a_row_for_every_three_and_none_for_none():
    crop = np.zeros((SIDE, SIDE, 3), np.uint8)
    heights = [switch_page("a", [Pair(("1", "2"), crop, crop)] * n).shape[0] for n in range(5)]
    assert heights[0] < 100
    assert heights[1] == heights[2] == heights[3] < heights[4]
