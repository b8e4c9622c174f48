from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streamvis.sources.timestamps import JITTER_US, MediaClock

stamps = st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)))


@given(stamps, st.integers(0, 10**6))
def test_time_always_goes_forward_from_zero(stamps, nominal_us):
    clock = MediaClock()
    times = [clock.media_us_of(stamp, nominal_us) for stamp in stamps]
    assert times[:1] in ([], [0])
    assert all(a < b for a, b in pairwise(times))


@given(st.integers(-(2**40), 2**40), st.lists(st.integers(1, 10**8)))
def test_good_stamps_are_kept_to_the_microsecond(first, steps):
    clock = MediaClock()
    stamp, expected = first, 0
    assert clock.media_us_of(first, 40_000) == 0
    for step in steps:
        stamp, expected = stamp + step, expected + step
        assert clock.media_us_of(stamp, 40_000) == expected


def test_stamps_that_stand_still_are_as_good_as_none():
    clock = MediaClock()
    times = [clock.media_us_of(stamp, 50_000) for stamp in [0] * 5 + [50_000]]
    assert times == [0, 1, 50_001, 100_001, 150_001, 200_001]


def test_one_stamp_told_twice_does_not_stop_the_clock():
    clock = MediaClock()
    assert [clock.media_us_of(s, 40) for s in (0, 40, 40, 80, 120)] == [0, 40, 41, 80, 120]


def test_a_missing_stamp_goes_on_by_the_nominal_duration():
    clock = MediaClock()
    assert [clock.media_us_of(s, 40) for s in (0, None, 100, None, None, 300)] == [
        0,
        40,
        100,
        140,
        180,
        300,
    ]


def test_missing_stamps_at_the_start_are_counted_before_the_first():
    clock = MediaClock()
    assert [clock.media_us_of(s, 40) for s in (None, None, 1000, 1050)] == [0, 40, 80, 130]


def test_a_stamp_out_of_order_comes_just_after_the_last():
    clock = MediaClock()
    assert [clock.media_us_of(s, 40) for s in (0, 80, 40, 120)] == [0, 80, 81, 120]


def test_stamps_that_were_reset_go_on_from_where_they_were():
    clock = MediaClock()
    far = 10 * JITTER_US
    assert [clock.media_us_of(s, 40) for s in (0, far, 0, 50)] == [0, far, far + 40, far + 90]


def test_a_leap_of_more_than_an_hour_is_a_fault_of_the_stream():
    clock = MediaClock()
    wild = 95 * 3_600_000_000
    assert [clock.media_us_of(s, 40) for s in (0, 40, wild, wild + 40)] == [0, 40, 80, 120]
