"""What `streamvis run` says and does where --out holds a run already."""

import contextlib
import json
import socket

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner
from waiting import PATIENCE_S

from streamvis.cli import run
from streamvis.cli.main import app
from streamvis.events.log import Cursor, LogWriter
from streamvis.runtime.output import locked
from streamvis.sources.shard import shard_of

SCENE = "synthetic:walkers?people=1&seconds=1&fps=5&size=64x48"


def call(*arguments):
    return CliRunner().invoke(app, ["run", "--source", SCENE, *map(str, arguments)])


def refused(result, code, *words):
    assert result.exit_code == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("streamvis: ")
    assert all(word in line for word in words), line


def used(folder):
    log = LogWriter(folder / "events.db")
    log.commit([], [Cursor("a", "", 0, 0, "eof", b"")])
    log.close()
    (folder / "notes.txt").write_text("mine")


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_without_a_directory_there_is_no_run_to_go_on_with_or_to_replace(option):
    refused(call(option), 2, option, "needs --out")


def test_a_run_is_resumed_or_replaced_not_both(tmp_path):
    refused(call("--out", tmp_path, "--resume", "--overwrite"), 2, "choose one")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_a_run_is_refused(tmp_path):
    used(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused(call("--out", tmp_path), 2, str(tmp_path), "events.db", "--resume", "--overwrite")
    refused(call("--out", tmp_path, "--resume"), 2, "without run.json", "--overwrite")
    with locked(tmp_path):
        held = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        for options in ([], ["--resume"], ["--overwrite"]):
            refused(call("--out", tmp_path, *options), 1, "another run writes here", "process")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == held
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_in_one_process_is_replaced_and_then_finished(tmp_path):
    used(tmp_path)
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    options = [pipeline, "--out", tmp_path, "--engine", "inline"]
    done = call(*options, "--overwrite")
    assert done.exit_code == 0, done.stderr
    assert (
        f"{tmp_path} holds notes.txt, pipeline.yaml, run.json, sources.json, summary.json"
        in done.stderr
    )
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "summary.json").stat().st_mode & 0o027 == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = call(*options, "--resume")
    assert again.exit_code == 0
    assert "the run in it is finished" in again.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_inline_engine_refuses_a_placement(tmp_path):
    result = call("--engine", "inline", "--on", "one-gpu", "--out", tmp_path / "out")
    refused(result, 2, "--on one-gpu", "--engine inline")
    assert not (tmp_path / "out").exists()


def test_the_inline_engine_shows_its_status(tmp_path, monkeypatch):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    statuses = []
    shown = contextlib.contextmanager(lambda how: iter([statuses.append]))
    monkeypatch.setattr(run, "shown", shown)
    assert call(pipeline, "--engine", "inline").exit_code == 0
    assert [stage.name for stage in statuses[0].stages] == ["camera"]


def test_log_entries_are_json_where_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMVIS_LOG_FORMAT", "console")
    (tmp_path / "1.png").write_bytes(b"no picture")
    (tmp_path / "2.png").write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1])
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    line = ["run", str(pipeline), "--source", str(tmp_path), "--engine", "inline"]
    written = CliRunner().invoke(app, [*line, "--log-format", "json"])
    assert written.exit_code == 0, written.stderr
    (entry,) = map(json.loads, written.stderr.splitlines())
    assert (entry["level"], entry["path"]) == ("warning", str(tmp_path / "1.png"))


def test_a_log_format_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setenv("STREAMVIS_LOG_FORMAT", "xml")
    result = call()
    assert result.exit_code == 2
    assert "'xml' is not one of 'console', 'json'" in " ".join(result.stderr.split())


def test_metrics_are_served_while_it_runs(tmp_path):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    result = call(pipeline, "--engine", "inline", "--metrics", "127.0.0.1:0")
    assert result.exit_code == 0, result.stderr
    assert "address=http://127.0.0.1:" in result.stderr


def test_an_address_of_metrics_that_cannot_be_used_is_refused_before_the_run(tmp_path):
    refused(call("--metrics", "9100", "--out", tmp_path / "out"), 2, "--metrics 9100", "expected")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        result = call("--metrics", address, "--out", tmp_path / "out")
    refused(result, 1, f"--metrics {address}", "in use")
    assert not (tmp_path / "out").exists()


