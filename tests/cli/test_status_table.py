"""The status table of a run while it goes on."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial

import rich.console

from streamvis.cli.status_table import Show, shown
from streamvis.runtime.metrics import Quantiles, SourceReport, StageReport, Status

GATE = SourceReport(
    id="gate",
    label="gate",
    decoded=50,
    frames_promised=None,
    admitted=45,
    dropped={"stale": 3, "full": 2},
    poisoned=0,
    decode_errors=1,
    restarts=0,
    ending="",
    error="",
    fps=1.0,
    latency_ms=Quantiles(),
    state="offline",
    state_s=21.4,
    reason="refused",
    attempts=3,
)


def stage_of(name, **fields):
    given = {"count": 40, "skipped": 0, "restarts": 1, "queue": 2, "fps": 12.5}
    return StageReport(name=name, service_ms=Quantiles(p50=3.25, p99=7.5), **{**given, **fields})


def test_the_live_table_has_a_row_for_each_source_and_each_stage(monkeypatch):
    """Drawn anew on stderr with each status, and wiped at the end."""
    screen = io.StringIO()
    terminal = partial(rich.console.Console, file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(rich.console, "Console", lambda stderr: terminal())
    with shown(Show.table) as show:
        show(Status(wall_s=7.4, sources=[GATE], stages=[stage_of("detect"), stage_of("track")]))
        drawn = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", screen.getvalue())
    rows = [line.split() for line in drawn.splitlines()]
    assert ["7", "s"] in rows
    assert ["gate", "offline", "21", "s", "1.000", "-", "-", "-"] in rows
    assert ["gate", "45", "5", "0", "1", "0"] in rows
    assert ["gate", "offline", "for", "21", "s:", "refused", "(attempt", "3)"] in rows
    for name in ("detect", "track"):
        assert [name, "40", "2", "1", "12.5", "3.2", "/", "7.5"] in rows
    assert screen.getvalue().count("\x1b[2K") >= len(rows)  # lines erased


def test_nothing_is_shown_where_stderr_is_no_terminal():
    for how in (Show.none, Show.auto):
        with shown(how) as show:
            assert show is None


def test_a_run_shows_its_table(tmp_path):
    """On a terminal, until Ctrl-C is pressed at the first sight of a stage."""
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    source = "synthetic:walkers?people=1&seconds=60&fps=25&size=320x240"
    command = [sys.executable, "-m", "streamvis", "run", str(pipeline), "--source", source]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL) as process:
        os.close(theirs)
        drawn, stopped = b"", False
        with suppress(OSError):  # the terminal's other end is closed
            while chunk := os.read(ours, 4096):
                drawn += chunk
                if b"camera" in drawn and not stopped:
                    process.send_signal(signal.SIGINT)
                    stopped = True
    os.close(ours)
    assert process.returncode == 130, drawn
    assert b"dropped" in drawn
    assert b"camera" in drawn
