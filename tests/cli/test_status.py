"""`streamvis status`: the state of a run from outside."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

import msgspec
import pytest
from controlled_runs import camera, private_home, report, under_way
from typer.testing import CliRunner
from waiting import PATIENCE_S

from streamvis.cli.main import app
from streamvis.runtime.metrics import Status


@pytest.fixture(autouse=True)
def home():
    with private_home() as home:
        yield home


def call(*arguments):
    return CliRunner().invoke(app, ["status", *map(str, arguments)])


def test_the_json_is_the_status_of_the_run(tmp_path):
    with under_way(camera("gate"), out=tmp_path):
        result = call("--json")
        assert result.exit_code == 0, result.output
        status = msgspec.json.decode(result.stdout, type=Status)
    assert [(s.id, s.label, s.state) for s in status.sources] == [
        ("gate", "rtsp://10.0.0.2/gate", "online")
    ]
    assert [stage.name for stage in status.stages] == ["detect"]


def test_the_tables_name_what_is_wrong(tmp_path):
    with under_way(camera("gate"), camera("yard"), out=tmp_path) as run:
        run.reports["yard"] = report(
            "yard", state="offline", state_s=190, reason="refused the connection", attempts=7
        )
        result = call()
    assert result.exit_code == 0, result.output
    assert "yard offline for 3 min: refused the connection (attempt 7" in result.stdout
    assert f"disk of {tmp_path}:" in result.stdout
    assert "s3cret" not in result.output


def test_without_a_run_it_says_so_with_code_1():
    result = call()
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no run of this user is under way" in result.stderr


WATCH = (
    "import sys; from pathlib import Path; from streamvis.runtime import control_files; "
    "home = Path(sys.argv.pop(1)); control_files.directories = lambda: [home]; "
    "from streamvis.cli.main import main; main()"
)


def watching(home, *options, **settings):
    command = [sys.executable, "-c", WATCH, str(home), "status", "--watch", *options]
    return subprocess.Popen(command, **settings)


def test_a_watcher_sees_changes_until_ctrl_c(home):
    ours, theirs = pty.openpty()
    with (
        under_way(camera("gate")) as run,
        watching(home, stdout=theirs, stderr=subprocess.DEVNULL) as process,
    ):
        os.close(theirs)
        try:
            drawn = until(b"online", ours)
            run.reports["gate"] = report("gate", state="stalled")
            drawn += until(b"gate stalled", ours)
            process.send_signal(signal.SIGINT)
            drawn += until(None, ours)
        except BaseException:
            process.kill()
            raise
    os.close(ours)
    assert process.returncode == 0, drawn


def until(words, terminal):
    """What is drawn until these words are, or until the end; at most 30 s."""
    drawn = b""
    deadline = time.monotonic() + PATIENCE_S
    with suppress(OSError):  # the terminal's other end is closed
        while words is None or words not in drawn:
            assert select.select([terminal], [], [], deadline - time.monotonic())[0], drawn
            drawn += os.read(terminal, 4096)
    return drawn


def test_a_watcher_ends_with_the_run(home):
    with under_way(camera("gate")) as run:
        process = watching(home, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        lines = [process.stdout.readline() for _ in range(2)]
        run.close()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert [json.loads(line)["sources"][0]["id"] for line in lines] == ["gate", "gate"]
    assert (process.returncode, said) == (0, b"the run has ended\n")


def test_without_a_terminal_each_second_has_its_tables(home):
    with under_way(camera("gate")) as run:
        process = watching(home, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        shown = b""
        while shown.count(b"gate  ") < 4:  # in two tables, twice
            shown += os.read(process.stdout.fileno(), 4096)
        run.close()
        process.communicate(timeout=PATIENCE_S)
    assert b"\x1b" not in shown


def test_a_watcher_that_is_killed_does_not_disturb_the_run(home):
    with under_way(camera("gate")):
        process = watching(home, "--json", stdout=subprocess.PIPE)
        assert process.stdout.readline()
        process.kill()
        process.communicate()
        assert call("--json").exit_code == 0
