"""Panels of the scene: which there are and where, what they show, and what they remember."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.messages import Forecast, ForecastScore, HorizonForecast, Segmentation, ZoneOccupancy
from streamvis.viz.forecast_panels import (
    FREE,
    OCCUPIED,
    PENDING,
    TALL,
    UNKNOWN,
    Panels,
    highlighted,
)
from streamvis.viz.scene import palette_of
from streamvis.viz.style import DARK, PALE

LABELS = ("sky", "road", "car")
SKY, ROAD, CAR = palette_of(LABELS)
GROUND = 90
HEIGHT, WIDTH = 120, 160
HORIZON_US = 600_000


def plain(height=HEIGHT, width=WIDTH):
    pixels = np.full((height, width, 3), GROUND, np.uint8)
    pixels.flags.writeable = False  # as a view on a shared slot is
    return pixels


def scene(car=None):
    """Sky above road, (30, 40); a car in these columns of its lower half."""
    classes = np.zeros((30, 40), np.uint8)
    classes[15:] = 1
    if car is not None:
        classes[18:27, slice(*car)] = 2
    return classes


def seen(car=None, unknown=None):
    p = np.zeros((0, 0), np.uint8) if unknown is None else unknown
    return Segmentation(labels=LABELS, classes=scene(car), unknown=p)


def forecast(car=None, came=(), horizons=(HORIZON_US,), warm=True, zones=()):
    """`came` are pairs of when it was made and its score."""
    judged = [
        ForecastScore(made_us=made, horizon_us=horizon, miou=miou, accuracy=0.9)
        for made, miou in came
        for horizon in horizons or (HORIZON_US,)
    ]
    horizons = [HorizonForecast(horizon_us=h, classes=scene(car), zones=zones) for h in horizons]
    return Forecast(labels=LABELS, horizons=tuple(horizons), scores=tuple(judged), warm=warm)


def quarters(whole):
    """The picture, what will be; what is, and what it was forecast to be."""
    top, below = whole[:HEIGHT], whole[HEIGHT : 2 * HEIGHT]
    return top[:, :WIDTH], top[:, WIDTH:], below[:, :WIDTH], below[:, WIDTH:]


def has(image, colour, tolerance=30):
    """How many pixels are nearly of this colour."""
    return int((np.abs(image.astype(int) - colour).max(axis=2) < tolerance).sum())


def veiled(colour, opacity=0.6):
    return tuple(round(GROUND * (1 - opacity) + c * opacity) for c in colour)


def columns_of(panel, colour, tolerance=6):
    """From and to which column there are such pixels in the lower half, in cells of 4 px."""
    lower = panel[HEIGHT // 2 :].astype(int)
    found = np.flatnonzero((np.abs(lower - colour).max(axis=2) < tolerance).any(axis=0))
    return round(found[0] / 4), round((found[-1] + 1) / 4)


def test_without_a_scene_the_picture_is_all_there_is():
    panels = Panels()
    panels.see(plain(), 0, None, None)
    picture = plain()
    assert panels.around(picture, plain()) is picture
    assert panels.shown is None


def test_a_scene_alone_has_one_panel_beside_the_picture():
    panels = Panels()
    panels.see(plain(), 0, seen((10, 20)), None)
    whole = panels.around(plain(), plain())
    assert whole.shape[1] == 2 * WIDTH
    assert HEIGHT < whole.shape[0] < 2 * HEIGHT  # and the legend
    np.testing.assert_array_equal(whole[:HEIGHT, :WIDTH], plain())
    assert columns_of(whole[:HEIGHT, WIDTH:], veiled(CAR)) == (10, 20)


def test_what_is_and_what_will_be_lie_around_the_picture():
    panels = Panels()
    panels.see(plain(), 0, seen((10, 20)), forecast((24, 34)))
    picture, ahead, now, came = quarters(panels.around(plain(), plain()))
    np.testing.assert_array_equal(picture, plain())
    assert columns_of(now, veiled(CAR)) == (10, 20)
    assert columns_of(ahead, veiled(CAR, 0.8)) == (24, 34)
    assert has(came, DARK, 1) > 0.8 * came[..., 0].size  # not yet


def test_a_forecast_is_shown_when_its_time_has_come_and_its_mistakes_are_outlined():
    panels = Panels()
    outlined = {}
    for name, car in (("right", (10, 20)), ("wrong", (24, 34))):
        panels = Panels()
        panels.see(plain(), 0, seen((0, 9)), forecast(car))
        panels.see(plain(), HORIZON_US, seen((10, 20)), forecast(None, came=[(0, 0.5)]))
        came = quarters(panels.around(plain(), plain()))[3]
        assert columns_of(came, veiled(CAR)) == car
        outlined[name] = has(came[30:-1, 1:-1], PALE, 40)  # below its title
    assert outlined["right"] == 0
    assert outlined["wrong"] > 100


def test_edges_that_are_a_little_off_are_not_called_wrong():
    panels = Panels()
    panels.see(plain(), 0, seen(), forecast((10, 20)))
    near = Segmentation(
        labels=LABELS,
        classes=np.kron(scene((10, 20)), np.ones((4, 4), np.uint8)),
        unknown=seen().unknown,
    )
    near.classes[:, 1:] = near.classes[:, :-1].copy()  # by one pixel
    panels.see(plain(), HORIZON_US, near, forecast(came=[(0, 0.9)]))
    came = quarters(panels.around(plain(), plain()))[3]
    assert has(came[30:-1, 1:-1], PALE, 40) == 0


def test_between_two_samples_all_is_as_it_was():
    panels = Panels()
    panels.see(plain(), 0, seen((10, 20)), forecast((24, 34)))
    before = panels.around(plain(), plain())
    panels.see(plain(), 1, None, None)
    panels.see(plain(), 2, None, forecast(horizons=()))
    np.testing.assert_array_equal(panels.around(plain(), plain()), before)


def test_the_forecast_farthest_ahead_is_shown_or_the_one_that_is_wanted():
    both = Forecast(
        labels=LABELS,
        horizons=(
            HorizonForecast(horizon_us=200_000, classes=scene((1, 9))),
            HorizonForecast(horizon_us=600_000, classes=scene((24, 34))),
        ),
    )
    for wanted_us, car in ((None, (24, 34)), (250_000, (1, 9)), (10**9, (24, 34))):
        panels = Panels(horizon_us=wanted_us)
        panels.see(plain(), 0, seen(), both)
        ahead = quarters(panels.around(plain(), plain()))[1]
        assert columns_of(ahead, veiled(CAR, 0.8)) == car


def test_tall_pictures_have_their_panels_beside_them():
    pixels = plain(TALL, 960)
    panels = Panels()
    panels.see(pixels, 0, seen(), forecast())
    whole = panels.around(pixels, pixels)
    assert whole.shape[1] == 960 + 320
    assert TALL < whole.shape[0] < TALL + 60
    alone = Panels()
    alone.see(pixels, 0, seen(), None)
    assert alone.around(pixels, pixels).shape[1] == 960 + 480


def test_a_map_beside_the_picture_is_left_where_it_is():
    panels = Panels()
    panels.see(plain(), 0, seen(), forecast((10, 20)))
    picture = np.concatenate([plain(), np.full((HEIGHT, 60, 3), 200, np.uint8)], axis=1)
    whole = panels.around(picture, plain())
    np.testing.assert_array_equal(whole[:HEIGHT, : WIDTH + 60], picture)
    assert columns_of(whole[:HEIGHT, WIDTH + 60 :], veiled(CAR, 0.8)) == (10, 20)


def test_the_size_stays_whatever_comes():
    panels = Panels()
    panels.see(plain(), 0, seen((10, 20)), forecast())
    size = panels.around(plain(), plain()).shape
    for k, (now, then) in enumerate(
        [(None, None), (seen(), None), (None, forecast(horizons=())), (seen(), forecast())]
    ):
        panels.see(plain(), k, now, then)
        assert panels.around(plain(), plain()).shape == size
    panels.forget()
    assert panels.around(plain(), plain()).shape == size
    heir = Panels(panels.shown)
    assert heir.around(plain(), plain()).shape == size


def test_pictures_that_change_size_have_empty_panels_until_the_next_sample():
    panels = Panels()
    panels.see(plain(), 0, seen((10, 20)), forecast())
    large = plain(2 * HEIGHT, 2 * WIDTH)
    whole = panels.around(large, large)
    assert whole.shape[1] == 4 * WIDTH
    assert has(whole, veiled(CAR), 6) == 0


def test_zones_are_outlined_in_what_will_be_by_how_probable_they_are():
    square = ((0.2, 0.5), (0.8, 0.5), (0.8, 0.9), (0.2, 0.9))
    inked = {}
    for p in (0.1, 0.9):
        panels = Panels()
        zones = (
            ZoneOccupancy(zone="crossing", p=p, polygon=square),
            ZoneOccupancy(zone="bare", p=p),
        )
        panels.see(plain(), 0, seen(), forecast(zones=zones))
        _, ahead, now, _ = quarters(panels.around(plain(), plain()))
        inked[p] = has(ahead, FREE, 10), has(ahead, OCCUPIED, 10)
        assert has(now, FREE, 10) == has(now, OCCUPIED, 10) == 0
    assert inked[0.1][0] > 100 > 0 == inked[0.1][1]
    assert inked[0.9][1] > 100 > 0 == inked[0.9][0]


def test_the_legend_names_each_class_once_with_its_colour():
    panels = Panels()
    panels.see(plain(), 0, seen(unknown=np.zeros((7, 10), np.uint8)), forecast())
    legend = panels.around(plain(), plain())[2 * HEIGHT :]
    for colour in (SKY, ROAD, CAR, UNKNOWN):
        assert has(legend, colour, 1) > 40
    short = Panels()
    short.see(plain(), 0, seen(), None)
    assert has(short.around(plain(), plain())[HEIGHT:], UNKNOWN, 1) == 0


def test_a_forecast_from_few_pictures_says_so():
    drawn = {}
    for warm in (True, False):
        panels = Panels()
        panels.see(plain(240, 480), 0, seen(), forecast(warm=warm))
        drawn[warm] = panels.around(plain(240, 480), plain(240, 480))[:240, 480:]
    assert (drawn[True][:30] != drawn[False][:30]).any()
    np.testing.assert_array_equal(drawn[True][30:], drawn[False][30:])


def test_what_never_comes_is_forgotten():
    panels = Panels()
    for k in range(3 * PENDING):
        panels.see(plain(), k, seen(), forecast())
    assert len(panels.made) == PENDING
    panels.see(plain(), 10**6, seen(), forecast(came=[(3 * PENDING - 2, 0.5)]))
    assert [made.made_us for made in panels.made] == [3 * PENDING - 1, 10**6]


def test_a_score_of_something_forgotten_is_no_news():
    panels = Panels()
    panels.see(plain(), 9, seen(), forecast(came=[(3, 0.5)]))
    assert "came" not in panels.drawn


def test_nothing_unknown_leaves_the_picture_alone():
    assert highlighted(plain(), None).tolist() == plain().tolist()
    assert highlighted(plain(), np.zeros((0, 0), np.uint8)).tolist() == plain().tolist()
    assert highlighted(plain(), np.full((7, 10), 60, np.uint8)).tolist() == plain().tolist()


def test_what_is_unknown_glows_where_it_is_and_the_rest_stays():
    unknown = np.zeros((30, 40), np.uint8)
    unknown[10:20, 20:30] = 230
    lit = highlighted(plain(), unknown)
    changed = (lit != plain()).any(axis=2)
    assert changed[44:76, 84:116].all()
    assert not changed[:32].any()
    assert not changed[:, :72].any()
    assert np.abs(lit[60, 100].astype(int) - UNKNOWN).max() < 60


@given(
    st.tuples(st.integers(8, 60), st.integers(8, 60)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.booleans(),
)
def test_any_sizes_go_together(size, grid, future):
    pixels = plain(*size)
    now = Segmentation(
        labels=LABELS, classes=np.full(grid, 2, np.uint8), unknown=np.full(grid, 200, np.uint8)
    )
    then = forecast() if future else None
    panels = Panels()
    for k in range(2):
        panels.see(pixels, k * HORIZON_US, now, then and forecast(came=[(0, 0.5)] * k))
    whole = panels.around(highlighted(pixels, panels.unknown), pixels)
    assert whole.shape[1] >= 2 * size[1]
    assert whole.dtype == np.uint8


@pytest.mark.parametrize("lines", [TALL - 1, TALL])
def test_the_panels_are_told_apart_by_their_titles(lines):
    pixels = plain(lines, lines)
    panels = Panels()
    panels.see(pixels, 0, seen(), forecast())
    panels.see(pixels, HORIZON_US, seen(), forecast(came=[(0, 0.5)]))
    assert panels.drawn.keys() == {"now", "came", "ahead"}
    for panel in panels.drawn.values():
        assert has(panel[:30], PALE, 40) > 8
