"""When a source is looked at, and what was told of it and has not come."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.messages import HorizonForecast
from streamvis.stages.forecast.state import ForecastState, PendingForecast, SampleClock


@pytest.mark.parametrize("fps", [5, 10, 12, 12.5, 15, 24, 25, 29.97, 30, 59.94])
def test_each_time_that_is_due_has_the_frame_that_is_nearest(fps):
    clock = SampleClock(200_000)
    frames = [round(k / fps * 1e6) for k in range(int(20 * fps))]
    looked = np.array([at for at in frames if clock.is_due(at)])
    assert 99 <= len(looked) <= 101
    late = looked - 200_000 * np.arange(len(looked))
    assert np.abs(late).max() <= 5e5 / fps + 1


def test_a_slow_camera_is_looked_at_in_every_frame():
    clock = SampleClock(200_000)
    assert all(clock.is_due(k * 350_000) for k in range(20))


@given(st.lists(st.integers(1, 700_000), min_size=1, max_size=60))
def test_however_frames_come_no_two_moments_are_one(steps):
    clock, at, looked = SampleClock(200_000), 0, []
    for step in steps:
        at += step
        if clock.is_due(at):
            looked.append(at)
    assert all(after - before >= 200_000 / 3 - 1 for before, after in pairwise(looked))
    assert all(after - before <= 400_000 + max(steps) for before, after in pairwise(looked))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_what_was_told_is_packed_and_found_again(height, width, seed):
    classes = np.random.default_rng(seed).integers(0, 20, (height, width), np.uint8)
    past = ForecastState(200_000, [4])
    past.pending.append(PendingForecast.of(5, HorizonForecast(horizon_us=7, classes=classes)))
    other = ForecastState(200_000, [4])
    other.restore(past.state())
    np.testing.assert_array_equal(other.pending[0].classes(), classes[::2, ::2])
    assert other.pending[0].due_us == 12
