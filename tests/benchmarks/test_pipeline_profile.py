"""`bench pipeline --profile`: what is counted is what was used, and where it was used."""

import json
import os
import resource
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from factories import detections, packet
from onnx_files import onnx_file, yolox_rows
from typer.testing import CliRunner

from streamvis.benchmarks import flame_graph, pipeline_profile, process_samples
from streamvis.benchmarks.pipeline import detection_of
from streamvis.benchmarks.pipeline_probe import (
    CALL,
    STATE,
    ProbedStage,
    StageCalls,
    part_bytes,
    read_calls,
)
from streamvis.benchmarks.process_samples import Sample, Used, used_by, window
from streamvis.benchmarks.profile_tables import tables
from streamvis.cli.main import app
from streamvis.config import Placement, WorkerSpec, load_pipeline
from streamvis.errors import UsageError

PIPELINE = """
stages:
  - {{name: detect, run: {{kind: yolox, weights: {weights}, precision: fp32}}}}
  - {{name: track, after: [detect], run: {{kind: jipda}}}}
  - {{name: publish, after: [track], run: {{kind: publish}}}}
"""
SCENE = "synthetic:walkers?people=1&seconds=30&fps=10&size=128x96"


def burn(seconds):
    """Use CPU time in two threads, half of it in each."""

    def half():
        end = time.thread_time() + seconds / 2
        while time.thread_time() < end:
            sum(range(200))

    other = threading.Thread(target=half)
    other.start()
    half()
    other.join()


class Burning:
    """A stateful stage that uses 60 ms for each packet, and 20 ms for its state."""

    lent = "features"

    def __init__(self):
        self.closed = False
        self.begun = []

    def begin(self, source, state):
        self.begun.append(source)

    def state(self, source):
        burn(0.02)
        return b"12345"

    def __call__(self, packets):
        for _ in packets:
            burn(0.06)
            yield detections([(1, 2, 3, 4)] * 3)

    def close(self):
        self.closed = True


def test_a_stage_notes_the_cpu_time_of_all_its_threads(tmp_path):
    inner = Burning()
    stage = ProbedStage(inner, "burn-it", tmp_path)
    stage.begin("a", None)
    assert len(stage([packet(0), packet(1)])) == 2
    assert len(stage([packet(2)])) == 1
    assert stage.state("a") == b"12345"
    stage.close()
    assert (inner.closed, inner.begun, stage.lent) == (True, ["a"], "features")
    (noted,) = read_calls(tmp_path)
    assert (noted.stage, noted.pid) == ("burn-it", os.getpid())
    assert noted.calls["packets"].tolist() == [2, 1]
    used = noted.calls["user_s"] + noted.calls["system_s"]
    np.testing.assert_allclose(used, [0.12, 0.06], rtol=0.3)  # threads' clocks start and end within
    assert (noted.calls["ended_s"] > noted.calls["began_s"]).all()
    size = part_bytes(detections([(1, 2, 3, 4)] * 3))
    assert size == 3 * (4 * 4 + 4 + 4)
    assert noted.calls["part_bytes"].tolist() == [2 * size, size]
    assert noted.states["state_bytes"].tolist() == [5]
    assert noted.states["user_s"] + noted.states["system_s"] == pytest.approx(0.02, rel=0.5)


def test_what_a_process_has_used_is_what_getrusage_says():
    burn(0.1)
    used = used_by(os.getpid())
    said = resource.getrusage(resource.RUSAGE_SELF)
    assert used.user_s == pytest.approx(said.ru_utime, abs=0.05)
    assert used.system_s == pytest.approx(said.ru_stime, abs=0.05)
    assert used.switches > 0
    assert used_by(os.getpid(), without=threading.get_native_id()).switches < used.switches
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert used_by(ended.pid) is None


def sample(at, **used):
    return Sample(at, {name: Used(*numbers) for name, numbers in used.items()})


NONE = (0, 0, 0, 0)


