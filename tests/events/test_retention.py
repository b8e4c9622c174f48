"""Eviction: what is due, and a log that is consistent at any time while it goes on."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from waiting import PATIENCE_S

from streamvis.errors import RunError
from streamvis.events import retention
from streamvis.events.log import Cursor, GoneError, LogReader, LogWriter, Row
from streamvis.events.retention import PARTS, Evictor, Retention, evictor_of

HOUR_S = 3600
START_S = 500_000 * HOUR_S


class Clock:
    def __init__(self):
        self.now_s = float(START_S)

    def __call__(self):
        return self.now_s


def rows_of(source, first, count, size=20):
    return [
        Row(source, n, n + 1, "track.update", 0, bytes(size)) for n in range(first, first + count)
    ]


def give(writer, source, count, size=20):
    """Commit the next events of a source, as the publisher does."""
    cursor = writer.cursor(source)
    first = cursor.next if cursor else 0
    following = Cursor(source, "e", 0, first + count, "", b"")
    writer.commit(rows_of(source, first, count, size), [following])


def offsets_of(path, source):
    with LogReader(path) as log:
        return [row.offset for row in log.events(source)]


# -- what is due


def numbered(hours):
    return [(10 * n + 1, hour) for n, hour in enumerate(hours)]


def test_hours_that_ended_keep_days_ago_are_evicted():
    keep = Retention(keep_days=1)
    now_s = 100 * HOUR_S
    assert keep.evicted_before(numbered([74, 75, 76, 99]), 0, now_s) == 21  # 75 has ended at 76
    assert keep.evicted_before(numbered([74, 75, 76, 99]), 0, now_s - 1) == 11
    assert keep.evicted_before(numbered([76, 99]), 0, now_s) is None
    assert keep.evicted_before([], 0, now_s) is None


def test_the_newest_hour_stays():
    assert Retention(keep_days=1).evicted_before(numbered([1]), 0, 100 * HOUR_S) is None
    assert Retention(keep_days=1).evicted_before(numbered([1, 2]), 0, 100 * HOUR_S) == 11
    assert Retention(keep_gb=1).evicted_before(numbered([1]), 10**10, 0) is None


def test_one_hour_is_evicted_when_the_log_is_too_large():
    keep = Retention(keep_gb=1)
    below = 10**9 * (PARTS - 1) // PARTS
    assert keep.evicted_before(numbered([1, 2, 3]), below, 4 * HOUR_S) is None
    assert keep.evicted_before(numbered([1, 2, 3]), below + 1, 4 * HOUR_S) == 11
    both = Retention(keep_days=1, keep_gb=1)
    assert both.evicted_before(numbered([1, 2, 3]), below + 1, 100 * HOUR_S) == 21


@pytest.mark.parametrize(
    ("hours", "evicted"),
    [
        ([60, 61, 0, 62, 99], 4),  # started without a clock: the hour before it is older
        ([90, 0, 91, 99], 0),  # … but does not make others old
        ([60, 9000, 61, 99], 3),  # a clock that was ahead does not keep what is old
        ([60, 9000, 90, 99], 1),  # … and is taken for the hour after it
        ([60, 9000, 9001], 1),
    ],
)
def test_clocks_that_were_wrong(hours, evicted):
    before = Retention(keep_days=1).evicted_before(numbered(hours), 0, 100 * HOUR_S)
    assert before == (10 * evicted + 1 if evicted else None)


@given(st.lists(st.integers(0, 200), min_size=1), st.integers(0, 200))
def test_hours_in_order_are_taken_as_they_are(hours, now):
    """Oracle: with clocks that were right, an hour is due when its end is old enough."""
    hours = sorted(hour for hour in hours if hour <= now)
    before = Retention(keep_days=2).evicted_before(numbered(hours), 0, now * HOUR_S)
    due = sum(hour + 1 <= now - 48 for hour in hours[:-1])
    assert before == (10 * due + 1 if due else None)


# -- the log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def writer(path, clock):
    with closing(LogWriter(path, clock)) as writer:
        yield writer


def evicted(writer, clock, keep):
    with closing(Evictor(writer, keep, clock)) as evictor:
        return evictor.evict()


def test_whole_hours_are_evicted_of_all_sources(writer, path, clock):
    give(writer, "a", 700)
    give(writer, "quiet", 3)
    clock.now_s += HOUR_S
    give(writer, "a", 500)
    give(writer, "b", 10)
    clock.now_s += 24 * HOUR_S
    assert evicted(writer, clock, Retention(keep_days=1)) == 703
    assert offsets_of(path, "a") == list(range(700, 1200))
    assert offsets_of(path, "b") == list(range(10))
    with LogReader(path) as log:
        assert [log.oldest(name) for name in ("a", "b", "quiet", "unknown")] == [700, 0, 3, 0]
        assert log.cursors()["quiet"].next == 3
        assert list(log.since("quiet", 3)) == []
        assert [row.offset for row in log.since("a", 700, 702)] == [700, 701, 702]
        for source, first, oldest in [("a", 699, 700), ("quiet", 0, 3)]:
            with pytest.raises(GoneError, match=f"from offset {first} are evicted") as gone:
                list(log.since(source, first))
            assert gone.value.oldest == oldest
    give(writer, "quiet", 2)
    assert offsets_of(path, "quiet") == [3, 4]


def test_what_is_evicted_while_it_is_read_is_said(writer, path, clock):
    give(writer, "a", 2500)
    clock.now_s += HOUR_S
    give(writer, "a", 10)
    clock.now_s += 25 * HOUR_S
    with LogReader(path) as log:
        reading = log.since("a", 0)
        assert [next(reading).offset for _ in range(1000)] == list(range(1000))
        assert evicted(writer, clock, Retention(keep_days=1)) == 2500
        with pytest.raises(GoneError) as gone:
            next(reading)
    assert gone.value.oldest == 2500


def test_offsets_missing_after_a_full_disk_are_not_evicted_ones(writer, path):
    writer.commit(rows_of("a", 0, 3) + rows_of("a", 7, 3), [Cursor("a", "e", 0, 10, "", b"")])
    with LogReader(path) as log:
        assert [row.offset for row in log.since("a", 1)] == [1, 2, 7, 8, 9]
        assert [row.offset for row in log.since("a", 4)] == [7, 8, 9]


def test_an_hour_that_is_large_is_divided(writer, path, clock):
    """So that `keep_gb` also holds where an hour has more events than that."""
    keep = Retention(keep_gb=0.002)
    with closing(Evictor(writer, keep, clock)) as evictor:
        for _ in range(100):
            give(writer, "a", 50, size=1000)
            evictor.evict()
            assert path.stat().st_size <= 2_000_000
    kept = offsets_of(path, "a")
    assert kept == list(range(kept[0], 5000))
    assert len(kept) * 1000 > 0.6 * 2_000_000  # and is made use of: three such events a page


def test_a_log_is_bounded_over_a_month(writer, path, clock):
    """30 days of 120 events an hour: the file grows for a week and not after it."""
    sizes = []
    keep = Retention(keep_days=7)
    with closing(Evictor(writer, keep, clock)) as evictor:
        for n in range(30 * 24):
            rows = rows_of("a", 60 * n, 60, size=200) + rows_of("b", 60 * n, 60, size=200)
            writer.commit(rows, [])
            clock.now_s += HOUR_S
            evictor.evict()
            sizes.append(path.stat().st_size)
    week = 7 * 24
    assert max(sizes[week:]) <= 1.05 * sizes[week]
    for source in ("a", "b"):
        assert offsets_of(path, source) == list(range(43200 - 60 * week, 43200))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM hours").fetchone() == (week,)


def test_the_thread_evicts_while_events_are_committed(path, clock, monkeypatch):
    monkeypatch.setattr(retention, "LOOK_S", 0.01)
    with closing(LogWriter(path, clock)) as writer:
        for _ in range(4):
            give(writer, "a", 1000)
            clock.now_s += HOUR_S
        clock.now_s += 24 * HOUR_S
        give(writer, "a", 1)
        monkeypatch.setattr(retention, "time", TimeAt(clock))
        evictor = Evictor(writer, Retention(keep_days=1), clock)
        evictor.start()
        with closing(evictor):
            deadline = time.monotonic() + PATIENCE_S
            count = 4001
            while offsets_of(path, "a")[0] < 4000 and time.monotonic() < deadline:
                give(writer, "a", 10)
                count += 10
        assert offsets_of(path, "a") == list(range(4000, count))
    assert os.listdir(path.parent) == ["events.db"]


class TimeAt:
    """`time` of the module, of which only the counter is used."""

    def __init__(self, clock):
        self.perf_counter = time.perf_counter
        self.time = clock


def test_room_is_made_from_all_but_the_newest_hour(writer, path, clock):
    with closing(Evictor(writer, Retention(keep_days=1), clock)) as evictor:
        assert not evictor.make_room()  # of an empty log
        give(writer, "a", 3000, size=1000)
        assert not evictor.make_room()  # of one with a single hour
        clock.now_s += HOUR_S
        give(writer, "a", 10)
        calls = 1
        while not evictor.make_room():
            calls += 1
    assert calls > 1  # each is one small transaction
    kept = offsets_of(path, "a")
    assert kept == list(range(calls * retention.AT_ONCE, 3010))


def test_without_limits_nothing_is_evicted(writer):
    assert evictor_of(writer, Retention()) is None


def test_evicted_bytes_are_overwritten(writer, path, clock):
    writer.commit([Row("a", 0, 1, "x", 0, b"secret of yesterday " * 10)], [])
    clock.now_s += 25 * HOUR_S
    give(writer, "a2", 1)
    clock.now_s += 24 * HOUR_S
    assert evicted(writer, clock, Retention(keep_days=1)) == 1
    writer.close()
    assert b"secret of yesterday" not in path.read_bytes()


def test_the_tools_of_sqlite_read_a_log_while_it_is_written(writer, path, clock):
    give(writer, "a", 300)
    clock.now_s += 2 * HOUR_S
    give(writer, "a", 20)
    clock.now_s += 24 * HOUR_S
    evicted(writer, clock, Retention(keep_days=1))
    query = "SELECT source, min(offset), count(*) FROM events; PRAGMA integrity_check"
    if tool := shutil.which("sqlite3"):
        found = subprocess.run(
            [tool, "-readonly", path, query], capture_output=True, text=True, check=True
        ).stdout.split()
    else:
        with closing(sqlite3.connect(path)) as db:
            first, second = (db.execute(one).fetchone() for one in query.split("; "))
            found = ["|".join(map(str, first)), *second]
    assert found == ["a|300|20", "ok"]


KILLED = """
import sys
from pathlib import Path
from streamvis.errors import RunError
from streamvis.events import retention
from streamvis.events.log import Cursor, LogWriter, Row
from streamvis.events.retention import Evictor, Retention
clock = [0.0]
log = LogWriter(Path(sys.argv[1]), lambda: clock[0])
n = 0
def give(count):
    global n
    rows = [Row("a", n + i, n + i + 1, "track.update", 0, b"x" * 500) for i in range(count)]
    log.commit(rows, [Cursor("a", "e", 0, n + count, "", b"")])
    n += count
