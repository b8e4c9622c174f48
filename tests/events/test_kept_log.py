"""The log when it cannot be written: SQLite is told that the file may grow no more."""

import json
import time
from contextlib import closing

import pytest

from streamvis.events import kept_log
from streamvis.events.disk import RESERVE_FILE, Reserve
from streamvis.events.kept_log import KeptLog, Missing, is_update
from streamvis.events.log import Cursor, LogDiskError, LogReader, LogWriter, Row
from streamvis.events.retention import Evictor, Retention
from streamvis.stages import event_codec

PAYLOAD = 3000  # bytes


class Bench:
    """A log at `path`, its clock, and the events that were given to it."""

    def __init__(self, path, wall=time.time, keep=None):
        self.path = path
        self.now = 0.0
        self.writer = LogWriter(path / "events.db", wall)
        evictor = Evictor(self.writer, keep, wall) if keep else None
        self.log = KeptLog(self.writer, evictor, now=lambda: self.now)
        self.next = {"a": 0, "b": 0}

    def fill(self):
        """Let the file grow no more."""
        pages = self.pragma("page_count")
        self.pragma(f"max_page_count = {pages}")

    def free(self):
        self.pragma("max_page_count = 1000000")

    def pragma(self, text):
        return self.writer._db.execute(f"PRAGMA {text}").fetchone()[0]

    def give(self, *kinds, source="a"):
        """Commit events of these types; return the offsets of those that are not logged."""
        rows = []
        for kind in kinds:
            offset = self.next[source]
            self.next[source] += 1
            payload = json.dumps({"pad": "x" * PAYLOAD}).encode()
            rows.append(Row(source, offset, offset + 1, kind, 0, payload))
        cursor = Cursor(source, "e", 0, self.next[source], "", b"state")
        return self.commit(rows, [cursor])

    def commit(self, rows, cursors):
        """As the publisher does."""
        self.log.shed(rows)
        try:
            if self.log.writable:
                self.writer.commit(rows, cursors)
                return []
        except LogDiskError as error:
            self.log.fail(error)
        return sorted(offset for _, offset in self.log.commit(rows, cursors))

    def close(self):
        self.log.close()
        self.writer.close()

    def logged(self, source="a"):
        with LogReader(self.path / "events.db") as reader:
            return [row.offset for row in reader.events() if row.source == source]


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    with closing(bench):
        yield bench


@pytest.fixture
def crowded(monkeypatch):
    """The disk has less room than the reserve takes twice."""
    room = {"there": False}
    monkeypatch.setattr(Reserve, "has_room", lambda self: room["there"])
    return room


def test_what_cannot_be_logged_is_logged_later_in_order(bench, capsys):
    assert bench.give("track.begin", "track.update") == []
    bench.fill()
    assert bench.give("track.update") == [2]
    assert bench.give("track.end", source="b") == [0]
    assert bench.logged() == [0, 1]
    assert not (bench.path / RESERVE_FILE).exists()
    assert bench.log.cursor("a").next == 3
    bench.free()
    assert bench.give("track.update") == [3]  # it is not tried again so soon
    bench.now += kept_log.RETRY_S
    assert bench.give("track.update") == []
    assert (bench.logged(), bench.logged("b")) == ([0, 1, 2, 3, 4], [0])
    assert (bench.path / RESERVE_FILE).exists()
    assert bench.log.take_missing() == {}
    told = capsys.readouterr().err.splitlines()
    assert [line.partition("] ")[2].partition("  ")[0] for line in told] == [
        *("event log cannot be written", "event log is written again"),
    ]


def test_with_the_last_room_begins_and_ends_are_logged_and_updates_are_counted(bench, crowded):
    bench.fill()
    assert bench.give("track.update", "track.update") == [0, 1]
    bench.free()  # as when the reserve is given up
    assert bench.give("track.update") == [2]  # kept: there is nothing else to log
    assert bench.give("track.end", "track.update") == []
    assert bench.logged() == [3, 4]
    assert bench.log.missing == {"a": Missing(3, 0, 2)}
    assert bench.give("track.update") == [5]
    assert bench.log.take_missing() == {}  # not while it may be more
    crowded["there"] = True
    assert bench.give("track.update") == []
    assert bench.logged() == [3, 4, 5, 6]
    assert bench.log.take_missing() == {"a": Missing(3, 0, 2)}
    assert bench.log.take_missing() == {}


def test_memory_is_bounded_and_updates_are_the_first_to_go(bench, crowded, monkeypatch):
    monkeypatch.setattr(kept_log, "KEPT_BYTES", 20 * PAYLOAD)
    bench.fill()
    for _ in range(15):
        bench.give("track.begin", "track.update", "track.update")
    assert sum(len(row.payload) for row in bench.log._rows) <= 20 * PAYLOAD
    there = {row.offset for row in bench.log._rows} | set(bench.logged())
    assert there >= {3 * n for n in range(15)}
    for _ in range(60):
        bench.give("track.begin")
    assert sum(len(row.payload) for row in bench.log._rows) <= 20 * PAYLOAD
    newest = [row.offset for row in bench.log._rows]
    assert newest == list(range(newest[0], bench.next["a"]))
    bench.free()
    crowded["there"] = True
    bench.log.flush()
    missing = bench.log.take_missing()["a"]
    assert missing.count + len(bench.logged()) == bench.next["a"]


def test_with_a_retention_the_oldest_hours_make_room_on_a_full_disk(tmp_path, crowded):
    """The file does not grow, and every event is logged, updates as well."""
    hour = [0.0]
    bench = Bench(tmp_path, wall=lambda: 3600 * hour[0], keep=Retention(keep_days=100))
    with closing(bench):
        for _ in range(8):
            hour[0] += 1
            bench.give(*["track.update"] * 100)
        bench.fill()
        for _ in range(300):
            bench.now += kept_log.RETRY_S
            bench.give("track.begin", "track.update")
        assert bench.pragma("max_page_count") >= bench.pragma("page_count")
        assert bench.log.missing == {}
        logged = bench.logged()
        assert logged == list(range(logged[0], 8 * 100 + 600))
        assert 0 < logged[0] <= 700  # the newest hour began with 700
        assert not bench.log.writable  # until the disk has room for the reserve
        crowded["there"] = True
        bench.free()
        assert bench.give("track.update") == []
        assert bench.log.writable


def test_what_is_still_kept_at_the_end_is_counted(tmp_path, capsys):
    bench = Bench(tmp_path)
    bench.fill()
    bench.give("track.begin", "track.update")
    bench.log.flush()
    bench.close()
    assert "count=2" in capsys.readouterr().err.replace("'", "")
    assert bench.logged() == []


def test_only_samples_are_updates():
    updates = {name for name in event_codec().names if is_update(name)}
    assert updates == {
        *("track.update", "action.update", "scene.update", "density.update"),
        "pose.update",
        *("forecast.segmentation", "forecast.scored"),
        *("zone.update", "zone.forecast", "zone.scored"),
    }
