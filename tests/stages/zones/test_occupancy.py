"""How uncertain a position is for zones, by the space in which people are tracked."""

import msgspec
import numpy as np
import pytest

from streamvis.stages.zones.observed import Observed, passed
from streamvis.stages.zones.occupancy import NOISE_SHARE, deviations
from streamvis.stages.zones.shapes import STANDING_M, Group, GroupKey
from streamvis.zone_layout import Line, Zone, ZoneLayout

SIZE = (200, 100)
HEIGHT = 85.0  # px: a metre is 50 px high
ZONE = Zone(name="z", polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9)))


def one_person(variance: float, *, ground_space: bool) -> Observed:
    return msgspec.structs.replace(
        passed(0, SIZE),
        ids=np.array([1]),
        boxes=np.array([[80.0, 5.0, 120.0, 5.0 + HEIGHT]]),
        seen=np.array([True]),
        p_exist=np.array([1.0]),
        first_us=np.array([0]),
        variance=np.full((1, 4), variance),
        velocity=np.zeros((1, 2)),
        ground=np.zeros((1, 2)),
        ground_velocity=np.zeros((1, 2)),
        ground_variance=np.array([variance if ground_space else np.nan]),
        ground_space=ground_space,
    )


def sd(variance: float, *, tracked_on_ground: bool, space: str) -> float:
    group = Group(GroupKey("foot", space, 0.5, 0.0), [(0, ZONE)], [], SIZE)
    return float(deviations(one_person(variance, ground_space=tracked_on_ground), group)[0])


def test_how_boxes_are_drawn_is_added_to_a_variance_in_pixels():
    assert sd(0.0, tracked_on_ground=False, space="image") == pytest.approx(NOISE_SHARE * HEIGHT)
    expected = np.hypot(3.0, NOISE_SHARE * HEIGHT)
    assert sd(9.0, tracked_on_ground=False, space="image") == pytest.approx(expected)


def test_a_variance_in_metres_has_that_in_it_already():
    assert sd(0.0, tracked_on_ground=True, space="image") == pytest.approx(NOISE_SHARE * HEIGHT)
    assert sd(0.04, tracked_on_ground=True, space="ground") == pytest.approx(0.2)
    assert sd(0.0, tracked_on_ground=True, space="ground") == pytest.approx(
        NOISE_SHARE * STANDING_M
    )


def test_in_the_picture_a_deviation_on_the_ground_is_less_than_its_length_there():
    seen = sd(0.04, tracked_on_ground=True, space="image")
    assert 0.25 * 0.2 * 50 < seen < 0.2 * 50


def test_there_may_be_lines_without_zones_and_neither():
    line = Line(name="l", start=(0.5, 0.1), end=(0.5, 0.9))
    for layout in (ZoneLayout(lines=(line,)), ZoneLayout()):
        lines = list(enumerate(layout.lines))
        group = Group(GroupKey("foot", "image", 0.5, 0.0), [], lines, SIZE)
        near = group.near(np.array([[100.0, 50.0]]), np.array([1.0]))
        assert group.within(near, 1).shape == (1, 0)
