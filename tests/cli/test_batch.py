"""Batches: each file a process of its own, so what harms one leaves the others alone."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from streamvis.cli import batch
from streamvis.cli.batch import Job, is_done
from streamvis.cli.main import app
from streamvis.config import Jipda, MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.sources import resolve

# the network looks at the first picture only, and at that as small as it may be
QUICK = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn(short_side=64, masks=False), every_s=1000.0),
        StageSpec("track", Jipda(), after=["detect"]),
    ]
)
TOGETHER = Placement(workers=[WorkerSpec(["detect", "track"])])


def video(path: Path, frames: int = 4) -> Path:
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in range(frames):
            pixels = np.full((48, 64, 3), value % 25 * 9, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    return path


def notes(path: Path) -> Path:
    path.write_text("these are my notes\n" * 100)
    return path


def jobs(out: Path, *sources: object, pipeline: Pipeline = QUICK) -> list[Job]:
    specs = resolve([str(source) for source in sources])
    return [Job(spec, pipeline, TOGETHER, str(out / spec.id)) for spec in specs]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def summary(job: Job, **changes: object) -> None:
    """What a run that came to its end leaves, but for the changes."""
    source = {"label": job.spec.label, "ending": "eof"}
    whole = {"sources": [source], "pipeline": job.pipeline.hash, "error": ""}
    source.update({key: str(changes.pop(key)) for key in ("label", "ending") if key in changes})
    Path(job.out).mkdir(parents=True)
    (Path(job.out) / "summary.json").write_text(json.dumps(whole | changes))


def test_good_and_bad_files_side_by_side_and_what_is_done_is_not_done_again(tmp_path):
    """Files of the same name in two folders get a place each, and a bad one harms nobody."""
    good, bad = video(tmp_path / "clips/a.mp4"), tmp_path / "more/a.mp4"
    bad.parent.mkdir()
    bad.write_text("these are my notes\n" * 100)
    work = jobs(tmp_path / "out", good, bad)
    results = batch.process(work, 2, resume=False)
    assert [(r.id, r.state, r.frames) for r in results] == [("a", "done", 4), ("a-2", "failed", 0)]
    assert "more/a.mp4' is not a video" in results[1].error
    assert batch.exit_code(results) == 5

    again = batch.process(work, 2, resume=True)
    assert [r.state for r in again] == ["skipped", "failed"]
    told = json.loads((tmp_path / "out/a-2/summary.json").read_text())
    assert told["error"] == again[1].error


def test_ctrl_c_ends_the_file_at_hand_in_good_order_and_begins_no_other(tmp_path):
    long = video(tmp_path / "long.mp4", 20_000)
    work = jobs(tmp_path / "out", long, video(tmp_path / "next.mp4"))

    def interrupt() -> None:
        while not workers_of_jobs():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    impatient = threading.Thread(target=interrupt)
    impatient.start()
    results = batch.process(work, 1, resume=False)
    impatient.join()
    assert [r.state for r in results] == ["interrupted", "interrupted"]
    assert batch.exit_code(results) == 130
    told = json.loads((tmp_path / "out/long/summary.json").read_text())
    assert (told["interrupted"], told["sources"][0]["ending"]) == ("SIGTERM", "drained")
    assert not is_done(work[0])
    assert not (tmp_path / "out/next").exists()
    assert signal.getsignal(signal.SIGINT) is before


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
        ("kill -9 $$", "was killed by SIGKILL"),
    ],
)
def test_a_process_without_a_result_fails_its_file_alone(script, words, tmp_path, monkeypatch):
    monkeypatch.setattr(batch.sys, "executable", stand_in(tmp_path, script))
    (result,) = batch.process(jobs(tmp_path, video(tmp_path / "a.mp4")), 1, resume=False)
    assert result.state == "failed"
    assert f"a.mp4: its process {words}" in result.error


def test_a_process_that_ctrl_c_meets_before_it_listens_is_interrupted(tmp_path, monkeypatch):
    script = f"kill -INT {os.getpid()}; exec sleep 60"
    monkeypatch.setattr(batch.sys, "executable", stand_in(tmp_path, script))
    (result,) = batch.process(jobs(tmp_path, video(tmp_path / "a.mp4")), 1, resume=False)
    assert result.state == "interrupted", result.error


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        (["done", "skipped"], 0),
        (["done", "failed"], 5),
        (["failed", "interrupted", "done"], 130),
    ],
)
def test_the_exit_code_tells_the_worst(states, code):
    assert batch.exit_code([batch.Result("a", "a.mp4", state, "out") for state in states]) == code


def test_done_means_this_file_with_this_pipeline_to_its_end(tmp_path):
    (job,) = jobs(tmp_path, video(tmp_path / "a.mp4"))
    assert not is_done(job)
    summary(job)
    assert is_done(job)


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "other.mp4"},
        {"ending": "drained"},
        {"ending": "failed"},
        {"pipeline": "0123456789ab"},
        {"error": "the disk was full"},
        {"sources": []},
        {"sources": "none"},
    ],
)
def test_anything_else_is_done_again(changes, tmp_path):
    (job,) = jobs(tmp_path, video(tmp_path / "a.mp4"))
    summary(job, **changes)
    assert not is_done(job)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"sources": [{}]}', "\udcff"])
def test_a_summary_that_is_none_is_done_again(text, tmp_path):
    (job,) = jobs(tmp_path, video(tmp_path / "a.mp4"))
    Path(job.out).mkdir()
    (Path(job.out) / "summary.json").write_bytes(os.fsencode(text))
    assert not is_done(job)


def test_a_place_that_cannot_be_written_to_is_told_once_for_all_files(tmp_path):
    clips = [video(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    notes(tmp_path / "out")
    result = call("batch", *clips, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "out cannot be written to: File exists" in result.stderr


def test_nothing_to_do_is_code_3(tmp_path):
    result = call("batch", tmp_path / "*.mp4", "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "matches nothing" in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_went_wrong_stands_in_the_table(capsys):
    batch.put_results(
        [
            batch.Result("a", "a.mp4", "done", "out/a", 4, 0.5),
            batch.Result("b", "b.mp4", "failed", "out/b", error="source 'b.mp4' is empty"),
        ]
    )
    shown = capsys.readouterr().out
    assert "out/a" in shown
    assert "source 'b.mp4' is empty" in shown
