"""Forecasts around pictures: which panel shows what and when, and what is remembered."""

import numpy as np
from factories import packet, source

from streamvis.messages import Forecast, HorizonForecast, Score, Segmentation, ZoneOccupancy
from streamvis.stages.forecast import Forecaster
from streamvis.stages.forecast.overlay import FREE, OCCUPIED, PENDING
from streamvis.stages.overlay import Drawing
from streamvis.stages.record.picture import drawn, framed, overlays_of
from streamvis.stages.segment import Segment
from streamvis.viz.scene import palette_of
from streamvis.viz.style import DARK, PALE

LABELS = ("sky", "road", "car")
CAR = palette_of(LABELS)[2]
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


def seen(car=None):
    return Segmentation(labels=LABELS, classes=scene(car), unknown=np.zeros((0, 0), np.uint8))


def forecast(car=None, came=(), horizons=(HORIZON_US,), warm=True, zones=()):
    """`came` are pairs of when it was made and its score."""
    judged = [
        Score(made_us=made, horizon_us=horizon, miou=miou, accuracy=0.9)
        for made, miou in came
        for horizon in horizons or (HORIZON_US,)
    ]
    horizons = [HorizonForecast(horizon_us=h, classes=scene(car), zones=zones) for h in horizons]
    return Forecast(labels=LABELS, horizons=tuple(horizons), scores=tuple(judged), warm=warm)


class Video:
    """The pictures of a source above whose recorder there is a segmenter, and a forecaster."""

    def __init__(self, horizon_s=None):
        drawing = Drawing(source=source(size=(WIDTH, HEIGHT)), horizon_s=horizon_s)
        self.overlays = overlays_of([Segment(), Forecaster()], drawing)

    @property
    def forecast(self):
        return self.overlays["forecast"]

    def picture(self, media_us, *parts, pixels=None):
        pixels = plain() if pixels is None else pixels
        return framed(drawn(self.overlays, packet(0, *parts, media_us=media_us), pixels))


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


def test_before_the_first_segmentation_the_picture_is_all_there_is():
    for parts in ((), (forecast(),)):
        np.testing.assert_array_equal(Video().picture(0, *parts), plain())


def test_the_present_and_its_future_lie_around_the_picture():
    whole = Video().picture(0, seen((10, 20)), forecast((24, 34)))
    picture, ahead, now, came = quarters(whole)
    np.testing.assert_array_equal(picture, plain())
    assert columns_of(now, veiled(CAR)) == (10, 20)
    assert columns_of(ahead, veiled(CAR, 0.8)) == (24, 34)
    assert has(came, DARK, 1) > 0.8 * came[..., 0].size  # not yet


def test_a_forecast_is_shown_when_its_time_has_come_and_its_mistakes_are_outlined():
    outlined = {}
    for name, car in (("right", (10, 20)), ("wrong", (24, 34))):
        video = Video()
        video.picture(0, seen((0, 9)), forecast(car))
        whole = video.picture(HORIZON_US, seen((10, 20)), forecast(None, came=[(0, 0.5)]))
        came = quarters(whole)[3]
        assert columns_of(came, veiled(CAR)) == car
        outlined[name] = has(came[30:-1, 1:-1], PALE, 40)  # below its title
    assert outlined["right"] == 0
    assert outlined["wrong"] > 100


def test_edges_that_are_a_little_off_are_not_called_wrong():
    video = Video()
    video.picture(0, seen(), forecast((10, 20)))
    near = Segmentation(
        labels=LABELS,
        classes=np.kron(scene((10, 20)), np.ones((4, 4), np.uint8)),
        unknown=seen().unknown,
    )
    near.classes[:, 1:] = near.classes[:, :-1].copy()  # by one pixel
    came = quarters(video.picture(HORIZON_US, near, forecast(came=[(0, 0.9)])))[3]
    assert has(came[30:-1, 1:-1], PALE, 40) == 0


def test_between_two_samples_all_is_as_it_was():
    video = Video()
    before = video.picture(0, seen((10, 20)), forecast((24, 34)))
    np.testing.assert_array_equal(video.picture(1), before)
    np.testing.assert_array_equal(video.picture(2, forecast(horizons=())), before)


def test_the_forecast_farthest_ahead_is_shown_or_the_one_that_is_wanted():
    both = Forecast(
        labels=LABELS,
        horizons=(
            HorizonForecast(horizon_us=200_000, classes=scene((1, 9))),
            HorizonForecast(horizon_us=600_000, classes=scene((24, 34))),
        ),
    )
    for wanted_s, car in ((None, (24, 34)), (0.25, (1, 9)), (1000, (24, 34))):
        ahead = quarters(Video(wanted_s).picture(0, seen(), both))[1]
        assert columns_of(ahead, veiled(CAR, 0.8)) == car


def test_the_size_stays_whatever_comes():
    video = Video()
    size = video.picture(0, seen((10, 20))).shape
    for k, parts in enumerate([(), (seen(),), (forecast(horizons=()),), (seen(), forecast())]):
        assert video.picture(k, *parts).shape == size
    successor = Video()
    for name, overlay in video.overlays.items():
        overlay.restart()
        successor.overlays[name].restore(overlay.state())
    assert video.picture(9).shape == successor.picture(9).shape == size


def test_pictures_that_change_size_have_empty_panels_until_the_next_sample():
    video = Video()
    video.picture(0, seen((10, 20)), forecast())
    whole = video.picture(1, pixels=plain(2 * HEIGHT, 2 * WIDTH))
    assert whole.shape[1] == 4 * WIDTH
    assert has(whole, veiled(CAR), 6) == 0


def test_zones_are_outlined_in_the_forecast_by_how_probable_they_are():
    square = ((0.2, 0.5), (0.8, 0.5), (0.8, 0.9), (0.2, 0.9))
    inked = {}
    for p in (0.1, 0.9):
        zones = (
            ZoneOccupancy(zone="crossing", p=p, polygon=square),
            ZoneOccupancy(zone="bare", p=p),
        )
        _, ahead, now, _ = quarters(Video().picture(0, seen(), forecast(zones=zones)))
        inked[p] = has(ahead, FREE, 10), has(ahead, OCCUPIED, 10)
        assert has(now, FREE, 10) == has(now, OCCUPIED, 10) == 0
    assert inked[0.1][0] > 100 > 0 == inked[0.1][1]
    assert inked[0.9][1] > 100 > 0 == inked[0.9][0]


def test_a_forecast_from_few_pictures_says_so():
    shown = {}
    for warm in (True, False):
        pixels = plain(240, 480)
        whole = Video().picture(0, seen(), forecast(warm=warm), pixels=pixels)
        shown[warm] = whole[:240, 480:]
    assert (shown[True][:30] != shown[False][:30]).any()
    np.testing.assert_array_equal(shown[True][30:], shown[False][30:])


def test_forecasts_that_are_never_scored_are_forgotten():
    video = Video()
    for k in range(3 * PENDING):
        video.picture(k, seen(), forecast())
    assert len(video.forecast.made) == PENDING
    video.picture(10**6, seen(), forecast(came=[(3 * PENDING - 2, 0.5)]))
    assert [made.made_us for made in video.forecast.made] == [3 * PENDING - 1, 10**6]


def test_a_score_of_a_forgotten_forecast_changes_nothing():
    video = Video()
    video.picture(9, seen(), forecast(came=[(3, 0.5)]))
    assert video.forecast.came is None
