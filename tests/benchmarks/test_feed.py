"""What the benchmark of log and feed measures; how fast is for `make bench` to say."""

import os

import pytest

from streamvis.benchmarks import feed
from streamvis.errors import RunError
from streamvis.stages import event_codec
from streamvis.stages.track.events import TrackUpdate


def test_a_few_events_take_each_way(monkeypatch):
    monkeypatch.setattr(feed, "COMMITS", 20)
    cores = os.sched_getaffinity(0)
    found = feed.measure(events=200, rounds=2, evicted=2000)
    assert os.sched_getaffinity(0) == cores
    for rate in (found.log_and_feed, found.bare_xpub, found.bare_sqlite):
        assert rate.per_s > 0
        assert rate.per_cpu_s > 0
    ours, xpub, table = (
        one.per_cpu_s for one in (found.log_and_feed, found.bare_xpub, found.bare_sqlite)
    )
    assert found.over_bare_xpub == pytest.approx(ours / xpub, abs=0.001)
    assert found.over_bare_sqlite == pytest.approx(ours / table, abs=0.001)
    assert found.over_both == pytest.approx(ours / xpub + ours / table, abs=0.002)
    for times in (found.commit_alone, found.commit_while_evicting):
        assert 0 < times.ms_p50 <= times.ms_p99
    assert found.evicted_per_s > 0


def test_the_events_are_those_of_a_run():
    rows = feed.rows_from("cam", 5, 3)
    events = [event_codec().decode(row.payload) for row in rows]
    assert [(e.source, e.offset, e.tseq, e.type) for e in events] == [
        ("cam", n, n + 1, "track.update") for n in (5, 6, 7)
    ]
    assert all(isinstance(event.what, TrackUpdate) for event in events)


def test_events_that_do_not_arrive_are_an_error(monkeypatch):
    monkeypatch.setattr(feed, "PATIENCE_S", 0)
    with pytest.raises(RunError, match="did not receive the 50 events"):
        feed.measure(events=50, rounds=1, evicted=100)


def test_a_round_fits_into_the_queue():
    with pytest.raises(ValueError, match="fits into a queue"):
        feed.measure(events=feed.QUEUE + 1)
