import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from streamvis.errors import DataError, RunError
from streamvis.events.log import Cursor, LogReader, LogWriter, Row, fold
from streamvis.events.log_schema import VERSION


def rows_of(source, offsets, kind="track.update"):
    return [Row(source, n, n + 1, kind, 100 * n, b'{"n":%d}' % n) for n in offsets]


def cursor_at(source, following, epoch="e1", first=0):
    return Cursor(source, epoch, first, following, "", b"state %d" % following)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@pytest.fixture
def writer(path):
    with closing(LogWriter(path)) as writer:
        yield writer


def test_what_was_committed_is_read_in_order(writer, path):
    writer.commit(rows_of("b", range(3)) + rows_of("a", range(2)), [cursor_at("b", 3)])
    writer.commit(rows_of("b", [3], "source.eof"), [cursor_at("b", 4), cursor_at("a", 2)])
    with LogReader(path) as log:
        assert [(row.source, row.offset) for row in log.events()] == [
            *(("b", 0), ("b", 1), ("b", 2), ("a", 0), ("a", 1), ("b", 3))
        ]
        assert list(log.events("b", first=1, last=2)) == rows_of("b", [1, 2])
        assert [row.offset for row in log.events(first=1, last=1)] == [1, 1]
        assert [row.offset for row in log.events(types=["source"])] == [3]
        assert [row.offset for row in log.events("b", types=["source.eof", "track.begin"])] == [3]
        assert list(log.events(types=["sour", "track.upd"])) == []
        assert log.cursors() == {"a": cursor_at("a", 2), "b": cursor_at("b", 4)}
    assert writer.cursor("b") == cursor_at("b", 4)
    assert writer.cursor("c") is None


def test_more_rows_than_are_read_at_a_time(writer, path):
    writer.commit(rows_of("a", range(2500)), [])
    with LogReader(path) as log:
        assert [row.offset for row in log.events()] == list(range(2500))
        assert [row.offset for row in log.events("a", first=7)] == list(range(7, 2500))


def test_a_reader_sees_commits_as_they_come_and_never_half_of_one(writer, path):
    writer.commit(rows_of("a", range(5)), [cursor_at("a", 5)])
    with LogReader(path) as log:
        reading = log.events("a")
        assert next(reading).offset == 0
        writer.commit(rows_of("a", range(5, 10)), [cursor_at("a", 10)])
        assert len(list(log.events("a"))) == 10
        writer._db.execute("BEGIN")
        writer._db.execute("INSERT INTO events VALUES (NULL, 'a', 10, 1, 'x', 0, x'')")
        assert len(list(log.events("a"))) == 10
        writer._db.execute("ROLLBACK")


def test_a_reader_cannot_write(writer, path):
    with LogReader(path) as log, pytest.raises(sqlite3.OperationalError, match="readonly"):
        log._db.execute("DELETE FROM events")


def test_a_batch_that_fails_leaves_nothing(writer, path):
    writer.commit(rows_of("a", [0]), [cursor_at("a", 1)])
    with pytest.raises(
        RunError, match=r"another run has written to this log.*directory of its own"
    ):
        writer.commit(rows_of("a", [1, 0]), [cursor_at("a", 2)])
    writer.commit(rows_of("a", [1]), [cursor_at("a", 2)])
    with LogReader(path) as log:
        assert [row.offset for row in log.events()] == [0, 1]


def test_a_closed_log_is_one_file_and_goes_on_when_it_is_opened_again(path):
    with closing(LogWriter(path)) as writer:
        writer.commit(rows_of("a", range(3)), [cursor_at("a", 3)])
    assert os.listdir(path.parent) == ["events.db"]
    with LogReader(path) as log:
        assert len(list(log.events())) == 3
    assert os.listdir(path.parent) == ["events.db"]
    with closing(LogWriter(path)) as writer:
        assert writer.cursor("a") == cursor_at("a", 3)
        assert [row.offset for row in writer.events("a", first=1)] == [1, 2]


KILLED = """
import sys
from pathlib import Path
from streamvis.events.log import Cursor, LogWriter, Row
log = LogWriter(Path(sys.argv[1]))
n = 0
while True:
    rows = [Row("a", n + i, n + i + 1, "track.update", 0, b"x" * 500) for i in range(10)]
    log.commit(rows, [Cursor("a", "e", 0, n + 10, "", b"")])
    n += 10
    print(n, flush=True)
"""


