"""Hours by both clocks, and intervals that are divided at them."""

from hypothesis import given
from hypothesis import strategies as st
from zone_logs import HOUR, SECOND

from streamvis.runners.zone_report.hours import HOUR_US, Hour, HourClock

WALL = 1_796_000_000 * SECOND  # 2026-11-30T00:53:20Z


def clock_of(*frames):
    clock = HourClock()
    for media_us, capture_us in frames:
        clock.learn(media_us, capture_us)
    return clock


def test_without_a_wall_clock_hours_are_those_of_media_time():
    clock = clock_of((0, 0), (5 * SECOND, 0))
    assert clock.hour(2 * HOUR + 1) == Hour("media", 2)
    assert clock.hour(2 * HOUR + 1).name == "2:00"


def test_hours_are_those_of_the_wall_clock_where_it_is_known():
    clock = clock_of((0, WALL))
    assert clock.hour(0).name == "2026-11-30T00:00Z"
    assert clock.hour(400 * SECOND).name == "2026-11-30T01:00Z"


def test_a_change_of_the_clock_does_not_move_what_was_before_it():
    clock = clock_of((0, WALL), (60 * SECOND, WALL + 2 * HOUR))
    before = clock.hour(59 * SECOND)
    clock.learn(120 * SECOND, WALL + 9 * HOUR)
    assert clock.hour(59 * SECOND) == before == Hour("capture", WALL // HOUR_US)
    assert clock.hour(61 * SECOND) == Hour("capture", (WALL + 2 * HOUR) // HOUR_US)


def test_jitter_is_no_change_of_the_clock():
    clock = clock_of(*((i * SECOND, WALL + i * SECOND + i % 7 * 1000) for i in range(1000)))
    assert len(clock._since_us) == 1


@given(st.integers(0, 10 * HOUR), st.integers(0, 10 * HOUR), st.sampled_from([0, WALL]))
def test_the_pieces_of_an_interval_are_the_interval(start, length, capture_us):
    clock = clock_of((0, capture_us))
    pieces = list(clock.pieces(start, start + length))
    assert sum(round(seconds * 1e6) for _, seconds in pieces) == length
    assert [hour for hour, _ in pieces] == sorted({hour for hour, _ in pieces})
    assert all(0 < seconds <= 3600 for _, seconds in pieces)


def test_an_interval_of_ages_ends():
    assert sum(seconds for _, seconds in HourClock().pieces(0, 2**62)) == 366 * 24 * 3600
