"""Counts of lanes against brute force over the events, while the log grows and loses events."""

import os
import sqlite3
import stat
from contextlib import ExitStack, closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_events import append, events_of_a_source, made
from lane_oracle import bins_of, lanes_of

from streamvis.events import lane_file, lane_index
from streamvis.events.lane_bins import HOUR_S, SECOND_US, joined
from streamvis.events.lane_file import FILE
from streamvis.events.lane_index import LaneIndex
from streamvis.events.log import LogReader

HOURS = 800


def counted(index, path, identity="1:1"):
    """Count all of the log."""
    with LogReader(path) as log:
        while not index.advance(log, identity):
            pass


def expected(events, bin_s):
    last_us = max((event.time.media_us for event in events), default=0)
    bins = last_us // SECOND_US // bin_s + 1
    lanes = lanes_of(events)
    return {name: bins_of(lane, 0, bin_s * SECOND_US, bins) for name, lane in lanes.items()}


def found(index, source, events, bin_s):
    bins = max((e.time.media_us for e in events), default=0) // SECOND_US // bin_s + 1
    if bin_s == HOUR_S:
        parts = index.hours(source, 0, HOURS)
    else:
        parts = index.parts(source, 0, HOURS, seconds=bin_s == 1)
    return {tuple(n): tuple(joined(p, 0, 1, bins).tolist()) for n, p in parts.items()}


def without_empty(lanes):
    """Leave out lanes in which nothing is counted, and what was before their first event."""
    return {name: counts for name, counts in lanes.items() if np.any(counts)}


def check(index, source, events, bins=(60, HOUR_S)):
    for bin_s in bins:
        assert found(index, source, events, bin_s) == without_empty(expected(events, bin_s))


@settings(max_examples=40)
@given(events_of_a_source, events_of_a_source, st.integers(1, 9), st.data())
def test_counts_are_those_of_the_events_however_the_log_grows(
    tmp_path_factory, first, second, chunk, data
):
    folder = tmp_path_factory.mktemp("lanes")
    path = folder / "events.db"
    a, b = made(first), made(second, "yard")
    both = a + b
    order = data.draw(st.permutations([0] * len(a) + [1] * len(b)))
    left = [iter(a), iter(b)]
    both = [next(left[one]) for one in order]
    append(path, [])
    with pytest.MonkeyPatch.context() as patch, ExitStack() as opened:
        patch.setattr(lane_index, "CHUNK", chunk)
        patch.setattr(lane_index, "CHECKPOINT", 5)
        index = opened.enter_context(closing(LaneIndex(folder / FILE)))
        while both:
            size = data.draw(st.integers(1, len(both)))
            append(path, both[:size])
            both = both[size:]
            counted(index, path)
            if data.draw(st.booleans()):  # the server starts again
                opened.close()
                index = opened.enter_context(closing(LaneIndex(folder / FILE)))
        check(index, "cam1", a)
        check(index, "yard", b)


def test_seconds_are_those_of_the_events(tmp_path):
    events = made(
        [
            (0, 1, "door", 5_100_000),
            (3, 1, "door", 900_000),
            (4, 1, "door", 3_100_000),
            (1, 1, "door", 3_700_000_000),
        ]
    )
    append(tmp_path / "events.db", events)
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, tmp_path / "events.db")
        check(index, "cam1", events, bins=(1,))


def test_another_run_is_counted_anew(tmp_path):
    path = tmp_path / "events.db"
    append(path, made([(0, 1, "door", 0), (1, 1, "door", 1)]))
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, path)
        path.unlink()
        events = made([(0, 2, "door", 7), (0, 3, "door", 7)], epoch="e2")
        append(path, events, epoch="e2")
        counted(index, path, "1:2")
        check(index, "cam1", events)
    path.unlink()
    events = made([(0, 2, "door", 70_000_000)], epoch="e3")
    append(path, events, epoch="e3")
    with closing(LaneIndex(tmp_path / FILE)) as index:  # the server was off meanwhile
        counted(index, path, "1:2")
        check(index, "cam1", events)


def test_the_latest_run_of_a_log_with_several_counts(tmp_path):
    path = tmp_path / "events.db"
    append(path, made([(0, 1, "door", 0), (0, 2, "door", 1)]))
    events = made([(0, 3, "door", 50_000_000)], first=2, epoch="e2")
    append(path, events, first=2, epoch="e2")
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, path)
        check(index, "cam1", events)