for hour in range(20):
    clock[0] = 3600.0 * hour
    give(1000)
clock[0] = 3600.0 * 100
give(1)
retention.AT_ONCE = 7
Evictor(log, Retention(keep_days=1), lambda: clock[0]).start()
while True:
    give(3)
    print(n, flush=True)
"""


@pytest.mark.parametrize("commits", [1, 20, 60])
def test_kill_9_in_the_midst_of_an_eviction(path, clock, commits):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as run:
        told = [int(run.stdout.readline()) for _ in range(commits)]
        run.send_signal(signal.SIGKILL)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with LogReader(path) as log:
        following, oldest = log.cursors()["a"].next, log.oldest("a")
        assert [row.offset for row in log.since("a", oldest)] == list(range(oldest, following))
    assert following >= told[-1]
    assert oldest <= 20_000
    clock.now_s = 3600.0 * 100
    with closing(LogWriter(path, clock)) as writer:
        assert evicted(writer, clock, Retention(keep_days=1)) == 20_000 - oldest
    assert offsets_of(path, "a") == list(range(20_000, following))


class AnyHistory(RuleBasedStateMachine):
    """A log through commits, hours, evictions and restarts, beside lists of what it must hold."""

    @initialize()
    def open(self):
        self.folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"any-history-{os.getpid()}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.clock = Clock()
        self.writer = LogWriter(self.folder / "events.db", self.clock)
        self.committed = []  # (source, offset, hour), in order
        self.next = {"a": 0, "b": 0, "c": 0}

    @rule(source=st.sampled_from("abc"), count=st.integers(1, 12))
    def commit(self, source, count):
        give(self.writer, source, count)
        hour = int(self.clock.now_s // HOUR_S)
        first = self.next[source]
        self.committed += [(source, n, hour) for n in range(first, first + count)]
        self.next[source] += count

    @rule(hours=st.integers(1, 30))
    def wait(self, hours):
        self.clock.now_s += hours * HOUR_S

    @rule(days=st.sampled_from([0.25, 1, 3]))
    def evict(self, days):
        with closing(Evictor(self.writer, Retention(keep_days=days), self.clock)) as evictor:
            evictor.evict()
        newest = self.committed[-1][2] if self.committed else 0
        oldest_s = self.clock.now_s - 86400 * days
        self.committed = [
            one for one in self.committed if one[2] == newest or HOUR_S * (one[2] + 1) > oldest_s
        ]

    @rule(killed=st.booleans())
    def restart(self, killed):
        if killed:  # without its last words, the file stays in WAL mode
            self.writer._db.close()
        else:
            self.writer.close()
        self.writer = LogWriter(self.folder / "events.db", self.clock)

    @invariant()
    def holds_what_it_must(self):
        with LogReader(self.folder / "events.db") as log:
            assert [(row.source, row.offset) for row in log.events()] == [
                one[:2] for one in self.committed
            ]
            for source, following in self.next.items():
                oldest = log.oldest(source)
                there = [row.offset for row in log.since(source, oldest)]
                assert there == list(range(oldest, following))
                if oldest:
                    with pytest.raises(GoneError):
                        list(log.since(source, oldest - 1))

    def teardown(self):
        if hasattr(self, "writer"):
            self.writer.close()
            shutil.rmtree(self.folder)


AnyHistory.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestAnyHistory = AnyHistory.TestCase


def test_a_log_that_another_file_has_replaced_is_not_opened(tmp_path):
    """No connection stays open, of which newer versions of Python warn."""
    path = tmp_path / "a.db"
    with closing(LogWriter(path)) as writer:
        path.rename(tmp_path / "b.db")
        path.write_bytes(b"of another program" * 100)
        with pytest.raises(RunError, match=r"a\.db cannot be opened to evict events: .*not a data"):
            evictor_of(writer, Retention(keep_days=1))
        path.unlink()
        path.mkdir()
        with pytest.raises(RunError, match=r"a\.db cannot be opened to evict events: unable to"):
            evictor_of(writer, Retention(keep_days=1))
