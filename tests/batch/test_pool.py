"""Batches: each file a process of its own, so what harms one leaves the others alone."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories import notes, video
from rtsp_server import Camera, Film, encode_film, serving
from waiting import PATIENCE_S

from streamvis.batch import pool
from streamvis.batch.jobs import Plan
from streamvis.batch.results import Result
from streamvis.cli.batch import exit_code
from streamvis.config import CameraMotion, Pipeline, Placement, Publish, StageSpec, WorkerSpec
from streamvis.errors import DataError, InUseError
from streamvis.events.log import LogReader
from streamvis.runtime.output import OnUsed, locked
from streamvis.sources import resolve

# no network: what a run starts with is quick
QUICK = Pipeline(
    stages=[
        StageSpec("camera", CameraMotion()),
        StageSpec("publish", Publish(bind=None), after=["camera"]),
    ]
)
TOGETHER = Placement(workers=[WorkerSpec(["camera", "publish"])])


def process(
    out: Path, *sources: object, at_once: int = 1, on_used: OnUsed = "refuse"
) -> list[Result]:
    out.mkdir(exist_ok=True)
    specs = resolve([str(source) for source in sources])
    return pool.process(specs, Plan(QUICK, TOGETHER, out, on_used), at_once, Silent())


class Silent:
    """Progress that nobody sees."""

    def started(self, file):
        pass

    def advanced(self, handle, frames, fps):
        pass

    def ended(self, handle):
        pass

    def completed(self, result, number):
        pass

    def warn(self, text):
        raise AssertionError(text)


def states_in(out: Path) -> dict[str, str]:
    """States of files by `batch.json`."""
    return {e["path"]: e["state"] for e in json.loads((out / "batch.json").read_bytes())["files"]}


def test_good_and_bad_files_side_by_side_and_what_is_done_is_not_done_again(tmp_path):
    """Files of the same name in two folders get a place each, and a bad one harms nobody."""
    out = tmp_path / "out"
    files = good, bad = video(tmp_path / "clips/a.mp4"), tmp_path / "more/a.mp4"
    bad.parent.mkdir()
    notes(bad)
    done, failed = process(out, *files, at_once=2)
    assert [(r.state, r.frames) for r in (done, failed)] == [("done", 4), ("failed", 0)]
    assert done.directory != failed.directory
    assert "more/a.mp4' is not a video" in failed.why
    assert exit_code([done, failed]) == 5
    assert states_in(out) == {str(good): "done", str(bad): "failed"}
    before = left(out / done.directory)

    refused = process(out, *files)
    assert [r.state for r in refused] == ["refused", "refused"]
    assert exit_code(refused) == 5
    assert states_in(out) == {str(good): "done", str(bad): "failed"}

    again = process(out, *files, on_used="resume")
    assert [r.state for r in again] == ["skipped", "failed"]
    assert left(out / done.directory) == before
    summary = json.loads((out / failed.directory / "summary.json").read_bytes())
    assert summary["error"] == again[1].why

    (anew,) = process(out, good, on_used="overwrite")
    assert (anew.state, anew.directory) == ("done", done.directory)
    assert left(out / done.directory) != before


def test_a_matroska_file_that_ends_early_is_marked(tmp_path):
    whole = video(tmp_path / "whole.mkv", 60)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    one, two = process(tmp_path / "out", whole, cut)
    assert (one.state, one.frames) == ("done", 60)
    assert (two.state, two.frames < 50) == ("incomplete", True)
    assert two.frames_promised == pytest.approx(60, abs=2)


def left(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_truncated_file_is_marked_and_all_that_decodes_is_processed(tmp_path):
    whole = video(tmp_path / "whole.mp4", 60, movflags="faststart")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    one, two = process(tmp_path / "out", whole, cut)
    assert (one.state, one.frames, one.frames_promised) == ("done", 60, None)
    assert (two.state, two.frames_promised) == ("incomplete", 60)
    assert 0 < two.frames < 60
    assert two.why == f"{two.frames} of 60 promised frames decode"
    assert exit_code([one, two]) == 0
    again = process(tmp_path / "out", whole, cut, on_used="resume")
    assert [(r.state, r.frames, r.frames_promised) for r in again] == [
        ("skipped", 60, None),
        ("skipped", two.frames, 60),
    ]
    assert states_in(tmp_path / "out") == {str(whole): "done", str(cut): "incomplete"}


def test_a_directory_that_another_batch_writes_to_is_left_alone(tmp_path):
    out, file = tmp_path / "out", video(tmp_path / "a.mp4")
    (spec,) = resolve([str(file)])
    out.mkdir()
    place = out / Plan(QUICK, TOGETHER, out).take(spec)[0].directory
    with locked(place):
        (result,) = process(out, file, on_used="resume")
        assert [path.name for path in place.iterdir()] == [".lock"]
    assert result.state == "refused"
    assert f"another run writes here, process {os.getpid()} on" in result.why
    assert states_in(out) == {}
    (result,) = process(out, file)
    assert result.state == "done"


@pytest.fixture(scope="module")
def film() -> Film:
    return encode_film([np.full((48, 64, 3), 20 + 4 * n, np.uint8) for n in range(20)], fps=20)


def test_a_stream_that_is_lost_fails_alone_and_is_not_connected_again(film, tmp_path):
    camera = Camera(films=[film], fps=20, close_after=30)
    with serving(camera) as server:
        clip = video(tmp_path / "a.mp4")
        lost, done = process(tmp_path / "out", f"gate={server.url}", clip)
        plays = server.requests().count("PLAY")
    assert (lost.state, done.state) == ("failed", "done")
    assert "was lost" in lost.why
    summary = json.loads((tmp_path / "out" / lost.directory / "summary.json").read_bytes())
    assert summary["sources"][0]["admitted"] > 0
    assert plays == 1


def test_a_stream_that_is_not_there_fails_alone(tmp_path):
    url = "rtsp://127.0.0.1:9/none"
    absent, done = process(tmp_path / "out", url, video(tmp_path / "a.mp4"))
    assert (absent.state, done.state) == ("failed", "done")
    assert "refused the connection" in absent.why


def test_a_recording_that_grows_meanwhile_is_not_done(tmp_path, monkeypatch):
    """A stand-in for a camera that writes to the file while it is processed."""
    file = video(tmp_path / "a.mp4")
    script = f"""echo more >> {file}; echo '{json.dumps({"summary": SUMMARY})}'"""
    monkeypatch.setattr(pool.sys, "executable", stand_in(tmp_path, script))
    (result,) = process(tmp_path / "out", file)
    assert (result.state, result.frames) == ("incomplete", 4)
    assert "written to while it was processed" in result.why
    (again,) = process(tmp_path / "out", file, on_used="resume")
    assert again.directory != result.directory


SUMMARY = {
    "sources": [{"admitted": 4, "decoded": 4, "frames_promised": None}],
    "wall_s": 1.0,
    "interrupted": "",
}


def test_ctrl_c_ends_the_file_at_hand_in_good_order_and_begins_no_other(tmp_path):
    out, long = tmp_path / "out", video(tmp_path / "long.mp4", 20_000)

    def interrupt() -> None:
        while not workers_of_jobs():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    impatient = threading.Thread(target=interrupt)
    impatient.start()
    results = process(out, long, video(tmp_path / "next.mp4"))
    impatient.join()
    assert [(r.state, r.why) for r in results] == [
        ("interrupted", "--resume goes on with it"),
        ("interrupted", "not begun"),
    ]
    assert exit_code(results) == 130
    assert states_in(out) == {str(long): "interrupted"}
    (place,) = [path for path in out.iterdir() if path.is_dir()]
    told = json.loads((place / "summary.json").read_text())
    assert (told["interrupted"], told["sources"][0]["ending"]) == ("SIGTERM", "drained")
    assert signal.getsignal(signal.SIGINT) is before


KILLED = """
import sys
from pathlib import Path
import msgspec
from streamvis.batch.jobs import Plan
from streamvis.batch.pool import process
from streamvis.cli.batch_output import ProgressBar
from streamvis.config import Pipeline, Placement
from streamvis.sources import resolve
pipeline = msgspec.json.decode(sys.argv[1], type=Pipeline)
placement = msgspec.json.decode(sys.argv[2], type=Placement)
process(
    resolve([sys.argv[3]]), Plan(pipeline, placement, Path(sys.argv[4])), 1, ProgressBar(1)
)
"""


@pytest.mark.parametrize("all_of_it", [False, True])
def test_after_kill_9_resume_goes_on_from_the_log(all_of_it, tmp_path):
    """Of the batch alone, the process of the file ends in good order; or of all processes."""
    out, file = tmp_path / "out", video(tmp_path / "long.mp4", 3000)
    out.mkdir()
    arguments = [msgspec.json.encode(QUICK), msgspec.json.encode(TOGETHER), file, out]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], stderr=subprocess.DEVNULL
    ) as killed:
        while not (logs := list(out.glob("*/events.db"))) or not events(logs[0]):
            assert killed.poll() is None
            time.sleep(0.02)
        family = descendants(killed.pid) if all_of_it else []
        for pid in [str(killed.pid), *family]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    place = logs[0].parent
    if not all_of_it:
        patiently(lambda: (place / "summary.json").exists())
    if all_of_it:
        shutil.move(file, tmp_path / "moved meanwhile.mp4")
        file = tmp_path / "moved meanwhile.mp4"
    patiently(lambda: not held(place))
    patiently(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))  # nor a zombie
    (result,) = process(out, file, on_used="resume")
    ended = {"done"} if all_of_it else {"done", "skipped"}  # its process may have come to the end
    assert result.state in ended, result.why
    assert result.frames == 3000
    assert result.directory == place.name
    offsets = [offset for _, offset in events(place / "events.db")]
    assert offsets == list(range(len(offsets)))
    assert states_in(out)[str(file)] == "done"


def events(log: Path) -> list[tuple[str, int]]:
    """Sources and offsets, in the order of the log."""
    try:
        with LogReader(log) as reader:
            return [(row.source, row.offset) for row in reader.events()]
    except DataError:  # only just made
        return []


def patiently(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def held(place: Path) -> bool:
    """Whether a process that was killed, or had to end, has not let go of the directory yet."""
    try:
        with locked(place):
            return False
    except InUseError:
        return True


def descendants(pid: int) -> list[str]:
    below = children(pid)
    return [*below, *(lower for child in below for lower in descendants(int(child)))]


def workers_of_jobs() -> list[str]:
    """Processes that our jobs have started: by then, they listen to signals."""
    ours = [pid for child in children(os.getpid()) for pid in children(int(child))]
    return [pid for pid in ours if b"runtime.decode" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def children(parent: int) -> list[str]:
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [pid for task in tasks for pid in task.read_text().split()]


def stand_in(tmp_path: Path, script: str) -> str:
    """A program that takes the place of the job's process."""
    path = tmp_path / "stand_in"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 7", "ended with exit code 7 and without a result"),
        ("echo what a library prints; exit 7", "ended with exit code 7 and without a result"),
        ("kill -9 $$", "was killed by SIGKILL"),
    ],
)
def test_a_process_without_a_result_fails_its_file_alone(script, words, tmp_path, monkeypatch):
    monkeypatch.setattr(pool.sys, "executable", stand_in(tmp_path, script))
    (result,) = process(tmp_path / "out", video(tmp_path / "a.mp4"))
    assert result.state == "failed"
    assert f"a.mp4: its process {words}" in result.why


def test_a_process_that_cannot_be_started_fails_its_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(pool.sys, "executable", str(tmp_path / "not there"))
    (result,) = process(tmp_path / "out", video(tmp_path / "a.mp4"))
    assert result.why.endswith("a.mp4: no process can be started: No such file or directory")


def test_a_file_that_a_second_ctrl_c_ends_is_interrupted(tmp_path, monkeypatch):
    said = json.dumps({"error": "ended at once"})
    script = f"trap '' TERM; kill -INT {os.getpid()}; sleep 0.5; echo '{said}'; exit 143"
    monkeypatch.setattr(pool.sys, "executable", stand_in(tmp_path, script))
    (result,) = process(tmp_path / "out", video(tmp_path / "a.mp4"))
    assert (result.state, result.why) == ("interrupted", "ended at once")


def test_a_process_that_ctrl_c_meets_before_it_listens_is_interrupted(tmp_path, monkeypatch):
    script = f"kill -INT {os.getpid()}; exec sleep 60"
    monkeypatch.setattr(pool.sys, "executable", stand_in(tmp_path, script))
    (result,) = process(tmp_path / "out", video(tmp_path / "a.mp4"))
    assert result.state == "interrupted", result.why