def test_kill_9_leaves_whole_batches_and_all_that_were_committed(path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as run:
        told = [int(run.stdout.readline()) for _ in range(30)]
        run.send_signal(signal.SIGKILL)
    with LogReader(path) as log:
        offsets = [row.offset for row in log.events()]
        assert offsets == list(range(log.cursors()["a"].next))
    assert len(offsets) >= told[-1]
    assert len(offsets) % 10 == 0


def test_no_log(tmp_path):
    with pytest.raises(DataError, match=r"gone/events.db: no event log; `streamvis run"):
        LogReader(tmp_path / "gone" / "events.db")
    for name in ("a-1", "b-2"):  # the directory of a batch
        (tmp_path / name).mkdir()
        (tmp_path / name / "events.db").touch()
    with pytest.raises(DataError, match=r"there are 2 in the directories of .*: a-1, b-2\. Name"):
        LogReader(tmp_path / "events.db")


@pytest.mark.parametrize("content", [b"", b"not a log" * 1000, b"SQLite format 3\0" + b"\1" * 5000])
def test_a_file_that_is_no_log(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"events\.db .*event log") as error:
        LogReader(path)
    assert "\n" not in str(error.value)
    if content:
        with pytest.raises(DataError):
            LogWriter(path)
        assert path.read_bytes() == content


def test_the_database_of_another_program_is_left_alone(path):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE photos (id)")
    before = path.read_bytes()
    for opened in (LogReader, LogWriter):
        with pytest.raises(
            DataError, match="not an event log of streamvis; the file was not changed"
        ):
            opened(path)
    assert path.read_bytes() == before


def test_a_truncated_log(path):
    with closing(LogWriter(path)) as writer:
        writer.commit(rows_of("a", range(3000)), [cursor_at("a", 3000)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with (
        pytest.raises(DataError, match=r"events\.db cannot be read as an event log"),
        LogReader(path) as log,
    ):
        list(log.events())


def test_a_log_of_a_newer_version(path):
    with closing(LogWriter(path)) as writer:
        writer._db.execute(f"PRAGMA user_version = {VERSION + 1}")
    for opened in (LogReader, LogWriter):
        with pytest.raises(DataError, match=f"version {VERSION + 1}, this streamvis reads up to"):
            opened(path)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(RunError, match="cannot make the event log"):
        LogWriter(tmp_path / "absent" / "events.db")


def test_a_full_disk_is_said_and_the_log_stays_whole(writer, path):
    writer.commit(rows_of("a", [0]), [cursor_at("a", 1)])
    pages = writer._db.execute("PRAGMA page_count").fetchone()[0]
    writer._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(RunError, match=r"cannot be written: database or disk is full\. Free space"):
        writer.commit(rows_of("a", range(1, 2000)), [cursor_at("a", 2000)])
    with LogReader(path) as log:
        assert [row.offset for row in log.events()] == [0]
        assert log.cursors()["a"].next == 1


def test_what_a_killed_run_left_is_read_from_a_medium_that_cannot_be_written(
    path, monkeypatch, tmp_path
):
    """There SQLite cannot make the index of the write-ahead log: a copy is read."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as run:
        run.stdout.readline()
        run.send_signal(signal.SIGKILL)
    before = {p.name: p.read_bytes() for p in path.parent.glob("events.db*")}
    monkeypatch.setattr("streamvis.events.log._needs_a_copy", lambda db, path: True)
    with LogReader(path) as log:
        assert [row.offset for row in log.events()] == list(range(log.cursors()["a"].next))
        folder = Path(log._copy.name)
        assert (folder / "events.db").exists()
    assert not folder.exists()
    assert {p.name: p.read_bytes() for p in path.parent.glob("events.db*")} == before


def test_the_write_ahead_log_of_a_killed_run_is_folded_into_the_file(path):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as run:
        told = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
    assert path.with_name("events.db-wal").exists()
    fold(path)
    assert [p.name for p in path.parent.glob("events.db*")] == ["events.db"]
    with LogReader(path) as log:
        assert len(list(log.events())) == log.cursors()["a"].next >= told
    fold(path)
    fold(path.with_name("none.db"))
    assert not path.with_name("none.db").exists()
