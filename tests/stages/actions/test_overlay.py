"""Actions on pictures: as long as probable, hollow while not warm, inside whatever the box."""

import msgspec
import numpy as np
import pytest
from factories import packet, tracks

from streamvis.messages import Actions, ActionThresholds
from streamvis.stages.actions.overlay import (
    LIKELY,
    POSSIBLE,
    UNLIKELY,
    ActionOverlay,
    likeliest,
)
from streamvis.stages.overlay import Canvas
from streamvis.viz.style import Style

BOX = [200.0, 100.0, 300.0, 300.0]


def actions(p, ids=(7,), warm=True):
    n = len(ids)
    return Actions(
        labels=("fight", "normal"),
        ids=np.array(ids),
        probabilities=np.array([[p, 1 - p]] * n, np.float32),
        warm=np.full(n, warm),
        window_us=np.full(n, 900_000),
        sampled=np.full(n, True),
        thresholds=ActionThresholds(begin=0.7, end=0.5, min_us=0, ignore=("normal",)),
    )


def drawn(part, boxes=BOX, ids=(7,)):
    return canvas(part, boxes, ids).image


def canvas(part, boxes=BOX, ids=(7,)):
    canvas = Canvas.of(np.full((480, 640, 3), 90, np.uint8))
    ActionOverlay().draw(canvas, packet(0, part, tracks(ids, boxes)))
    return canvas


def width(image, colour):
    """Of what has this colour, in px."""
    return int((image == colour).all(2).any(0).sum())


@pytest.mark.parametrize(("p", "colour"), [(0.2, UNLIKELY), (0.45, UNLIKELY)])
def test_a_bar_is_as_long_as_the_action_is_probable(p, colour):
    assert width(drawn(actions(p)), colour) == pytest.approx(100 * p, abs=2)


def test_colours_say_what_is_told():
    for p, colour in ((0.1, UNLIKELY), (0.6, POSSIBLE), (0.8, LIKELY)):
        for ids in ((7,), (0,)):
            image = drawn(actions(p, ids))
            assert [width(image, c) > 0 for c in (UNLIKELY, POSSIBLE, LIKELY)] == [
                c == colour for c in (UNLIKELY, POSSIBLE, LIKELY)
            ]


def test_the_banner_grows():
    shorter, longer = (width(drawn(actions(p, (0,))), UNLIKELY) for p in (0.1, 0.4))
    assert shorter < longer
    assert (drawn(actions(0.3, (0,)))[100:] == 90).all()


def test_what_is_not_warm_has_no_colour():
    image = drawn(actions(0.9, (0, 7), warm=False))
    assert not any(width(image, colour) for colour in (UNLIKELY, POSSIBLE, LIKELY))
    assert (image != 90).any()


@pytest.mark.parametrize(
    "box", [[-50, 300, 30, 600], [600, -90, 900, 5], [10, 470, 90, 479], [5, 5, 6, 6]]
)
def test_boxes_beyond_the_picture_are_no_fault(box):
    drawn(actions(0.9), box)
    drawn(actions(0.9), [np.nan, *box[1:]])


def test_who_is_not_in_the_picture_is_not_drawn():
    assert (drawn(actions(0.9, (8,))) == 90).all()


def test_the_likeliest_of_what_is_news_is_named():
    part = msgspec.structs.replace(actions(0.1), labels=("fight", "normal", "fall"))
    assert likeliest(part, [0.1, 0.6, 0.3]) == ("fall", 0.3)


def beside(bottom, shift, height=200):
    """The boxes of two people close to each other, the first one nearer."""
    return [[200, bottom - height, 300, bottom], [240, bottom - height, 340, bottom - shift]]


@pytest.mark.parametrize("bottom", [300, 440, 479, 600])
@pytest.mark.parametrize("shift", [0, 5, 12, 30])
def test_labels_of_people_beside_each_other_cover_neither_labels_nor_bars(bottom, shift):
    *bars, one, other = canvas(actions(0.8, (7, 8)), beside(bottom, shift), (7, 8)).plates
    assert len(bars) == 2
    for label, rest in ((one, (*bars, other)), (other, (*bars, one))):
        x1, y1, x2, y2 = label
        assert not any(a < x2 and x1 < c and b < y2 and y1 < d for a, b, c, d in rest)
        assert y2 <= 480 - Style.for_size(480, 640).bar  # the caption is below


def test_the_label_of_the_nearest_person_stays_where_it_would_be_alone():
    boxes = beside(300, 5)
    alone = canvas(actions(0.8), boxes[:1]).plates[-1]
    assert alone in canvas(actions(0.8, (7, 8)), boxes, (7, 8)).plates
