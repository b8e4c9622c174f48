"""`bridge jsonl` writes whole lines, each once, whatever is renamed, cut or killed."""

import errno
import json
import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack

import pytest
from bridged import bridge, growing, wait_until
from typer.testing import CliRunner

from streamvis.bridges.jsonl import LinesFile, _end_of_lines
from streamvis.bridges.loop import UnreachableError
from streamvis.bridges.selection import TypeFilter
from streamvis.bridges.stop import Stop
from streamvis.cli.main import app


def lines(path):
    return path.read_bytes().splitlines() if path.exists() else []


def payloads(rows):
    return [row.payload for row in rows]


def test_a_log_that_has_ended_becomes_lines(tmp_path):
    with growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        log.walk("b", 2)
        log.finish("a", "b")
    to = tmp_path / "out.jsonl"
    words = ["bridge", "jsonl", "--log", str(tmp_path), "--to", str(to), "--until-ended"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert lines(to) == payloads(log.rows)
    result = CliRunner().invoke(app, words)
    assert "goes on where it ended" in result.output
    assert "0 messages delivered" in result.output
    assert lines(to) == payloads(log.rows)
    words += ["--name", "other", "--type", "track.end", "--type", "source"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [json.loads(one)["type"] for one in lines(to)[len(log.rows) :]] == [
        *("track.end", "track.end", "source.eof", "source.eof")
    ]


def test_stdout_has_the_lines_and_nothing_else(tmp_path):
    with growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        log.finish("a")
    with bridge("jsonl", "--log", tmp_path, "--until-ended", stdout=subprocess.PIPE) as running:
        out = running.process.stdout.read()
        running.process.stdout.close()
        assert running.wait() == 0
    assert out.splitlines() == payloads(log.rows)


def test_a_growing_log_is_followed_over_kills_and_the_file_has_every_event(tmp_path):
    """Killed at random moments: events may come twice, none is missing, no line is torn."""
    chance, to = random.Random(3), tmp_path / "out.jsonl"
    running = None
    with ExitStack() as started, growing(tmp_path / "events.db") as log:
        for number in range(300):
            log.walk(chance.choice("ab"), number)
            if number % 60 == 0:
                if running is not None:
                    time.sleep(chance.random() * 0.3)
                    running.kill()
                running = started.enter_context(bridge("jsonl", "--log", tmp_path, "--to", to))
                wait_until(lambda: lines(to), lambda one=running: one.said)
        wait_until(lambda: len(set(lines(to))) == len(log.rows), lambda: running.said)
        assert running.stop(signal.SIGTERM) == 0
    assert list(dict.fromkeys(lines(to))) == payloads(log.rows)


def test_ctrl_c_ends_it_in_good_order(tmp_path):
    with growing(tmp_path / "events.db") as log, bridge("jsonl", "--log", tmp_path) as running:
        log.walk("a", 1)
        wait_until((tmp_path / "bridge-jsonl.json").exists)
        assert running.stop(signal.SIGINT) == 130
        assert "4 messages delivered" in running.said


def test_a_log_that_never_comes_is_no_reason_not_to_stop(tmp_path):
    with bridge("jsonl", "--log", tmp_path / "absent") as running:
        running.wait_for("waits for the log")
        assert running.stop() == 0


def test_what_is_said_of_a_log_that_is_there_and_no_log_yet(tmp_path):
    (tmp_path / "events.db").write_bytes(b"not yet " * 100)
    with bridge("jsonl", "--log", tmp_path) as running:
        running.wait_for("waits until the log can be read")
        assert "waits for the log" not in running.said
        assert running.stop() == 0


def test_the_file_may_be_renamed_at_any_time(tmp_path):
    sink = LinesFile(tmp_path / "out.jsonl", Stop())
    sink.deliver([b"1", b"2"])
    (tmp_path / "out.jsonl").rename(tmp_path / "out.jsonl.1")
    sink.deliver([b"3"])
    assert lines(tmp_path / "out.jsonl.1") == [b"1", b"2"]
    assert lines(tmp_path / "out.jsonl") == [b"3"]


@pytest.mark.parametrize("torn", [b"", b"x" * 10, b"x" * 200_000])
@pytest.mark.parametrize("whole", [b"", b"1\n2\n", b"y" * 200_000 + b"\n"])
def test_a_torn_line_is_cut_off(tmp_path, whole, torn):
    path = tmp_path / "out.jsonl"
    path.write_bytes(whole + torn)
    LinesFile(path, Stop()).deliver([b"3"])
    assert path.read_bytes() == whole + b"3\n"


def test_a_full_disk_leaves_no_torn_line_and_is_tried_again(tmp_path, monkeypatch):
    path, write = tmp_path / "out.jsonl", os.write
    sink = LinesFile(path, Stop())
    sink.deliver([b"1"])

    def full(fd, data):
        if len(data) > 2:
            return write(fd, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UnreachableError, match="No space left on device"):
        sink.deliver([b"222", b"333"])
    assert path.read_bytes() == b"1\n"
    monkeypatch.undo()
    sink.deliver([b"222", b"333"])
    assert lines(path) == [b"1", b"222", b"333"]


def test_the_end_of_an_empty_file_is_its_start(tmp_path):
    with (tmp_path / "empty").open("w+b") as file:
        assert _end_of_lines(file.fileno()) == 0


KNOWN = {"track.begin", "track.update", "source.eof", "zone.enter"}


@pytest.mark.parametrize(
    ("types", "all_", "wanted"),
    [
        ([], False, {"track.begin", "source.eof", "zone.enter", "sys.disk_low"}),
        ([], True, KNOWN | {"sys.disk_low"}),
        (["track"], True, {"track.begin", "track.update"}),
        (["track.update", "zone"], False, {"track.update", "zone.enter"}),
    ],
)
def test_selection(types, all_, wanted):
    chosen = TypeFilter(types, KNOWN, all_=all_)
    assert {one for one in KNOWN | {"sys.disk_low"} if one in chosen} == wanted


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--type", "tracks"], "no such type or family"),
        (["--name", "A B"], "--name"),
        (["--state", "/nowhere"], "no such directory"),
        (["--metrics", "9100"], "is not an address"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, words, says):
    with growing(tmp_path / "events.db"):
        pass
    result = CliRunner().invoke(app, ["bridge", "jsonl", "--log", str(tmp_path), *words])
    assert result.exit_code == 2
    assert says in result.output


def test_lines_are_not_written_into_their_log(tmp_path):
    before = b"a log"
    (tmp_path / "events.db").write_bytes(before)
    words = ["bridge", "jsonl", "--log", str(tmp_path), "--to", str(tmp_path / "events.db")]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "the lines would be written into the log" in result.stderr
    assert (tmp_path / "events.db").read_bytes() == before


def test_a_file_that_is_no_log_is_refused_and_not_waited_for(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    result = CliRunner().invoke(app, ["bridge", "jsonl", "--log", str(notes), "--until-ended"])
    assert result.exit_code == 2
    assert f"{notes} cannot be read as an event log" in result.stderr
