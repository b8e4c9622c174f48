"""Many cameras at once: what is counted of their frames, and a run from end to end."""

import json

import msgspec
import numpy as np
import pytest
from onnx_files import onnx_file, yolox_rows
from typer.testing import CliRunner

from streamvis.benchmarks import streams
from streamvis.benchmarks.pipeline_profile import (
    CopiedBytes,
    ProcessCost,
    ProfileReport,
    StageCost,
)
from streamvis.benchmarks.stream_tables import counts_of, size_of, tables
from streamvis.benchmarks.streams import Cameras, LoadSampler, StreamsReport, load_of, shown_in
from streamvis.cli.main import app
from streamvis.errors import UsageError
from streamvis.runners.tables import Table
from streamvis.runtime.metrics import Quantiles, SourceReport, Status

PIPELINE = """stages:
  - {{name: detect, run: {{kind: yolox, weights: {weights}}}}}
  - {{name: track, after: [detect], run: {{kind: jipda}}}}
  - {{name: publish, after: [track], run: {{kind: publish}}}}
"""
BEGIN = 1_700_000_000_000_000


def cost(user_ms):
    return ProcessCost(
        user_ms=user_ms,
        system_ms=0,
        in_stages_ms=0,
        rest_ms=0,
        core_wait_ms=0,
        switches=0,
        working=None,
    )


PROFILE = ProfileReport(
    frames=10,
    seconds=1,
    fps=10,
    core_ms=20,
    cores=0.2,
    processes={
        "hub": cost(2),
        "decode-cam-01": cost(3),
        "decode-cam-02": cost(4),
        "detect.0": cost(5),
        "detect.1": cost(6),
    },
    stages={},
    copied=CopiedBytes(pictures=0, parts_to_hub=0, parts_from_hub=0, states_to_hub=0),
)


def frames(source, numbers, phase_us, age_us):
    shown = BEGIN + phase_us + 200_000 * np.array(numbers, np.int64)
    return [(source, n, at, at + age_us) for n, at in zip(numbers, shown, strict=True)]


def load(rows, cameras=2, slow=1.0, profile=PROFILE):
    columns = zip(*rows, strict=True)
    done = {
        name: np.array(one)
        for name, one in zip(("source", "n", "shown_us", "done_us"), columns, strict=True)
    }
    shown = Cameras(fps=5.0 * slow, slow=slow, busy=1)
    return load_of(cameras, shown, done, (BEGIN, BEGIN + 2_000_000), profile)


def test_frames_of_the_window_are_counted_with_their_age():
    rows = frames("cam-01", range(-3, 14), 0, 50_000) + frames("cam-02", range(-5, 12), 100, 70_000)
    found = load(rows)
    assert (found.fps, found.fps_shown, found.dropped, found.fairness) == (10, 10, 0, 1)
    assert (found.age_p50_ms, found.age_p99_ms, found.age_most_ms) == (60, 70, 70)
    assert (found.cores, found.core_ms, found.hub_share) == (0.2, 20, 0.1)
    assert found.cores_needed == 0.2
    slow = load(rows, slow=4)
    assert (slow.fps, slow.fps_shown, slow.dropped, slow.cores_needed) == (10, 10, 0, 0.8)


def test_the_age_is_compared_with_the_sum_of_the_stages():
    stage = StageCost(
        process="detect.0",
        packets=1,
        user_ms=1,
        system_ms=1,
        state_ms=0,
        wall_ms=50,
        call_p50_ms=15,
        part_bytes=0,
        state_bytes=0,
    )
    found = load(
        frames("cam-01", range(10), 0, 60_000),
        profile=msgspec.structs.replace(PROFILE, stages={"detect": stage, "publish": stage}),
    )
    assert (found.stages_ms, found.age_over_stages) == (30, 2)


def test_frames_that_were_not_done_are_dropped_ones():
    rows = frames("cam-01", range(10), 0, 1000) + frames("cam-02", [1, 4, 5, 8], 0, 1000)
    found = load(rows)
    assert (found.dropped, found.fps, found.fairness) == (6, 7, 0.4)
    late = load(frames("cam-01", range(10), 0, 1000) + frames("cam-02", [-4, -3], 0, 1000))
    assert (late.dropped, late.fairness) == (10, 0)  # the second camera has shown ten all the same


def test_a_camera_without_any_frame_makes_it_unfair():
    found = load(frames("cam-01", range(10), 0, 1000))
    assert found.fairness == 0


