"""Logs of earlier versions: `fixtures/log-v1.db` is of a run that was killed midway."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import do, info_of, packet_of, site_at

from streamvis.config import Publish
from streamvis.errors import DataError
from streamvis.events import log_schema
from streamvis.events.log import LogReader, LogWriter
from streamvis.events.log_schema import HOUR_US, VERSION
from streamvis.stages import event_codec
from streamvis.stages.publish.stage import PublishStage

V1 = Path(__file__).parent / "fixtures" / "log-v1.db"


@pytest.fixture
def path(tmp_path):
    return Path(shutil.copy(V1, tmp_path / "events.db"))


def rows_of(path):
    with LogReader(path) as log:
        return list(log.events())


def version_of(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def hours_of(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT first, hour FROM hours ORDER BY first").fetchall()


def test_a_log_of_version_1_is_read_as_it_is(path):
    before = path.read_bytes()
    with LogReader(path) as log:
        events = [event_codec().decode(row.payload) for row in log.events()]
        assert [row.type for row in log.since("gate", 0)] == [
            event.type for event in events if event.source == "gate"
        ]
        assert log.oldest("gate") == 0
        assert log.cursors()["yard"].ending == "eof"
    assert len(events) == 8
    assert path.read_bytes() == before


def test_a_writer_migrates_it_and_changes_no_event(path):
    rows, (emitted, *_) = (
        rows_of(path),
        [json.loads(row.payload)["time"]["emit_us"] for row in rows_of(path)],
    )
    LogWriter(path).close()
    assert version_of(path) == VERSION
    assert rows_of(path) == rows
    assert hours_of(path) == [(1, emitted // HOUR_US)]


def test_a_run_of_version_1_goes_on_in_it(path):
    """The publisher's state there is read: the open tracks end, and the numbers go on."""
    with LogReader(path) as log:
        cursor = log.cursors()["gate"]
    stage = PublishStage(Publish(bind=None), site_at(path.parent, epoch=cursor.epoch))
    stage.begin(info_of("gate"), None)
    do(stage, [packet_of("gate", 1000, ids=(7,))])
    do(stage, ("gate", "drained"))
    stage.close()
    with LogReader(path) as log:
        events = list(log.since("gate", 0))
    assert [row.offset for row in events] == list(range(len(events)))
    types = [row.type for row in events]
    assert types.count("track.begin") == types.count("track.end") == 3


def test_a_kill_in_the_midst_of_the_migration_leaves_version_1(path, monkeypatch):
    rows = rows_of(path)

    def killed(db):
        raise sqlite3.OperationalError("killed")

    monkeypatch.setattr(log_schema, "_hours", killed)
    with pytest.raises(Exception, match="killed"):
        LogWriter(path)
    assert version_of(path) == 1
    assert rows_of(path) == rows


def test_a_newer_log_is_refused_in_one_line_and_not_changed(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    for opened in (LogReader, LogWriter):
        with pytest.raises(DataError, match=f"version {VERSION + 1}, .* up to {VERSION};") as error:
            opened(path)
        assert "\n" not in str(error.value)
    assert path.read_bytes() == before


@given(hours=st.lists(st.integers(0, 6), max_size=60).map(sorted))
def test_the_hours_of_a_log_are_found_from_its_events(hours):
    """Oracle: the first id of each hour, by looking at every event."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        log_schema.create(db)
        db.executescript("DROP TABLE hours; PRAGMA user_version = 1")
        for n, hour in enumerate(hours):
            payload = json.dumps({"time": {"emit_us": hour * HOUR_US + n}})
            db.execute(
                "INSERT INTO events VALUES (NULL, 'a', ?, 1, 'x', 0, ?)", (n, payload.encode())
            )
        log_schema.migrate(db)
        found = db.execute("SELECT first, hour FROM hours ORDER BY first").fetchall()
    assert found == [(hours.index(hour) + 1, hour) for hour in sorted(set(hours))]
