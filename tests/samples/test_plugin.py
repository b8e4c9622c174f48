"""The sample package is installed, and its stage is checked, run, killed, logged and exported."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from process_tree import children
from waiting import PATIENCE_S

from streamvis.errors import DataError
from streamvis.events.log import LogReader

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "samples" / "plugin"
PIPELINE = str(PLUGIN / "crowding.yaml")
SCENE = "a=synthetic:walkers?people=6&seconds=2.5&fps=10&size=320x240&seed=5"
SET = ("detect.short_side=240", "detect.engine=torch", "crowding.near_heights=2")
SETTINGS = [word for one in (*SET, "crowding.min_s=0.2") for word in ("--set", one)]
PLACEMENT = """
workers:
  - {stages: [detect], threads: 1}
  - {stages: [crowding], threads: 1}
  - {stages: [track], threads: 1}
  - {stages: [publish], threads: 1}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder for PYTHONPATH in which pip has installed the sample."""
    home = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, home / "source")  # a build leaves files beside it
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    where = ["--no-build-isolation", "--target", str(home / "site"), str(home / "source")]
    subprocess.run([*pip, *where], check=True, capture_output=True, timeout=300)
    return home / "site"


def environment(site):
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "OMP_NUM_THREADS": "1"}


def streamvis(site, *words, status=0):
    command = [sys.executable, "-m", "streamvis", *map(str, words)]
    done = subprocess.run(
        command, env=environment(site), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_the_page_shows_the_entry_point_and_names_every_file():
    page = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    block = page.partition("```toml\n")[2].partition("```")[0]
    shown = "\n".join(line.strip() for line in block.strip().splitlines())
    assert shown in (PLUGIN / "pyproject.toml").read_text()
    for path in [*PLUGIN.glob("*.toml"), *PLUGIN.glob("*.yaml"), *PLUGIN.glob("crowding/*.py")]:
        assert f"(../samples/plugin/{path.relative_to(PLUGIN)})" in page


@contextmanager
def started(site, *words):
    command = [sys.executable, "-m", "streamvis", *map(str, words)]
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment(site), **kept) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE_S)


def run_words(out, bind="none"):
    where = ["--source", SCENE, "--set", f"publish.bind={bind}", "--out", out]
    return ["run", PIPELINE, *SETTINGS, *where]


def events(site, out, *words):
    lines = streamvis(site, "events", "export", out, *words).splitlines()
    return [timeless(json.loads(one)) for one in lines]


def timeless(event):
    """The event without what differs between two runs."""
    event["time"] = event["time"]["media_us"]
    return {key: value for key, value in event.items() if key not in ("id", "epoch")}


@pytest.fixture(scope="module")
def logged(installed, tmp_path_factory):
    """The directory of an undisturbed run."""
    out = tmp_path_factory.mktemp("expected")
    streamvis(installed, *run_words(out), "--engine", "inline")
    return out


def test_check_and_graph_know_the_stage(installed):
    assert "crowding" in streamvis(installed, "check", PIPELINE)
    graph = streamvis(installed, "graph", PIPELINE)
    assert "crowding  <- track: tracks -> crowding.neighbours" in graph
    assert "publish   <- track, crowding: crowding.neighbours, tracks" in graph
    wrong = ["run", PIPELINE, "--source", SCENE, "--set", "crowding.people=1"]
    refused = streamvis(installed, *wrong, status=2)
    assert "Expected `int` >= 2" in refused
    assert "streamvis-crowding 0.1.0" in streamvis(installed, "doctor")


def test_with_a_damaged_package_the_page_shows_the_line(installed, tmp_path):
    shutil.copytree(installed, tmp_path / "site", ignore=lambda _, names: {"crowding"} & {*names})
    shutil.copy(PIPELINE, tmp_path / "my.yaml")
    line = streamvis(tmp_path / "site", "check", tmp_path / "my.yaml", status=2)
    shown = line.replace(f"{tmp_path}/", "").removeprefix("streamvis: ").strip()
    assert shown in (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    streamvis(tmp_path / "site", "check")  # the default pipeline does without


def test_without_the_package_one_line_says_what_is_missing(tmp_path):
    line = streamvis(tmp_path, "check", PIPELINE, status=2)
    assert line.count("\n") == 1
    assert "stage 'crowding' has kind 'crowding', which neither streamvis nor another" in line


def test_its_events_are_logged_and_exported(installed, logged):
    told = events(installed, logged, "--type", "crowding")
    assert [one["type"] for one in told[:2]] == ["crowding.begin", "crowding.end"]
    assert told[0]["time"] - told[0]["crowd"]["since_us"] >= 200_000
    exported = streamvis(
        installed, "events", "export", logged, "--format", "csv", "--type", "crowding"
    )
    table = list(csv.DictReader(exported.splitlines()))
    assert [row["type"] for row in table] == [one["type"] for one in told]
    assert [row["people"] for row in table[:2]] == [str(told[0]["crowd"]["people"]), ""]
    assert table[1]["people_max"] == str(told[1]["crowd"]["people_max"])


def test_all_events_of_the_run_fit_the_schema(installed, logged):
    schema = json.loads(streamvis(installed, "events", "schema"))
    assert {"CrowdingBegin", "CrowdingEnd", "Crowd", "EndedCrowd"} <= set(schema["$defs"])
    since = schema["$defs"]["Crowd"]["properties"]["since_us"]["description"]
    assert since == "media time when there were enough first; unit: µs"
    check = Draft202012Validator(schema)
    lines = streamvis(installed, "events", "export", logged).splitlines()
    for line in lines:
        check.validate(json.loads(line))
    types = {json.loads(line)["type"] for line in lines}
    assert {"track.update", "crowding.begin", "source.eof"} <= types


def test_killing_its_worker_leaves_the_same_log(installed, logged, tmp_path):
    (tmp_path / "alone.yaml").write_text(PLACEMENT)
    words = [*run_words(tmp_path / "out"), "--on", tmp_path / "alone.yaml"]
    with started(installed, *words) as run:
        (pid,) = awaited(lambda: in_work(run, tmp_path / "out"))
        os.kill(pid, signal.SIGKILL)
        text, _ = run.communicate(timeout=300)
        assert run.returncode == 0, text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    restarts = {stage["name"]: stage["restarts"] for stage in summary["stages"]}
    assert restarts == {"detect": 0, "track": 0, "crowding": 1, "publish": 0}
    assert events(installed, tmp_path / "out") == events(installed, logged)


def in_work(run, out):
    """The worker of the stage, once tracks are in the log."""
    assert run.poll() is None, run.stdout.read()
    try:
        with LogReader(out / "events.db") as log:
            begun = any(row.type.startswith("track.") for row in log.events())
    except DataError:  # it is not there yet
        return []
    return [*children(run.pid, "crowding.0#")] if begun else []


def awaited(function, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := function()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_tail_shows_its_events(installed, tmp_path):
    address = f"ipc://{tmp_path}/feed"
    tail = ["events", "tail", "--connect", address, "--family", "crowding"]
    with started(installed, *tail, "--timeout-s", "200") as listening:
        assert "listening" in listening.stdout.readline()
        streamvis(installed, *run_words(tmp_path / "out", address), "--engine", "inline")
        text, _ = listening.communicate(timeout=PATIENCE_S)
    assert "people close together" in text
    assert "crowding.end" in text