@pytest.mark.parametrize("phase", [0, 1, 99_999, 150_000, 199_999])
@pytest.mark.parametrize("known", [-7, 0, 3, 40])
def test_what_a_camera_has_shown_follows_from_any_of_its_frames(phase, known):
    times = phase + 200_000 * np.arange(-50, 50)
    expected = int(((times >= 0) & (times < 1_234_567)).sum())
    given = np.array([phase + 200_000 * known])
    assert shown_in(given + BEGIN, 5.0, BEGIN, BEGIN + 1_234_567) == expected


def source(name, done):
    return SourceReport(
        id=name,
        label=name,
        decoded=done,
        frames_promised=None,
        admitted=done,
        dropped={},
        poisoned=0,
        decode_errors=0,
        restarts=0,
        ending=None,
        error="",
        fps=0,
        latency_ms=Quantiles(most=1.0 if done else 0.0),
    )


def test_samples_are_taken_once_all_cameras_are_there(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(streams.time, "monotonic", lambda: now[0])
    until = tmp_path / "end"
    sampler = LoadSampler(2, 10.0, until)

    def note(at, *done):
        now[0] = at
        sources = [source(f"cam-{n}", one) for n, one in enumerate(done)]
        sampler.note(Status(wall_s=at, sources=sources, stages=[]))
        return len(sampler.samples)

    assert note(101, 5, 0) == 0
    assert note(130, 9, 1) == 0
    assert note(134, 9, 1) == 0
    assert note(135, 9, 1) == 1
    assert note(144, 9, 1) == 1
    assert not until.exists()
    assert note(145, 9, 1) == 2
    assert until.exists()
    assert note(146, 9, 1) == 2
    assert sampler.samples[1].at - sampler.samples[0].at == 10
    assert list(sampler.samples[0].used) == ["hub"]


def test_a_camera_that_never_comes_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "START_S", -5.0)
    sampler = LoadSampler(2, 10.0, tmp_path / "end")
    sampler.note(Status(wall_s=1, sources=[source("a", 1), source("b", 0)], stages=[]))
    assert (tmp_path / "end").exists()
    assert not sampler.samples


def test_processes_of_a_kind_are_summed_in_the_table():
    found = load(frames("cam-01", range(10), 0, 1000))
    report = StreamsReport(cores=2, fps=5, slow=1, size=(640, 360), seconds=2, loads=[found])
    _, first, second, _ = tables(report)
    assert isinstance(first, Table)
    assert isinstance(second, Table)
    assert second.columns == ("cameras", "hub", "decode", "detect")
    assert list(second.rows) == [(2, "20", "70", "110")]


def test_arguments_are_understood_or_refused():
    assert counts_of("1, 2,32") == [1, 2, 32]
    assert size_of("640x360") == (640, 360)
    for text in ("", "1,,2", "a", "0", "257", "-1"):
        with pytest.raises(UsageError, match="expected"):
            counts_of(text)
    for text in ("640", "640x", "63x90", "640x360x3", "axb"):
        with pytest.raises(UsageError, match="as in 640x360"):
            size_of(text)


def test_cameras_are_measured_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "SETTLE_S", 0.0)
    rows = yolox_rows((96, 128), [(20, 10, 40, 60, 0.9)])
    weights = onnx_file(tmp_path / "a.onnx", rows, size=(96, 128))
    path = tmp_path / "tiny.yaml"
    path.write_text(PIPELINE.format(weights=weights))
    scene = "synthetic:walkers?people=2&seconds=2&fps=10&size=128x96"
    options = ("--cameras", "2", "--busy", "1", "--fps", "10", "--seconds", "2", "--size", "128x64")
    result = CliRunner().invoke(
        app, ["bench", "streams", str(path), *options, "--source", scene, "--json"]
    )
    assert result.exit_code == 0, result.output
    found = msgspec.convert(json.loads(result.stdout)["streams"], StreamsReport)
    (only,) = found.loads
    assert (found.size, only.cameras, only.busy) == ((128, 64), 2, 1)
    assert only.fps_shown == pytest.approx(20, abs=1.5)
    assert 0 < only.fps <= only.fps_shown + 0.5
    assert only.age_p50_ms <= only.age_p99_ms <= only.age_most_ms
    decoders = [name for name in only.profile.processes if name.startswith("decode-")]
    assert sorted(decoders) == ["decode-cam-01", "decode-cam-02"]
