"""The constants of the tracker are consistent with each other."""

import pytest

from streamvis.config import Jipda
from streamvis.tracking.parameters import TrackerParameters, TrackerSettings

PARAMETERS = TrackerParameters()


def test_probabilities_of_existence_are_ordered():
    p = PARAMETERS
    assert 0 < p.r_min < p.r_hidden < p.show < p.show_leaving <= p.birth < p.confirm < p.r_max < 1


@pytest.mark.parametrize("name", ["open_share", "twin_iou"])
def test_ranges_rise(name):
    low, high = getattr(PARAMETERS, name)
    assert 0 <= low < high <= 1


def test_the_settings_of_the_stage_are_those_that_the_tracker_reads():
    settings = Jipda()
    read = [name for name, value in vars(TrackerSettings).items() if isinstance(value, property)]
    assert len(read) == 10
    assert all(hasattr(settings, name) for name in read)