def test_the_window_is_within_the_times_and_has_the_same_processes_at_both_ends():
    samples = [
        sample(1.0, hub=NONE),
        sample(2.0, hub=NONE, a=NONE),
        sample(3.0, hub=NONE, a=NONE),
        sample(4.0, hub=NONE),
        sample(5.0, hub=NONE, a=NONE),
    ]
    assert window(samples, 1.5, 4.5) == (samples[1], samples[2])
    assert window(samples, 1.5, 9.0) == (samples[1], samples[4])
    assert window(samples, 3.5, 4.5) is None
    assert window(samples, 6, 9) is None


def calls(stage, pid, *rows, states=()):
    columns = np.array(rows, float).reshape(-1, len(CALL)).T
    kept = np.array(states, float).reshape(-1, len(STATE)).T
    return StageCalls(
        stage, pid, dict(zip(CALL, columns, strict=True)), dict(zip(STATE, kept, strict=True))
    )


def test_costs_are_those_between_the_samples_for_each_frame():
    pipeline = load_pipeline(None, {"publish.bind": "none"})
    names = [stage.name for stage in pipeline.stages]
    placement = Placement([WorkerSpec(names[:1]), WorkerSpec(names[1:])])
    assert names == ["detect", "camera", "embed", "track", "publish"]
    noted = [
        calls(
            "detect",
            7,
            (0.0, 0.9, 1, 9, 9, 900),  # before the first sample
            (1.0, 1.4, 2, 0.20, 0.02, 6000),
            (1.5, 1.9, 2, 0.16, 0.02, 2000),
            (1.9, 2.1, 1, 9, 9, 900),  # after the last
        ),
        calls("camera", 8),
        calls("embed", 8),
        calls("track", 8, (1.1, 1.2, 4, 0.04, 0, 400), states=[(1.3, 0.01, 0.01, 1000)]),
        calls(
            "publish",
            8,
            *((t, t + 0.1, 1, 0.01, 0, 0) for t in (0.5, 1.0, 1.2, 1.4, 1.6, 2.5)),
        ),
    ]
    steady = (
        sample(1.0, hub=(5, 1, 0, 10), d=(50, 1, 1, 100), t=(9, 0, 0, 0)),
        sample(2.0, hub=(5.04, 1.02, 0.4, 50), d=(50.4, 1.1, 1.2, 500), t=(9.2, 0, 0, 8)),
    )
    found = pipeline_profile.report(
        pipeline, placement, noted, steady, {"d": 7, "t": 8}, picture_bytes=300
    )
    assert (found.frames, found.seconds, found.fps) == (4, 1.0, 4.0)
    assert found.core_ms == pytest.approx((0.06 + 0.5 + 0.2) / 4 * 1e3)
    assert found.cores == pytest.approx(0.76)
    hub, detect = found.processes["hub"], found.processes["d"]
    assert (hub.user_ms, hub.system_ms, hub.rest_ms) == (10, 5, 15)
    assert (hub.core_wait_ms, hub.switches, hub.working) == (100, 10, None)
    assert (detect.user_ms, detect.system_ms, detect.in_stages_ms) == (100, 25, 100)
    assert (detect.rest_ms, detect.core_wait_ms, detect.working) == (25, 50, 0.8)
    assert found.stages["detect"].process == "d"
    assert found.stages["detect"].wall_ms == 200
    assert found.stages["detect"].call_p50_ms == pytest.approx(400)
    assert found.stages["publish"].call_p50_ms == pytest.approx(100)
    assert found.stages["embed"].call_p50_ms == 0
    assert (found.stages["track"].user_ms, found.stages["track"].state_ms) == (10, 5)
    assert found.stages["camera"].packets == 0
    assert found.copied.pictures == 300
    assert found.copied.parts_to_hub == 2100
    assert found.copied.parts_from_hub == 2000  # detections; tracks are read where they are written
    assert found.copied.states_to_hub == 250
    lines = [one for one in tables(found) if isinstance(one, str)]
    assert lines[0].startswith("4 frames in 1.0 s: 4.0 frames/s, 190.0 core-ms a frame")


