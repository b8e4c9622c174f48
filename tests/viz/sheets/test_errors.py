"""Sheets of mistakes: what must show, and that no box and no picture breaks them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.viz.sheets.errors import FOUND, SIDE, TRUTH, Section, Tile, draw_tile, mistake_sheet

GROUND = (90, 90, 90)


def tile(box=(100, 60, 140, 160), is_found=True, size=(240, 320), **others):
    boxes = {name: np.array(value, float).reshape(-1, 4) for name, value in others.items()}
    people = boxes.get("people", np.zeros((0, 4)))
    return Tile(
        pixels=np.full((*size, 3), GROUND, np.uint8),
        box=np.array(box, float),
        is_found=is_found,
        people=people,
        counts=np.ones(len(people), bool),
        found=boxes.get("found", np.zeros((0, 4))),
        lines=("street:12", "score 0.93"),
    )


def pixels_of(image, colour):
    return int((image == colour).all(axis=2).sum())


def test_the_mistake_is_bold_in_its_colour_and_others_are_thin():
    other = (20, 60, 60, 160)
    found = draw_tile(tile(people=other))
    missed = draw_tile(tile(is_found=False, found=other))
    assert pixels_of(found, FOUND) > 2 * pixels_of(found, TRUTH) > 0
    assert pixels_of(missed, TRUTH) > 2 * pixels_of(missed, FOUND) > 0


def test_a_crop_is_centred_and_not_distorted():
    image = draw_tile(tile((140, 90, 180, 150)))
    rows, columns = (image == FOUND).all(axis=2).nonzero()
    centre = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert centre == pytest.approx((SIDE / 2, SIDE / 2), abs=3)
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(60 / 40, rel=0.06)


def test_a_crop_shows_the_picture_where_the_box_is():
    one = tile((200, 100, 240, 180))
    one.pixels[100:180, 200:240] = (10, 200, 10)
    image = draw_tile(one)
    inside = (image == (10, 200, 10)).all(axis=2)
    assert inside[SIDE // 2, SIDE // 2]
    assert not inside[5, 5]


sides = st.floats(-400, 700)


@given(st.tuples(sides, sides, st.floats(0, 900), st.floats(0, 900)), st.booleans())
@settings(max_examples=60)
def test_any_box_gives_a_tile(corner, is_found):
    x, y, w, h = corner
    image = draw_tile(tile((x, y, x + w, y + h), is_found, people=(0, 0, 900, 900)))
    assert image.shape == (SIDE, SIDE, 3)


def test_a_tile_stays_inside_the_picture_when_it_fits():
    for box in ((0, 0, 30, 60), (290, 180, 320, 240)):
        image = draw_tile(tile(box))
        assert pixels_of(image, GROUND) > SIDE * SIDE / 2
        assert (image[[3, -4], SIDE // 2] == GROUND).all()  # no border above or below


def test_sections_and_their_tiles_follow_each_other():
    rows = [("wrong", [tile()] * 7), ("missed", [tile(is_found=False)] * 2)]
    one = mistake_sheet("ours", [Section("street", "threshold 0.5", rows)])
    both = mistake_sheet("ours", [Section("street", "threshold 0.5", rows)] * 2)
    empty = mistake_sheet("ours", [Section("street", "nobody to find", [])])
    assert one.dtype == np.uint8
    assert one.shape[1] == both.shape[1] == empty.shape[1]
    assert both.shape[0] - one.shape[0] == one.shape[0] - mistake_sheet("ours", []).shape[0]
    assert pixels_of(one, FOUND) > 7 * pixels_of(draw_tile(tile()), FOUND)  # and the legend
    assert empty.shape[0] < SIDE


def test_names_too_long_are_cut_not_spilt():
    long = Tile(**{**vars(tile()), "lines": ("a/very/long/path/" * 8 + "end.png",)})
    one = mistake_sheet("n" * 400, [Section("street", "note " * 200, [("wrong", [long] * 6)])])
    margin = one[:, -12:]
    assert (margin == margin[0, 0]).all()
