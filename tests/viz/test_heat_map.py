"""The page of heat maps: where it is bright, and that everything has its place."""

import numpy as np
import pytest

from streamvis.viz.heat_map import MARGIN, WIDE, ZONE, Outline, Page, SmallMap, heat_map

LIGHT = np.array([0.299, 0.587, 0.114])


def standing(row, column, rows=36, columns=64):
    seconds = np.zeros((rows, columns))
    seconds[row, column] = 100.0
    return seconds


def brightest(image):
    """Row and column of the brightest pixel of the map, shares of the page."""
    light = image[100:600, MARGIN : WIDE - 200] @ LIGHT  # inside of the map
    return np.unravel_index(light.argmax(), light.shape)


def test_it_is_bright_where_people_stand():
    upper = brightest(heat_map(Page("cam1", standing(9, 16), 16 / 9)))
    lower = brightest(heat_map(Page("cam1", standing(27, 48), 16 / 9)))
    assert upper[0] < lower[0]
    assert upper[1] < lower[1]


def test_zones_and_lines_are_drawn_over_the_map():
    square = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
    bare = heat_map(Page("cam1", standing(1, 1), 16 / 9))
    drawn = heat_map(Page("cam1", standing(1, 1), 16 / 9, [Outline("door", square, True)]))
    assert bare.shape == drawn.shape
    assert (drawn == ZONE).all(axis=2).sum() > 1000
    assert not (bare == ZONE).all(axis=2).any()


@pytest.mark.parametrize("panels", [0, 1, 6, 7, 24])
def test_the_page_has_room_for_each_hour(panels):
    pages = [SmallMap(f"{hour}:00", standing(5, 5)) for hour in range(panels)]
    image = heat_map(Page("cam1", standing(5, 5), 4 / 3, panels=pages))
    assert image.shape[1:] == (WIDE, 3)
    assert image.dtype == np.uint8
    taller = heat_map(Page("cam1", standing(5, 5), 4 / 3))
    assert (image.shape[0] > taller.shape[0]) == (panels > 0)


@pytest.mark.parametrize("aspect", [0.1, 1.0, 10.0])
def test_pictures_of_any_shape_with_nobody_in_them(aspect):
    image = heat_map(Page("cam1", np.zeros((4, 4)), aspect))
    assert image.shape[1] == WIDE
