import threading
from contextlib import closing

import pytest
from event_logs import CORRECTED, WALK, logged

from streamvis.errors import UsageError
from streamvis.events.client import Subscription
from streamvis.events.feed import Feed
from streamvis.events.log import LogReader, Row
from streamvis.events.playback import paced, publish, speed_of
from streamvis.stages import event_codec


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self):
        self.at = 100.0

    def now(self):
        return self.at

    def sleep(self, seconds):
        assert seconds > 0
        self.at += seconds


def times(places, speed):
    """When the rows (source, media seconds) come, in seconds from the start."""
    clock = Clock()
    rows = [Row(source, 0, 0, "x.y", round(s * 1e6), b"") for source, s in places]
    came = [round(clock.at - 100, 6) for _ in paced(rows, speed, now=clock.now, sleep=clock.sleep)]
    assert len(came) == len(rows)
    return came


def test_rows_come_at_the_pace_of_their_media_time():
    walk = [("a", 5), ("a", 6), ("a", 6), ("a", 8.5)]
    assert times(walk, 1) == [0, 1, 1, 3.5]
    assert times(walk, 10) == [0, 0.1, 0.1, 0.35]
    assert times(walk, None) == [0, 0, 0, 0]


def test_sources_count_apart_and_media_time_may_begin_again():
    assert times([("a", 0), ("b", 50), ("a", 2), ("b", 51), ("b", 53)], 1) == [0, 0, 2, 2, 3]
    assert times([("a", 0), ("a", 4), ("a", 0), ("a", 1)], 1) == [0, 4, 4, 5]
    assert times([("_sys", 0), ("a", 7), ("_sys", 0), ("a", 8)], 1) == [0, 0, 0, 1]


@pytest.mark.parametrize("text", ["0", "-1", "fast", "nan", "inf", ""])
def test_a_speed_that_is_none(text):
    with pytest.raises(UsageError, match=r"--speed .*expected a number above 0.*or max"):
        speed_of(text)


def test_speeds():
    assert [speed_of(text) for text in ("1", "2.5", "max")] == [1, 2.5, None]


def test_a_replay_that_nobody_subscribes_to_says_so(tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK)
    with LogReader(tmp_path / "events.db") as log:
        address, note = publish(log, log.latest(), "tcp://127.0.0.1:*", wait_s=0)
    assert address.startswith("publishing on tcp://127.0.0.1:")
    assert note == "no subscriber within 0 s; publishing without one"


def test_a_log_is_published_as_it_was(tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK)
    logged(tmp_path / "events.db", "cam2", CORRECTED)
    with closing(Feed("tcp://127.0.0.1:*", epoch="e1")) as free:
        endpoint = free.endpoint
    subscription = Subscription(endpoint, event_codec(), timeout_s=20, until_ended=True)
    got = []
    thread = threading.Thread(target=lambda: got.extend(subscription))
    thread.start()
    with LogReader(tmp_path / "events.db") as log:
        notes = list(publish(log, log.latest(), endpoint, wait_s=20))
        expected = [event_codec().decode(row.payload) for row in log.latest()]
    thread.join()
    assert notes == [f"publishing on {endpoint}"]
    assert got == expected