def test_a_service_reports_that_it_is_ready_alive_and_stopping(tmp_path, monkeypatch):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    scene = "synthetic:walkers?people=1&seconds=3&fps=5&size=64x48&live=true"  # lasts three seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        line = ["run", str(pipeline), "--source", scene, "--engine", "inline"]
        assert CliRunner().invoke(app, line).exit_code == 0
        told = []
        while "STOPPING=1" not in told:
            told += manager.recv(4096).decode().splitlines()
    assert told.count("READY=1") == 1
    assert told.count("WATCHDOG=1") >= 2
    assert "STATUS=0 of 1 sources online" in told[1] or "STATUS=1 of 1" in told[1]


def test_what_is_for_services_is_refused_by_the_inline_engine(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("sources: [{id: gate, uri: 'synthetic:walkers?live=true'}]\n")
    refused(call("--engine", "inline", "--sources", site), 2, "--sources", "--engine inline")


def test_a_sources_file_with_errors_or_an_id_twice_is_named(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("sources: [{id: gate}]\n")
    refused(call("--sources", site), 2, "site.yaml", "uri")
    site.write_text(f"sources: [{{id: synthetic-walkers, uri: '{SCENE}'}}]\n")
    refused(call("--sources", site), 2, "two sources are called 'synthetic-walkers'")


@pytest.mark.parametrize("engine", ["local", "inline"])
def test_cameras_that_are_all_given_up_end_the_run_with_code_3(engine, tmp_path):
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    dead = "gate=rtsp://joe:s3cret@127.0.0.1:9/x"
    options = ["--source", dead, "--give-up-after", "1", "--engine", engine]
    result = CliRunner().invoke(app, ["run", str(pipeline), *options])
    refused_lines = [line for line in result.stderr.splitlines() if line.startswith("streamvis: ")]
    assert result.exit_code == 3, result.output
    assert len(refused_lines) == 1
    assert "refused the connection" in refused_lines[0]
    assert "given up after" in refused_lines[0]
    assert "s3cret" not in result.output


def test_shards_split_the_sources_among_them(tmp_path):
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    by_shard = {n: [s for s in ("a", "b", "c") if shard_of(s, 4) == n] for n in range(1, 5)}
    empty = next(n for n, names in by_shard.items() if not names)
    some = next(n for n, names in by_shard.items() if names)
    sources = [part for name in "abc" for part in ("--source", f"{name}={SCENE}")]
    for number in (empty, some):
        out = tmp_path / str(number)
        arguments = ["run", pipeline, *sources, "--shard", f"{number}/4", "--out", out, "--json"]
        result = CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exit_code == 0, result.stderr
        summary = json.loads(result.stdout)
        assert [source["id"] for source in summary["sources"]] == by_shard[number]
        assert summary["shard"] == f"{number}/4"
        if number == empty:
            assert "shard " + f"{number}/4 has none of the 3 sources" in result.stderr
        else:
            assert json.loads((out / "summary.json").read_text())["shard"] == f"{number}/4"


def test_a_run_is_not_resumed_with_another_shard(tmp_path):
    pipeline, site, out = (tmp_path / name for name in ("p.yaml", "site.yaml", "out"))
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    site.write_text(f"sources: [{{id: a, uri: '{SCENE}'}}]\n")
    own, other = shard_of("a", 2), 3 - shard_of("a", 2)

    def started(shard, *sources):
        arguments = ["run", pipeline, *sources, "--shard", shard, "--out", out, "--resume"]
        return CliRunner().invoke(app, [*map(str, arguments)])

    assert started(f"{own}/2", "--source", f"a={SCENE}").exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    empty = started(f"{other}/2", "--source", f"a={SCENE}")
    refused(empty, 2, f"{out} cannot be resumed", f"shard {other}/2 has none of the 1 sources")
    service = started(f"{other}/2", "--sources", site)
    refused(service, 2, f"it has shard {own}/2 of the sources, not {other}/2", "and shard that")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_shard_is_refused_where_it_is_none_or_cannot_be():
    refused(call("--shard", "3/2"), 2, "--shard 3/2", "expected K/N")
    refused(call("--shard", "1/2", "--engine", "inline"), 2, "--shard", "inline")
