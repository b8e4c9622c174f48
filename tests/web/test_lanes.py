"""Lanes of a stretch against brute force over the events, and what the operation answers."""

import sqlite3
import threading
from contextlib import closing
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_events import append, events_of_a_source, made
from lane_oracle import bins_of, lanes_of
from waiting import PATIENCE_S
from web_servers import serving, wait_for
from zone_logs import SECOND, begin, rows_of

from streamvis.errors import DataError
from streamvis.events import lane_index
from streamvis.events.lane_file import FILE
from streamvis.events.lane_index import LaneIndex
from streamvis.events.log import Cursor, LogReader, LogWriter
from streamvis.runtime.output import run_files
from streamvis.web import lane_query
from streamvis.web.lane_query import LaneQuery, timeline_of
from streamvis.web.lanes import LaneCounter
from streamvis.web.operations import Call
from streamvis.web.problems import RefusedError
from streamvis.web.run_folder import RunFolder

ORDER = itemgetter(3, 0)  # by offset


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(lane_index, "CHUNK", 7)


def indexed(path, identity="1:1"):
    index = LaneIndex(path.with_name(FILE))
    with LogReader(path) as log:
        while not index.advance(log, identity):
            pass
    return index


def answer(path, **query):
    with closing(indexed(path)) as index, LogReader(path) as log:
        return timeline_of(log, index, LaneQuery(source="cam1", **query))


def spans_of(lane, from_us, end_us):
    """Return the spans of a stretch, as they are known at its end."""
    found = [
        (key, start, stop, first, last)
        if stop is not None and stop < end_us
        else (key, start, None, first, -1)
        for key, start, stop, first, last in lane.spans
        if start < end_us and (stop is None or stop >= from_us)
    ]
    return sorted(found, key=ORDER)


def check(found, events, is_near):
    """Compare an answer with the events."""
    bins = found.to_us // found.bin_us - found.first_us // found.bin_us + 1
    end_us = found.first_us + bins * found.bin_us
    until = [event for event in events if event.time.media_us < end_us]
    lanes = lanes_of(until if is_near else events)
    answered = {(lane.family, lane.name): lane for lane in found.lanes}
    for name, lane in lanes.items():
        spans = spans_of(lane, found.first_us, end_us)
        marks = [mark for mark in lane.marks if found.first_us <= mark[0]]
        one = answered.pop(name, None)
        if one is not None and (one.spans or one.marks):
            marks = marks if is_near else []  # of the states of a source, over a long stretch
            got = [(s.key, s.from_us, s.to_us, s.first, s.last) for s in one.spans if s.first >= 0]
            assert sorted(got, key=ORDER) == spans
            assert [(mark.at_us, mark.offset, mark.type) for mark in one.marks] == marks
            continue
        begins, most, counted = bins_of(lane, found.first_us, found.bin_us, bins)
        known = (found.newest_us - found.first_us) // found.bin_us + 1
        expected = begins, [m if k < known else 0 for k, m in enumerate(most)], counted
        if one is None or not (one.spans or one.marks or one.bins):
            assert not any(map(any, expected)) or (is_near and not spans and not marks)
        else:
            assert (one.bins.begins, one.bins.most, one.bins.events) == expected
    assert not any(one.spans or one.marks or one.bins for one in answered.values())


@settings(max_examples=60)
@given(
    events_of_a_source,
    st.tuples(st.integers(0, 59), st.sampled_from([0, 0, 1, -1, -600_000_000])),
    st.sampled_from([0, 40_000, 3_000_000, 100_000_000, 8_000_000_000, 10**12]),
    st.integers(1, 50),
    st.sampled_from([0, 2, 300]),
    st.booleans(),
)
def test_lanes_are_those_of_the_events(
    tmp_path_factory, drawn, start, length, bins, spans, is_near
):
    path = tmp_path_factory.mktemp("lanes") / "events.db"
    events = made(drawn)
    append(path, events)
    if not events:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane_index, "CHUNK", 1)
        patch.setattr(lane_index, "CHECKPOINT", 3)
        patch.setattr(lane_query, "MOST_SPANS", spans)
        patch.setattr(lane_query, "MOST_SCANNED", 1000 if is_near else -1000)
        place, later_us = start
        start = max(events[place % len(events)].time.media_us + later_us, 0)
        found = answer(path, from_us=start, to_us=start + length, bins=bins)
    assert found.bin_us * bins >= found.to_us - found.from_us or not is_near
    check(found, events, is_near or not events)


def test_a_stretch_that_begins_at_the_time_of_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(lane_index, "CHUNK", 2)
    monkeypatch.setattr(lane_index, "CHECKPOINT", 2)
    path = tmp_path / "events.db"
    events = made([(0, k % 3, "door", 0 if k % 4 else SECOND) for k in range(12)])
    append(path, events)
    for event in events:
        start = event.time.media_us
        check(answer(path, from_us=start, to_us=start + 5), events, is_near=True)


def test_what_ends_as_a_bin_begins_counts_in_it(tmp_path, monkeypatch):
    path = tmp_path / "events.db"
    append(path, made([(0, 1, "door", 0), (1, 1, "door", 2 * SECOND), (0, 2, "door", 2 * SECOND)]))
    for spans in (300, 0):
        monkeypatch.setattr(lane_query, "MOST_SPANS", spans)
        for scanned in (1000, -1000):
            monkeypatch.setattr(lane_query, "MOST_SCANNED", scanned)
            (lane,) = answer(path, bins=5).lanes
            assert lane.bins is None or lane.bins.most == [1, 1, 1, 0, 1]


