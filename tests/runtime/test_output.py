"""One run at a time in a directory, none over another, and what is left when a run ends."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamvis.config import MaskRcnn, Pipeline, StageSpec
from streamvis.errors import DataError, RunError, SourceError, UsageError
from streamvis.events.log import Cursor, LogWriter
from streamvis.runtime.output import exported, locked, refuse_used, run_files
from streamvis.runtime.resume import claimed

PIPELINE = Pipeline(stages=[StageSpec("detect", MaskRcnn())])


def log_in(folder, source="a"):
    folder.mkdir(exist_ok=True)
    log = LogWriter(folder / "events.db")
    log.commit([], [Cursor(source, "", 0, 0, "failed", b"")])
    log.close()


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_that_fails_exports_its_tracks(tmp_path):
    log_in(tmp_path)
    with pytest.raises(SourceError, match="was lost"), exported(tmp_path):
        raise SourceError("camera a was lost")
    assert (tmp_path / "tracks.txt").exists()


def test_the_first_error_precedes_a_log_that_cannot_be_read(tmp_path):
    (tmp_path / "events.db").write_text("this is no log")
    with pytest.raises(SourceError, match="was lost"), exported(tmp_path):
        raise SourceError("camera a was lost")
    with pytest.raises(DataError, match="events"), exported(tmp_path):
        pass


def test_a_run_without_a_directory_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with claimed(None, PIPELINE, [], "refuse"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_failed_before_its_first_event_is_no_run_in_the_directory(tmp_path):
    with contextlib.suppress(SourceError), claimed(tmp_path, PIPELINE, [], "refuse"):
        LogWriter(tmp_path / "events.db").close()
        raise SourceError("the address of the feed is in use")
    with claimed(tmp_path, PIPELINE, [], "refuse") as second:
        assert [path.name for path in run_files(tmp_path)] == ["run.json"]
    (tmp_path / "annotated.mp4").write_bytes(b"film")
    LogWriter(tmp_path / "events.db").close()
    with (
        pytest.raises(UsageError, match="holds a run already"),
        claimed(tmp_path, PIPELINE, [], "refuse"),
    ):
        pass
    assert (tmp_path / "annotated.mp4").exists()
    assert second.epoch in (tmp_path / "run.json").read_text()


HOLD = """
import sys
from pathlib import Path
from streamvis.runtime.output import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_by_the_name_of_the_first_until_that_is_gone(tmp_path):
    log_in(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        first.stdout.readline()
        before = everything(tmp_path)
        for on_used in ("refuse", "overwrite", "resume"):
            with (
                pytest.raises(RunError, match=rf"process {first.pid} on \S+ since 2") as error,
                claimed(tmp_path, PIPELINE, [], on_used),
            ):
                pass
            assert "\n" not in str(error.value)
        assert everything(tmp_path) == before
        first.kill()
    with claimed(tmp_path, PIPELINE, [], "overwrite"):
        assert sorted(os.listdir(tmp_path)) == [".lock", "run.json"]
    assert os.listdir(tmp_path) == ["run.json"]


def test_a_lock_whose_file_was_removed_by_its_holder_is_taken_anew(tmp_path, monkeypatch):
    """Between the opening of the file and the lock, the holder ends and removes it."""
    flock, calls = __import__("fcntl").flock, []

    def late(fd, how):
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(fd)
        flock(fd, how)

    monkeypatch.setattr("fcntl.flock", late)
    with locked(tmp_path):
        assert (tmp_path / ".lock").stat().st_ino == os.fstat(calls[-1]).st_ino
    assert len(calls) == 2


def test_a_used_directory_is_refused_in_one_line_with_the_next_step(tmp_path):
    log_in(tmp_path)
    before = everything(tmp_path)
    with (
        pytest.raises(
            UsageError, match=r"holds a run .*events\.db.*--resume.*--overwrite"
        ) as error,
        claimed(tmp_path, PIPELINE, [], "refuse"),
    ):
        pass
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == before


OURS = [
    "annotated-a.mp4",
    "annotated-a.2.mp4",
    "annotated.mp4",
    "annotated.1.mp4",
    "events.db-wal",
    "feed.json",
    ".summary.json.77",
    "summary.json",
    "tracks.txt",
    "tracks-a.txt",
    ".tracks-a.txt.12.tmp",
    ".events.snapshot.345.tmp",
    ".checkpoint.msgpack.6.tmp",
]
THEIRS = [
    "annotated-mine.mp4",
    "tracks-truth.txt",
    "my.db",
    "events.db.bak",
    "feed.json.txt",
    "notes.txt",
]


def test_overwriting_removes_files_of_runs_and_no_others(tmp_path):
    log_in(tmp_path)
    for name in (*OURS, *THEIRS):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "events.db-wal").unlink()  # of another log, SQLite would say
    with claimed(tmp_path, PIPELINE, [], "overwrite"):
        assert sorted(os.listdir(tmp_path)) == sorted([".lock", "folder", "run.json", *THEIRS])
    assert [path.name for path in run_files(tmp_path)] == ["run.json"]


def test_files_of_a_run_are_private(tmp_path):
    out = tmp_path / "new"
    before = os.umask(0o022)
    try:
        with claimed(out, PIPELINE, [], "refuse"):
            log_in(out)
            child = subprocess.run(["touch", out / "film.mp4"], check=True)
            assert child.returncode == 0
        assert os.umask(0o077) == 0o022
        with claimed(out, PIPELINE, [], "overwrite"):
            log_in(out)
            assert (out / "events.db").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (out, *Path(out).iterdir())}
    assert modes == {
        "new": 0o750,
        "events.db": 0o600,
        "tracks.txt": 0o600,
        "run.json": 0o600,
        "film.mp4": 0o640,
    }


@pytest.mark.parametrize(
    ("frames", "interrupted", "error", "kept"),
    [
        (0, "SIGINT", "", False),  # before the publisher had begun
        (0, "", "source 'a' is empty", False),
        (0, "", "", True),
        (9000, "SIGINT", "", True),  # a camera, of a pipeline that publishes nothing
        (9000, "", "", True),
    ],
)
def test_a_run_without_a_log_that_ended_early_is_replaced(
    tmp_path, frames, interrupted, error, kept
):
    stages = [{"name": "detect", "count": frames}]
    summary = {"stages": stages, "interrupted": interrupted, "error": error}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    if kept:
        with pytest.raises(UsageError, match="holds a run already"):
            refuse_used(tmp_path)
    else:
        refuse_used(tmp_path)
    assert (tmp_path / "summary.json").exists() == kept
