"""What is measured of a live stream, on clocks that the test sets."""

import random
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from streamvis.sources import live
from streamvis.sources.live import Drift, LiveMeter, open_and_report

FRAME_US = 40_000


class Wall:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def monotonic(self) -> float:
        return self.us / 1e6 - 1_600_000_000

    def time_ns(self) -> int:
        return self.us * 1000


@pytest.fixture
def wall(monkeypatch):
    wall = Wall()
    monkeypatch.setattr(live, "time", wall)
    monkeypatch.setattr(live, "capture_us", lambda packet: packet.capture_us)
    return wall


def feed(meter, wall, *, count, off_us=0, fps=25, faults=(), jitter_us=0):
    """Packets every 1/fps s, captured 60 ms before by a clock that is `off_us` ahead."""
    rng, out = random.Random(1), []
    for n in range(count):
        wall.us += round(1e6 / fps)
        delay = 60_000 + (rng.randrange(jitter_us) if jitter_us else 0)
        captured = wall.us - delay + off_us + (3_600_000_000 if n in faults else 0)
        meter.add_packet(
            SimpleNamespace(pts=n, capture_us=captured, is_keyframe=n % 50 == 0), n * FRAME_US
        )
        out.append((meter.captured(n), captured, wall.us))
    return out


def test_the_rate_is_that_of_arrival_and_falls_when_nothing_comes(wall):
    meter = LiveMeter()
    feed(meter, wall, count=300, fps=8)
    assert meter.stats.fps == pytest.approx(8)
    wall.us += 5_000_000
    assert meter.stats.fps < 5
    wall.us += 10_000_000
    assert meter.stats.fps == 0


def test_the_rate_of_key_frames_is_measured_over_a_minute(wall):
    meter = LiveMeter()
    feed(meter, wall, count=90)
    assert meter.stats.key_fps == 0  # one is no rate
    feed(meter, wall, count=900)
    assert meter.stats.key_fps == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("off_us", [0, 5_000_000, -20_000_000])
def test_the_clock_of_a_camera_is_used_while_it_is_nearly_right(wall, off_us):
    meter = LiveMeter()
    seen = feed(meter, wall, count=200, off_us=off_us, jitter_us=30_000)
    assert all(found == (captured, "rtcp_sr") for found, captured, _ in seen)
    assert meter.stats.offset_us == pytest.approx(60_000 - off_us, abs=30_000)


@pytest.mark.parametrize("off_us", [31_000_000, -(10**15)])
def test_the_clock_of_a_camera_that_is_far_off_is_only_reported(wall, off_us):
    meter = LiveMeter()
    seen = feed(meter, wall, count=200, off_us=off_us)
    assert all(found == (arrival, "arrival") for found, _, arrival in seen)
    assert meter.stats.offset_us == 60_000 - off_us


def test_a_faulty_capture_time_gives_way_to_the_arrival(wall):
    faults = {50, 51, 90}
    meter = LiveMeter()
    for n, (found, captured, arrival) in enumerate(feed(meter, wall, count=120, faults=faults)):
        assert found == ((arrival, "arrival") if n in faults else (captured, "rtcp_sr"))
    assert meter.stats.offset_us == 60_000


@given(st.floats(-300, 300), st.integers(1, 10_000), st.integers(0, 2**31))
def test_the_drift_of_stamps_is_found_below_delays(ppm, jitter_us, seed):
    """Least delays of a second at 25 a second lie within jitter / 10 or so of each other."""
    drift, rng = Drift(), random.Random(seed)
    for n in range(25 * 180):
        stamp = round(n * FRAME_US * (1 + ppm / 1e6))
        drift.add(stamp, n * FRAME_US + rng.randrange(jitter_us))
        if n < 25 * 60:
            assert drift.ppm is None
    assert drift.ppm == pytest.approx(ppm, abs=1 + jitter_us / 1000)


def test_leaps_of_stamps_are_no_drift():
    drift = Drift()
    for n in range(25 * 120):
        leap = 7_200_000_000 if n % 40 == 0 and n else 0
        drift.add(n * FRAME_US + leap, n * FRAME_US)
    assert drift.ppm == pytest.approx(0, abs=0.1)


def test_another_timeline_is_fitted_anew():
    drift = Drift()
    for n in range(25 * 150):
        drift.add(n * FRAME_US - (3_600_000_000 if n >= 25 * 80 else 0), n * FRAME_US)
        if n == 25 * 100:
            assert drift.ppm is None
    assert drift.ppm == pytest.approx(0, abs=0.1)


def test_opening_that_takes_long_is_told_each_second():
    said: list[str] = []

    def opening() -> str:
        until(lambda: len(said) >= 2)
        return "open"

    began = time.monotonic()
    assert open_and_report(opening, said.append) == "open"
    assert 2 <= len(said) <= time.monotonic() - began


def test_an_error_of_opening_is_raised():
    with pytest.raises(TimeoutError, match="gone"):
        open_and_report(fail, lambda text: None)


def fail() -> None:
    raise TimeoutError("gone")