def test_a_span_that_began_before_the_log_begins_where_its_end_says(tmp_path, small):
    path = tmp_path / "events.db"
    append(
        path, made([(0, 1, "door", 0), (0, 2, "door", 7), (1, 1, "door", 10), (1, 2, "door", 1)])
    )
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM events WHERE offset < 2")
    (lane,) = answer(path).lanes
    assert [(s.key, s.from_us, s.to_us, s.first, s.last) for s in lane.spans] == [
        ("cam1:1:1", 0, 17, -1, 2),
        ("cam1:1:2", 0, 18, -1, 3),
    ]


def test_the_clock_of_the_source_is_found(tmp_path):
    path = tmp_path / "events.db"
    rows = list(rows_of([(5, begin("cam1:1:1"))], capture_us=1_790_000_000_000_000))
    with closing(LogWriter(path)) as log:
        log.commit(rows, [Cursor("cam1", "e1", 0, 1, "eof", b"")])
    found = answer(path)
    assert found.wall_us == 1_790_000_000_000_000
    assert (found.oldest_us, found.newest_us, found.until_us, found.live) == (5, 5, 5, False)


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        (LaneQuery(source="cam2"), 404, "one of cam1"),
        (LaneQuery(source="cam1", from_us=2, to_us=1), 400, "2 is after 1"),
    ],
)
def test_a_query_that_cannot_be_answered(tmp_path, query, status, word):
    path = tmp_path / "events.db"
    append(path, made([(0, 1, "door", 0)]))
    with (
        closing(indexed(path)) as index,
        LogReader(path) as log,
        pytest.raises(RefusedError) as refused,
    ):
        timeline_of(log, index, query)
    assert refused.value.status == status
    assert word in str(refused.value)


@pytest.mark.parametrize("query", ["", "source=cam1&bins=0", "source=cam1&bins=9999", "source=%2e"])
def test_a_wrong_query_is_refused(tmp_path, query):
    append(tmp_path / "events.db", made([(0, 1, "door", 0)]))
    with serving(tmp_path) as client:
        assert client.get(f"/api/lanes?{query}").status == 400


def test_any_stretch_is_answered(tmp_path):
    path = tmp_path / "events.db"
    append(path, made([(0, 1, "door", 0), (3, 1, "door", 2**61)]))
    for query in ({}, {"from_us": 2**62}, {"to_us": 2**62}, {"from_us": 0, "to_us": 0}):
        for scanned in (0, 1000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(lane_query, "MOST_SCANNED", scanned)
                found = answer(path, **query)
            for lane in found.lanes:
                assert lane.bins is None or len(lane.bins.most) <= 1001


def test_the_server_counts_as_the_log_grows(tmp_path, monkeypatch):
    path = tmp_path / "events.db"
    events = made([(0, k % 4, "door", 1_000_000) for k in range(50)])
    append(path, events[:20])
    monkeypatch.setattr(lane_query, "MOST_SCANNED", 0)
    with serving(tmp_path) as client:
        found = client.get("/api/lanes?source=cam1").json
        assert [lane["family"] for lane in found["lanes"]] == ["track"]
        assert found["until_us"] == found["newest_us"] == 20_000_000
        append(path, events[20:])
        wait_for(lambda: client.get("/api/lanes?source=cam1").json["until_us"] == 50_000_000)
        found = client.get("/api/lanes?source=cam1").json
        assert sum(found["lanes"][0]["bins"]["events"]) == 50
        size = (tmp_path / FILE).stat().st_size
        with (tmp_path / FILE).open("r+b") as file:  # a disk fails
            file.write(b"rubbish!" * (size // 8))
        wait_for(lambda: _counted(client) == 50)
    with serving(tmp_path) as client:
        assert _counted(client) == 50


def _counted(client):
    reply = client.get("/api/lanes?source=cam1")
    if reply.status == 503:
        return None
    (lane,) = reply.json["lanes"] or [{"bins": {"events": []}}]
    return sum(lane["bins"]["events"])


class BetweenLookAndWait(threading.Event):
    """An event on which something happens just before the thread forgets what was asked."""

    def __init__(self, happens):
        super().__init__()
        self.happens = happens

    def clear(self):
        if self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        super().clear()


def test_an_end_just_before_the_thread_rests_is_not_missed(tmp_path):
    counter = LaneCounter(RunFolder(tmp_path))
    counter._wanted = BetweenLookAndWait(counter.close)  # nothing was asked for a while
    thread = threading.Thread(target=counter._run, args=(None,), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_without_a_log_there_are_no_lanes(tmp_path):
    with (
        closing(LaneCounter(RunFolder(tmp_path))) as counter,
        pytest.raises(DataError, match="no event log"),
    ):
        counter.lanes(Call(query=LaneQuery(source="cam1")))
    assert not (tmp_path / FILE).exists()


def test_a_run_that_overwrites_another_removes_its_counts(tmp_path):
    append(tmp_path / "events.db", made([(0, 1, "door", 0)]))
    indexed(tmp_path / "events.db").close()
    assert tmp_path / FILE in run_files(tmp_path)
