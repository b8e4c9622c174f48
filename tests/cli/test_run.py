"""What a run leaves when it ends, and when it fails."""

import pytest

from streamvis.cli.run import finished
from streamvis.errors import DataError, SourceError
from streamvis.events.log import Cursor, LogWriter


def log_in(folder):
    log = LogWriter(folder / "events.db")
    log.commit([], [Cursor("a", "", 0, 0, "failed", b"")])
    log.close()


def test_a_run_that_fails_leaves_the_tracks_it_has_seen(tmp_path):
    log_in(tmp_path)
    with pytest.raises(SourceError, match="was lost"), finished(tmp_path):
        raise SourceError("camera a was lost")
    assert (tmp_path / "tracks.txt").exists()


def test_what_a_run_failed_of_goes_before_a_log_that_cannot_be_read(tmp_path):
    (tmp_path / "events.db").write_text("this is no log")
    with pytest.raises(SourceError, match="was lost"), finished(tmp_path):
        raise SourceError("camera a was lost")
    with pytest.raises(DataError, match="events"), finished(tmp_path):
        pass


def test_a_run_without_a_place_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with finished(None):
        pass
    assert list(tmp_path.iterdir()) == []