@pytest.fixture
def tiny(tmp_path):
    """A pipeline whose network costs nothing."""
    rows = yolox_rows((96, 128), [(20, 10, 40, 60, 0.9)])
    weights = onnx_file(tmp_path / "a.onnx", rows, size=(96, 128))
    path = tmp_path / "tiny.yaml"
    path.write_text(PIPELINE.format(weights=weights))
    return path


def bench(*arguments):
    return CliRunner().invoke(app, ["bench", "pipeline", *map(str, arguments)])


def test_a_run_is_profiled(tiny, monkeypatch):
    monkeypatch.setattr(pipeline_profile, "SHORTEST_S", 0.0)
    monkeypatch.setattr(process_samples, "SAMPLE_S", 0.02)
    result = bench(tiny, "--source", SCENE, "--profile", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["profile"]
    assert found["frames"] > 0
    assert set(found["stages"]) == {"detect", "track", "publish"}
    kinds = {name.rpartition(".")[0] or name for name in found["processes"]}
    assert kinds == {"hub", "decode-synthetic-walkers", "detect", "track+publish"}
    every = found["processes"].values()
    total = sum(one["user_ms"] + one["system_ms"] for one in every)
    assert found["core_ms"] == pytest.approx(total, abs=0.02)
    placed = {one for stage in found["stages"].values() for one in stage["process"].split(", ")}
    assert placed < set(found["processes"])
    assert found["copied"]["pictures"] == 128 * 96 * 3
    assert found["stages"]["detect"]["part_bytes"] == 16 + 4 + 4


def test_a_source_that_is_too_short_for_a_profile_is_refused(tiny):
    result = bench(tiny, "--source", SCENE.replace("=30", "=3"), "--profile")
    assert result.exit_code == 2
    assert "is too short: 30 frames were done, expected 60 or more" in result.stderr


def test_a_pipeline_without_a_detector_has_nothing_to_be_compared_with(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("stages: [{name: camera, run: {kind: camera_motion}}]")
    with pytest.raises(UsageError, match="no stage that detects"):
        detection_of(load_pipeline(path))


def test_a_flame_graph_needs_py_spy(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(flame_graph.shutil, "which", lambda *_, **__: None)
    result = bench(tiny, "--source", SCENE, "--flame", tmp_path / "f.svg")
    assert result.exit_code == 2
    assert "--flame draws with py-spy, which is not installed; run: pip install py-spy" in (
        result.stderr
    )


def test_a_flame_graph_shows_every_process(tiny, tmp_path):
    if not may_trace():
        pytest.skip("py-spy is absent or may not trace processes: pip install py-spy, as root")
    path = tmp_path / "flame.svg"
    result = bench(tiny, "--source", SCENE.replace("=30", "=8"), "--flame", path)
    assert result.exit_code == 0, result.output
    text = path.read_text()
    for process in ("runtime.worker", "runtime.decode", "benchmarks.flame_graph"):
        assert process in text


def test_what_py_spy_says_is_in_the_error(tiny, tmp_path, monkeypatch):
    spy = tmp_path / "py-spy"
    spy.write_text("#!/bin/sh\necho 'Error: Permission Denied: try as root' >&2; exit 1\n")
    spy.chmod(0o755)
    monkeypatch.setattr(flame_graph, "spy_path", lambda: str(spy))
    result = bench(tiny, "--source", SCENE, "--flame", tmp_path / "f.svg")
    assert result.exit_code == 1
    assert "Error: Permission Denied: try as root; it needs permission" in result.stderr


def may_trace():
    """Whether py-spy is there and can look at a child of its own."""
    try:
        spy = flame_graph.spy_path()
    except UsageError:
        return False
    done = subprocess.run(
        [spy, "record", "--output", os.devnull, "--", sys.executable, "-c", "pass"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0
