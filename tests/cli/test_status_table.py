"""The tables at the end of a run."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial

import msgspec
import pytest
import rich.console

from streamvis.cli.status_table import Show, moment, put_findings, shown
from streamvis.messages import Busiest, Findings, LongestStay, MeanForecastScore
from streamvis.runtime.metrics import Quantiles, SourceReport, StageReport, Status, Summary

PEOPLE = Findings(
    people=12,
    tracks=14,
    merges=2,
    splits=0,
    longest=LongestStay(track="gate:1:3", seconds=75.25, from_us=0),
    busiest=Busiest(people=5, media_us=3_725_400_000),
)
SCENES = Findings(
    unknown=0,
    forecasts={
        200_000: MeanForecastScore(count=40, miou=0.685),
        600_000: MeanForecastScore(count=38, miou=0.6),
    },
)


def summary_of(**found):
    sources = [
        SourceReport(
            id=name,
            label=name,
            decoded=1,
            frames_promised=None,
            admitted=1,
            dropped={},
            poisoned=0,
            decode_errors=0,
            restarts=0,
            ending="eof",
            error="",
            fps=1.0,
            latency_ms=Quantiles(),
            found=one,
        )
        for name, one in found.items()
    ]
    return Summary(wall_s=1.0, sources=sources, stages=[])


def table(capsys, **found):
    put_findings(summary_of(**found))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line and not set(line) <= set("─━ ")]


def test_people(capsys):
    head, row = table(capsys, gate=PEOPLE)
    assert head.split() == [
        "source",
        "people",
        "tracks",
        "merges",
        "splits",
        "longest",
        "stay",
        "busiest",
        "moment",
    ]
    assert "gate:1:3, 75.2 s" in row
    assert "5 at 1:02:05.4" in row
    assert "0" in row.split()  # splits: there is a tracker, and it has split nobody


def test_scenes_have_no_columns_of_people(capsys):
    head, row = table(capsys, drive=SCENES)
    assert head.split() == ["source", "unknown", "objects", "mIoU", "of", "forecasts"]
    assert row.endswith("0.2 s: 0.685 of 40; 0.6 s: 0.600 of 38")


def test_a_source_that_failed_has_dashes_and_a_run_without_publisher_no_table(capsys):
    _, _, row = table(capsys, gate=PEOPLE, gone=Findings())
    assert set(row.split()[1:]) == {"-"}
    assert table(capsys, gate=None) == []


def test_actions(capsys):
    head, row = table(capsys, gate=Findings(actions={"fight": 3, "run": 1}))
    assert (head.split(), row.split(maxsplit=1)[1]) == (["source", "actions"], "fight 3, run 1")
    assert table(capsys, gate=Findings(actions={}))[1].endswith("none")


@pytest.mark.parametrize(
    ("media_us", "capture_us", "told"),
    [
        (0, 0, "0:00:00.0"),
        (61_250_000, 0, "0:01:01.2"),
        (59_990_000, 0, "0:01:00.0"),
        (36_000_000_000, 0, "10:00:00.0"),
        (5, 1_795_939_200_000_000, "2026-11-29 08:00:00+00:00"),
    ],
)
def test_a_moment_is_told_by_the_wall_clock_where_it_is_known(
    monkeypatch, media_us, capture_us, told
):
    monkeypatch.setenv("TZ", "UTC")
    assert moment(media_us, capture_us) == told


def stage_of(name, **fields):
    given = {"count": 40, "skipped": 0, "restarts": 1, "queue": 2, "fps": 12.5}
    return StageReport(name=name, service_ms=Quantiles(p50=3.25, p95=7.5), **{**given, **fields})


def test_the_live_table_has_a_row_for_each_source_and_each_stage(monkeypatch):
    """Drawn anew on stderr with each status, and wiped at the end."""
    screen = io.StringIO()
    terminal = partial(rich.console.Console, file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(rich.console, "Console", lambda stderr: terminal())
    gate = msgspec.structs.replace(
        summary_of(gate=PEOPLE).sources[0],
        decoded=50, admitted=45, dropped={"stale": 3, "full": 2}, decode_errors=1, ending="",
    )  # fmt: skip
    with shown(Show.table) as show:
        show(Status(wall_s=7.4, sources=[gate], stages=[stage_of("detect"), stage_of("track")]))
        drawn = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", screen.getvalue())
    rows = [line.split() for line in drawn.splitlines()]
    assert ["7", "s"] in rows
    assert ["gate", "50", "45", "5", "1", "1.0", "0", "0"] in rows
    for name in ("detect", "track"):
        assert [name, "40", "2", "1", "12.5", "3.2", "7.5"] in rows
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
    assert b"decoded" in drawn
    assert b"camera" in drawn
