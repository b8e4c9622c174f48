"""Panels around a picture: where each lies, whatever the sizes, and the band of colours below."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.viz.panels import TALL, BandEntry, Panel, cell_of, surrounded, titled
from streamvis.viz.style import DARK, PALE

HEIGHT, WIDTH = 120, 160
BAND = [BandEntry("road", (128, 64, 128)), BandEntry("wrong", None)]


def grey(value, height=HEIGHT, width=WIDTH):
    return np.full((height, width, 3), value, np.uint8)


def test_without_panels_the_picture_is_all_there_is():
    picture = grey(90)
    assert surrounded(picture, [], (WIDTH, HEIGHT), BAND) is picture


def test_one_panel_stands_beside_the_picture_and_the_band_below_both():
    whole = surrounded(grey(90), [Panel("now", grey(30))], (WIDTH, HEIGHT), BAND)
    assert whole.shape[1] == 2 * WIDTH
    assert HEIGHT < whole.shape[0] < 2 * HEIGHT
    assert (whole[:HEIGHT, :WIDTH] == 90).all()
    assert (whole[:HEIGHT, WIDTH:] == 30).all()
    assert (whole[HEIGHT:] == BAND[0].colour).all(axis=2).sum() > 40
    assert (whole[HEIGHT:] == PALE).all(axis=2).any()


@pytest.mark.parametrize("beside", [0, 60])  # width of a map
def test_of_three_panels_the_last_stands_beside_the_picture_and_the_others_below(beside):
    picture = grey(90, width=WIDTH + beside)
    panels = [Panel(str(value), grey(value)) for value in (30, 40, 50)]
    whole = surrounded(picture, panels, (WIDTH, HEIGHT), BAND)
    assert (whole[:HEIGHT, : WIDTH + beside] == 90).all()
    assert (whole[:HEIGHT, WIDTH + beside :] == 50).all()
    below = whole[HEIGHT : 2 * HEIGHT]
    assert (below[:, :WIDTH] == 30).all()
    assert (below[:, WIDTH : 2 * WIDTH] == 40).all()


@pytest.mark.parametrize(("count", "lines"), [(1, 360), (2, 360), (3, 240)])
def test_tall_pictures_have_their_panels_stacked_beside_them(count, lines):
    cell = cell_of(TALL, 960, count)
    assert cell == (960 * lines // TALL, lines)
    panels = [Panel("", grey(30 + i, cell[1], cell[0])) for i in range(count)]
    whole = surrounded(grey(90, TALL, 960), panels, cell, BAND)
    assert whole.shape[1] == 960 + cell[0]
    assert TALL < whole.shape[0] < TALL + 60
    for i in range(count):
        assert (whole[i * lines : (i + 1) * lines, 960:] == 30 + i).all()


def test_a_panel_without_a_picture_of_its_size_says_that_there_is_none_yet():
    for picture in (None, grey(200, 60, 80)):
        whole = surrounded(grey(90), [Panel("now", picture)], (WIDTH, HEIGHT), BAND)
        panel = whole[:HEIGHT, WIDTH:]
        assert (np.abs(panel[:30].astype(int) - PALE).max(axis=2) < 40).any()
        assert (panel[30:] == DARK).all()


@given(st.tuples(st.integers(8, 60), st.integers(8, 60)), st.integers(1, 5), st.integers(0, 40))
def test_any_sizes_go_together(size, count, beside):
    height, width = size
    cell = cell_of(height, width, count)
    panels = [Panel("now", titled(grey(30, cell[1], cell[0]), "now"))] * count
    whole = surrounded(grey(90, height, width + beside), panels, cell, BAND)
    assert (whole[:height, : width + beside] == 90).all()
    assert whole.dtype == np.uint8


def test_a_narrow_band_has_several_lines():
    wide, narrow = (
        len(surrounded(grey(90, 8, w), [Panel("", grey(9, 8, w))], (w, 8), BAND * 3))
        for w in (800, 80)
    )
    assert narrow > wide
