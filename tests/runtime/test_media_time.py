"""Media time goes on over the connections of a source."""

import time
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamvis.runtime.media_time import MediaTime
from streamvis.sources.picture import Picture

PIXELS = np.zeros((2, 2, 3), np.uint8)
STEPS = st.lists(st.integers(1, 10**7), min_size=1, max_size=20)


def times(media_time, steps):
    """Media times of pictures that are so far apart, the first at 0."""
    counted = [sum(steps[:n]) for n in range(len(steps))]
    pictures = [Picture(pixels=PIXELS, n=n, media_us=us) for n, us in enumerate(counted)]
    return [media_time.continued(picture).media_us for picture in pictures], counted


@given(STEPS)
def test_the_first_connection_is_as_it_is(steps):
    moved, counted = times(MediaTime(), steps)
    assert moved == counted


@given(STEPS, st.integers(0, 10**10), st.none() | st.floats(-1e4, 1e4))
def test_the_next_one_comes_after_the_last_picture_and_keeps_its_steps(steps, last_us, ago_s):
    zero_s = None if ago_s is None else time.monotonic() - ago_s
    moved, counted = times(MediaTime(last_us, zero_s), steps)
    assert moved[0] > last_us
    assert np.diff(moved).tolist() == np.diff(counted).tolist()
    assert all(a < b for a, b in pairwise(moved))


def test_the_next_one_goes_on_at_real_time():
    zero_s = time.monotonic() - 60.0
    before_us = round((time.monotonic() - zero_s) * 1e6)
    (first_us,), _ = times(MediaTime(2_000_000, zero_s), [1])
    assert before_us <= first_us <= round((time.monotonic() - zero_s) * 1e6)
