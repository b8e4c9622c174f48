"""`streamvis batch`: what it prints, its exit codes, and its usage errors."""

import json
from pathlib import Path

import pytest
from factories import notes, video
from typer.testing import CliRunner

from streamvis.batch import pool
from streamvis.batch.results import Result, line_of, printable
from streamvis.cli.batch import exit_code
from streamvis.cli.batch_output import text_of
from streamvis.cli.main import app
from streamvis.cli.output import put_text

SUMMARY = {
    "sources": [{"admitted": 4, "decoded": 4, "frames_promised": None}],
    "wall_s": 1.0,
    "interrupted": "",
}


def stand_in(tmp_path: Path, script: str) -> str:
    """A program that takes the place of the job's process."""
    path = tmp_path / "stand_in"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def result(file: str, state: str = "done", **fields) -> Result:
    fields = {"directory": f"{file}-0123456789ab", "digest": file, "path": f"/in/{file}"} | fields
    return Result(file=file, state=state, **fields)


def call(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([], 0),
        (["done", "skipped", "incomplete"], 0),
        (["done", "failed"], 5),
        (["done", "refused"], 5),
        (["failed", "failed"], 5),
        (["failed", "interrupted", "done"], 130),
    ],
)
def test_the_exit_code_tells_the_worst(states, code):
    assert exit_code([result(str(n), state) for n, state in enumerate(states)]) == code


def test_the_table_says_what_was_done_and_why_not(capsys):
    results = [
        result("a", frames=4, seconds=0.5),
        result("[b]\nc", "failed", why="source 'b' is empty", directory=""),
        result("d", "incomplete", frames=3, frames_promised=6, why="3 of 6 decode"),
        result("e", "skipped", why="done before"),
    ]
    put_text(text_of(results, Path("out")))
    shown = capsys.readouterr().out
    for words in ("a-0123456789ab", "[b]\\nc", "source 'b' is empty", "3 of 6", "done before"):
        assert words in shown
    assert shown.rstrip().endswith("4 files: 1 done, 1 incomplete, 1 skipped, 1 failed")


def test_names_stay_on_one_line():
    assert printable("a\nb\x1b[31m \u202eпл") == "a\\nb\\x1b[31m \\u202eпл"


def test_the_command_lists_what_it_did(tmp_path, monkeypatch):
    """Without a terminal: a line on stderr for each file that ends, the table on stdout."""
    script = f"""echo '{json.dumps({"summary": SUMMARY})}'"""
    monkeypatch.setattr(pool.sys, "executable", stand_in(tmp_path, script))
    video(tmp_path / "in/[b]площадь 1.mp4")
    video(tmp_path / "in/below/2.mp4", 5)
    notes(tmp_path / "in/.hidden.mp4")
    arguments = ("batch", tmp_path / "in", "--recursive", "--out", tmp_path / "out")
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"[1/2] {tmp_path}/in/")
    assert "[b]площадь 1.mp4" in result.stdout
    assert result.stdout.rstrip().endswith("2 files: 2 done")

    told = json.loads(call(*arguments, "--json", "--overwrite").stdout)
    assert told["totals"] == {"done": 2}
    assert sorted(Path(f["path"]).name for f in told["files"]) == ["2.mp4", "[b]площадь 1.mp4"]
    assert {f["directory"].rpartition("-")[0] for f in told["files"]} == {"2", "b-площадь-1"}


def test_to_resume_and_to_overwrite_is_not_possible_at_once(tmp_path):
    result = call("batch", tmp_path, "--out", tmp_path / "out", "--resume", "--overwrite")
    assert result.exit_code == 2
    assert "choose one" in result.stderr


def test_a_place_that_cannot_be_written_to_is_told_once_for_all_files(tmp_path):
    clips = [video(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    notes(tmp_path / "out")
    result = call("batch", *clips, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "out cannot be written to: it is a file; expected a directory" in result.stderr


def test_arguments_and_names_that_are_no_sources_fail_alone(tmp_path, monkeypatch):
    """As a shell expands `recordings/*`: an empty directory, a name in Latin-1, and a video."""
    script = f"""echo '{json.dumps({"summary": SUMMARY})}'"""
    monkeypatch.setattr(pool.sys, "executable", stand_in(tmp_path, script))
    good, latin = video(tmp_path / "good.mp4"), tmp_path / "\udce9t\udce9.mp4"
    latin.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    arguments = (tmp_path / "empty", latin, good, tmp_path / "absent.mp4")
    result = call("batch", *arguments, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 5, result.output
    states = {
        Path(f["file"]).name: (f["state"], f["why"]) for f in json.loads(result.stdout)["files"]
    }
    assert states.pop("good.mp4") == ("done", "")
    assert {state for state, _ in states.values()} == {"failed"}
    assert "is a directory without videos" in states["empty"][1]
    assert "bytes that are not UTF-8; rename the file" in states[r"\xe9t\xe9.mp4"][1]
    assert "no such file" in states["absent.mp4"][1]

    shown = call("probe", tmp_path)  # a directory with such a name
    assert shown.exit_code == 3
    assert "bytes that are not UTF-8" in shown.stderr
    assert "good.mp4" in shown.stdout


def test_one_frame_is_not_frames():
    line = line_of(result("a", frames=1, seconds=2.0))
    assert line == "a: done, 1 frame in 2.0 s, in a-0123456789ab"


def test_nothing_to_do_is_code_3(tmp_path):
    result = call("batch", tmp_path / "*.mp4", "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "matches nothing" in result.stderr
    assert not (tmp_path / "out").exists()
