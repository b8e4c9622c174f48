"""`streamvis bench hub`, `feed` and `pipeline` run to their ends, with few frames."""

import json

import pytest
from typer.testing import CliRunner

from streamvis import config
from streamvis.benchmarks import feed, hub, pipeline
from streamvis.cli.main import app
from streamvis.runtime import inline, launch


def report(name, *options):
    result = CliRunner().invoke(app, ["bench", name, *options, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)[name]


def test_hub(monkeypatch):
    """It runs to its end; how fast is for `make bench` to say."""
    monkeypatch.setattr(hub, "WARM_UP", 10)
    for measure, few in ((hub.hop, (50, 0.0)), (hub.capacity, (1500,)), (hub.throughput, (20,))):
        monkeypatch.setattr(measure, "__defaults__", few)
    found = report("hub")
    assert 0 < found["hop_us_p50"] <= found["hop_us_p99"]
    assert found["hops_per_cpu_second"] > 0
    assert found["pipeline_over_slowest_stage"] > 0


def test_zones():
    found = report("zones", "--people", "5", "--zones", "4", "--frames", "50")
    assert (found["people"], found["replay_people"], found["replay_zones"]) == (5, 1, 1)
    assert found["frame_ms_p50"] > 0
    assert found["replay_over_real_time"] > 0


def test_feed(monkeypatch):
    monkeypatch.setattr(feed, "COMMITS", 20)
    monkeypatch.setattr(feed.measure, "__defaults__", (100, 1, 2000))
    found = report("feed")
    assert (found["events"], found["rounds"]) == (100, 1)
    assert found["log_and_feed"]["per_s"] > 0


@pytest.mark.usefixtures("one_thread")
def test_pipeline(monkeypatch):
    """Each frame after the warm-up counts once, and the rates make the ratio."""
    for name, few in (("WARM_UP", 2), ("LEAST", 5), ("DETECTOR_FRAMES", 5)):
        monkeypatch.setattr(pipeline, name, few)
    changes = {"detect.engine": "torch", "detect.short_side": "64", "embed.engine": "torch"}
    cheap = config.load_pipeline(None, changes)
    monkeypatch.setattr(config, "default_pipeline", lambda: cheap)

    def run(whole, placement, specs, *, build, out):  # without processes: `make bench` has them
        assert build == "streamvis.benchmarks.pipeline:build"
        return inline.run(whole, specs, build=pipeline.build, out=out)

    monkeypatch.setattr(launch, "run", run)
    found = report("pipeline", "--source", "synthetic:walkers?people=1&seconds=1&fps=20&size=96x64")
    assert (found["frames"], found["frames_not_counted"]) == (18, 2)
    assert found["ratio"] == pytest.approx(
        found["pipeline_fps"] / found["detector_alone_fps"], rel=0.01, abs=0.001
    )
    assert set(found["stages_p50_ms"]) == {"detect", "camera", "embed", "track", "publish"}
    assert found["latency_p50_ms"] > max(found["stages_p50_ms"].values()) > 0