@pytest.mark.parametrize("damage", ["rubbish", "short", "state", "other"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    path = tmp_path / "events.db"
    events = made([(k % 19, k % 3, "door", 30_000_000) for k in range(400)])
    append(path, events)
    file = tmp_path / FILE
    with closing(LaneIndex(file)) as index:
        counted(index, path)
    if damage == "rubbish":
        file.write_bytes(os.urandom(file.stat().st_size))
    elif damage == "short":
        os.truncate(file, 8192)
    elif damage == "state":
        with closing(sqlite3.connect(file)) as db, db:
            db.execute("UPDATE sources SET state = 'x'")
    else:
        file.unlink()
        with closing(sqlite3.connect(file)) as db, db:
            db.execute("CREATE TABLE mine (a)")
    append(path, made([(0, 1, "door", 400 * 30_000_000)], first=400))
    with closing(LaneIndex(file)) as index:
        counted(index, path)
        check(index, "cam1", events + made([(0, 1, "door", 400 * 30_000_000)], first=400))


def test_evicted_hours_are_deleted(tmp_path):
    path = tmp_path / "events.db"
    events = made([(k % 2, 1, "door", 1_800_000_000) for k in range(40)])
    append(path, events)
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, path)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("DELETE FROM events WHERE offset < 30")
        counted(index, path)
        oldest = events[30].time.media_us // SECOND_US // HOUR_S
        hours = [hour for parts in index.hours("cam1", 0, HOURS).values() for hour, _ in parts]
        assert min(hours) == oldest
        last = max(hours)
        whole = expected(events, HOUR_S)["track", ""]
        kept = dict(index.hours("cam1", 0, HOURS)["track", ""])
        for hour in range(oldest, last + 1):
            assert [row[hour] for row in whole] == kept[hour][:, 0].tolist()


def test_the_file_is_for_its_owner_alone_and_the_log_is_only_read(tmp_path):
    path = tmp_path / "events.db"
    append(path, made([(0, 1, "door", 0)]))
    before = path.read_bytes()
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, path)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert path.read_bytes() == before


def test_without_a_directory_to_write_to_counts_are_in_memory(tmp_path, capsys):
    path = tmp_path / "events.db"
    events = made([(0, 1, "door", 0)])
    append(path, events)
    with closing(LaneIndex(tmp_path / "none" / FILE)) as index:
        counted(index, path)
        check(index, "cam1", events)
    assert "in memory" in capsys.readouterr().err


def test_a_full_disk_is_left_to_the_log(tmp_path, monkeypatch, capsys):
    path = tmp_path / "events.db"
    events = made([(0, k % 3, "door", 0) for k in range(20)])
    append(path, events[:10])
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, path)
        monkeypatch.setattr(lane_file, "has_room", lambda folder: folder != tmp_path)
        append(path, events[10:])
        counted(index, path)
        check(index, "cam1", events)
    assert not (tmp_path / FILE).exists()
    assert "nearly full" in capsys.readouterr().err


def test_a_file_that_fails_again_and_again_is_given_up(tmp_path, monkeypatch):
    path = tmp_path / "events.db"
    events = made([(0, 1, "door", 0)])
    append(path, events)

    def broken(db, *_):
        if db.execute("PRAGMA database_list").fetchone()[2]:  # the name of a file
            raise sqlite3.OperationalError("disk I/O error")
        stored(db, *_)

    stored = lane_index._store
    monkeypatch.setattr(lane_index, "_store", broken)
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, path)
        check(index, "cam1", events)
    assert not (tmp_path / FILE).exists()


def test_two_servers_may_count_into_one_file(tmp_path):
    path = tmp_path / "events.db"
    events = made([(k % 19, k % 3, "door", 30_000_000) for k in range(200)])
    append(path, events[:50])
    with closing(LaneIndex(tmp_path / FILE)) as one, closing(LaneIndex(tmp_path / FILE)) as other:
        for k, index in ((100, one), (150, other), (200, one)):
            append(path, events[k - 50 : k])
            counted(index, path)
            counted(one, path)
        check(one, "cam1", events)
        check(other, "cam1", events)


def test_an_event_that_cannot_be_read_is_passed_over(tmp_path):
    path = tmp_path / "events.db"
    events = made([(0, 1, "door", 0), (1, 1, "door", 1), (0, 2, "door", 70_000_000)])
    append(path, events)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE events SET payload = ? WHERE offset = 1", (b'{"track": 3',))
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, path)
        counts = index.parts("cam1", 0, 0, seconds=False)["track", ""][0][1]
    assert counts[:, :2].tolist() == [[1, 1], [1, 2], [1, 1]]  # begins, most, events by minute


def test_an_event_that_is_too_long_is_passed_over(tmp_path):
    path = tmp_path / "events.db"
    append(path, made([(0, 1, "door", 0), (0, 2, "door", 1), (1, 2, "door", 1)]))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE events SET payload = payload || zeroblob(100000) WHERE offset = 1")
    with closing(LaneIndex(tmp_path / FILE)) as index:
        counted(index, path)
        counts = index.parts("cam1", 0, 0, seconds=False)["track", ""][0][1]
    assert counts[:, 0].tolist() == [1, 1, 2]
