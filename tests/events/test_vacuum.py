import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from streamvis.errors import DataError, RunError
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.events.vacuum import is_rewritten, vacuum

V1 = Path(__file__).parent / "fixtures" / "log-v1.db"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


def fill(writer, first, count):
    rows = [Row("a", n, n + 1, "track.update", 0, bytes(1000)) for n in range(first, first + count)]
    writer.commit(rows, [Cursor("a", "e", 0, first + count, "", b"")])


def delete_before(path, first):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM events WHERE offset < ?", (first,))


def offsets_of(path):
    with LogReader(path) as log:
        return [row.offset for row in log.events("a")]


def test_the_space_is_returned_and_the_events_stay(path):
    with closing(LogWriter(path)) as writer:
        fill(writer, 0, 2000)
    delete_before(path, 1500)
    before, after = vacuum(path)
    assert before > 2_000_000
    assert after == path.stat().st_size < 0.3 * before
    assert offsets_of(path) == list(range(1500, 2000))
    assert vacuum(path) == (after, after)


def test_while_a_run_writes(path):
    with closing(LogWriter(path)) as writer:
        fill(writer, 0, 3000)
        delete_before(path, 2900)
        found = []
        thread = threading.Thread(target=lambda: found.append(vacuum(path)))
        thread.start()
        following = 3000
        while thread.is_alive():
            fill(writer, following, 10)
            following += 10
        thread.join()
    assert offsets_of(path) == list(range(2900, following))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA freelist_count").fetchone()[0] < 100


def test_a_file_of_version_1_is_written_anew_once(path):
    shutil.copy(V1, path)
    with LogReader(path) as log:
        rows = list(log.events())
    assert is_rewritten(path)
    vacuum(path)
    assert not is_rewritten(path)
    with LogReader(path) as log:
        assert list(log.events()) == rows


def test_one_that_is_in_use_stays_as_it_is(path, monkeypatch):
    monkeypatch.setattr("streamvis.events.vacuum.BUSY_S", 0.05)
    with closing(LogWriter(path)) as writer:
        fill(writer, 0, 1000)
        delete_before(path, 900)
        writer._db.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunError, match=r"cannot be given back: database is locked\. .* stop"):
            vacuum(path)
        writer._db.execute("ROLLBACK")
    assert offsets_of(path) == list(range(900, 1000))


def test_a_file_that_is_no_log(path):
    path.write_bytes(b"not a log")
    with pytest.raises(DataError):
        vacuum(path)
    assert path.read_bytes() == b"not a log"
