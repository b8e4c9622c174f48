"""Media time of cameras whose stamps leap, stand still or are missing: never far from arrival."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.sources.timestamps import AGREED, DRIFT, JITTER_US, LATE_US, OFF_US, LiveClock

FRAME = 40_000
PAUSE = 3_000_000  # µs, the longest between two pictures
stamps = st.none() | st.integers(-(2**45), 2**45) | st.integers(-(2**22), 2**22)


@given(st.lists(st.tuples(stamps, st.integers(0, PAUSE)), min_size=1))
def test_time_goes_forward_and_stays_near_arrival(redacted):
    """Whatever the stamps are; while a source is joined, they may say that it has kept a little."""
    clock, arrival, times, arrivals = LiveClock(), 10**9, [], []
    for stamp, pause in redacted:
        arrival += pause
        arrivals.append(arrival)
        times.append(clock.media_us_of(stamp, arrival))
    assert times[0] == 0
    assert all(a < b for a, b in pairwise(times))
    kept = JITTER_US * sum(arrival - arrivals[0] < LATE_US for arrival in arrivals)
    for media, arrival in zip(times, arrivals, strict=True):
        elapsed = arrival - arrivals[0]
        slack = OFF_US + LATE_US + PAUSE + DRIFT * elapsed + len(redacted)
        assert -slack <= media - elapsed <= slack + kept


def play(stamps, fps=25, jitter_us=15_000, clock=None):
    """(media time, arrival) of pictures that arrive nearly evenly."""
    clock, rng = clock or LiveClock(), random.Random(3)
    arrivals = [round(i * 1e6 / fps) + rng.randrange(jitter_us) for i in range(len(stamps))]
    return [
        (clock.media_us_of(stamp, arrival), arrival)
        for stamp, arrival in zip(stamps, arrivals, strict=True)
    ]


def near(redacted, within_us):
    first = redacted[0][1]
    assert all(a < b for (a, _), (b, _) in pairwise(redacted))
    assert max(abs(media - (arrival - first)) for media, arrival in redacted) <= within_us


@given(st.integers(-(2**40), 2**40), st.floats(-0.0002, 0.0002))
def test_regular_stamps_are_kept_exactly_whatever_the_rate_of_the_cameras_clock(first, ppm):
    frames = [first + round(i * FRAME * (1 + ppm)) for i in range(500)]
    assert [media for media, _ in play(frames)] == [frame - first for frame in frames]


def test_a_fast_clock_is_followed_for_days():
    clock, frames = LiveClock(), 250_000  # one a second: nearly three days at 100 ppm
    for i in range(frames):
        assert clock.media_us_of(i * 1_000_100, i * 1_000_000) == i * 1_000_100


@pytest.mark.parametrize("jump_s", [30, -30, 6, -6, 1e6, -1e6, 3600])
def test_a_step_of_the_stamps_is_no_step_of_time(jump_s):
    frames = [i * FRAME + (round(jump_s * 1e6) if i >= 40 else 0) for i in range(200)]
    redacted = play(frames)
    near(redacted, 100_000)
    later = [media for media, _ in redacted[45:]]
    assert {b - a for a, b in pairwise(later)} == {FRAME}  # the new timeline is kept exactly


@pytest.mark.parametrize("off_s", [7200, -7200, 10, -10])
def test_single_stamps_far_off_are_replaced_by_the_arrival(off_s):
    frames = [i * FRAME + (round(off_s * 1e6) if i % 20 == 10 else 0) for i in range(200)]
    redacted = play(frames)
    near(redacted, 50_000)
    assert all(
        media == i * FRAME for i, (media, _) in enumerate(redacted) if i % 20 not in (10, 11)
    )


def test_two_pictures_with_one_stamp_are_a_microsecond_apart():
    redacted = play([0, FRAME, FRAME, 3 * FRAME, 4 * FRAME])
    assert [media for media, _ in redacted] == [0, FRAME, FRAME + 1, 3 * FRAME, 4 * FRAME]


def test_stamps_that_stand_still_give_way_to_the_arrival_and_are_taken_up_again():
    frames = [min(i, 40) * FRAME if i < 200 else (i - 159) * FRAME for i in range(300)]
    redacted = play(frames)
    near(redacted, 2 * FRAME + 20_000)
    assert {b - a for (a, _), (b, _) in pairwise(redacted[202:])} == {FRAME}


def test_without_stamps_the_arrival_counts():
    redacted = play([None] * 100)
    near(redacted, 1)


def test_stamps_that_run_twice_as_fast_are_held_back():
    near(play([i * 2 * FRAME for i in range(2000)]), OFF_US + LATE_US)


def test_what_was_held_up_by_the_network_keeps_its_stamps():
    """Ten seconds of nothing, then all of it at once."""
    clock = LiveClock()
    for i in range(500):
        arrival = i * FRAME if not 100 <= i < 350 else 350 * FRAME + i * 100
        assert clock.media_us_of(i * FRAME, arrival) == i * FRAME


def test_a_camera_that_paused_is_brought_up_to_the_arrival():
    """Its stamps do not count the ten seconds for which it sent nothing."""
    clock, media = LiveClock(), []
    for i in range(300):
        media.append(clock.media_us_of(i * FRAME, i * FRAME + (10_000_000 if i >= 100 else 0)))
    assert abs(media[-1] - (299 * FRAME + 10_000_000)) < 2 * FRAME
    assert all(a < b for a, b in pairwise(media))


def test_what_a_camera_has_kept_since_its_last_key_frame_may_come_at_once():
    clock = LiveClock()
    for i in range(1000):
        assert clock.media_us_of(i * FRAME, max(0, i - 250) * FRAME + i) == i * FRAME


def test_a_camera_that_begins_without_a_stamp_is_not_shifted():
    """As RTSP does: the first picture has none, and several wait until the format is known."""
    clock = LiveClock()
    media = [
        clock.media_us_of(None if i == 0 else i * FRAME, max(i, 12) * FRAME, FRAME)
        for i in range(50)
    ]
    assert media == [i * FRAME for i in range(50)]


def restarts(stamps, clock=None):
    """The numbers of the pictures that begin another epoch."""
    clock, found = clock or LiveClock(), []
    for i, stamp in enumerate(stamps):
        clock.media_us_of(stamp, i * FRAME)
        if clock.restarted:
            found.append(i)
    return found


@given(st.integers(130, 500), st.integers(-(2**42), 0))
def test_stamps_that_begin_anew_are_told_with_the_third_that_agrees(at, first):
    assert at * FRAME > OFF_US
    stamps = [i * FRAME if i < at else first + (i - at) * FRAME for i in range(at + 100)]
    assert restarts(stamps) == [at + AGREED - 1]


@given(st.sets(st.integers(100, 400), max_size=20), st.integers(-(2**42), 2**42))
def test_one_or_two_stamps_in_a_row_are_no_restart(places, off):
    """Whether they are far off or not; of three in a row none can tell."""
    places = {i for i in places if not {i - 1, i - 2} & places}
    stamps = [i * FRAME + (off if i in places else 0) for i in range(500)]
    assert restarts(stamps) == []


@given(st.integers(OFF_US, 2**42))
def test_stamps_that_jump_ahead_are_no_restart(ahead):
    assert restarts([i * FRAME + (ahead if i >= 100 else 0) for i in range(300)]) == []


def test_a_recorder_that_jumps_back_every_few_seconds_restarts_once():
    stamps = [i * FRAME - i // 100 * 3_600_000_000 for i in range(5000)]
    assert restarts(stamps) == [100 + AGREED - 1]


def test_a_camera_that_restarts_each_two_minutes_is_told_each_time():
    stamps = [i % 3000 * FRAME for i in range(9500)]
    assert restarts(stamps) == [3000 + AGREED - 1, 6000 + AGREED - 1, 9000 + AGREED - 1]


def test_a_camera_that_paused_has_not_restarted():
    clock = LiveClock()
    for i in range(600):
        clock.media_us_of(i * FRAME, i * FRAME + (20_000_000 if i >= 100 else 0))
        assert not clock.restarted
