"""`streamvis bench pipeline` measures the steady part, or says why it cannot."""

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import pipeline as benchmark
from streamvis.benchmarks.pipeline import LEAST, TIMES, WARM_UP, TimedStage
from streamvis.cli.main import app
from streamvis.runtime import launch


def test_too_few_frames_are_refused_with_how_many_it_takes(monkeypatch):
    monkeypatch.setattr(launch, "run", None)  # nothing is run before it is known
    source = "synthetic:walkers?people=1&seconds=5&fps=10&size=64x48"
    result = CliRunner().invoke(app, ["bench", "pipeline", "--source", source])
    assert result.exit_code == 2
    assert f"has 50 frames; expected {WARM_UP + LEAST} or more" in result.stderr


def test_several_sources_are_refused(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text("")
    result = CliRunner().invoke(app, ["bench", "pipeline", "--source", str(tmp_path)])
    assert result.exit_code == 2
    assert "is 2 sources; give one of them" in result.stderr


def test_the_rate_is_that_of_the_steady_part(monkeypatch):
    """However long it takes until the first frames are done."""

    class Summary:
        stages = ()
        sources = (type("Source", (), {"latency_ms": type("Q", (), {"p50": 1.0})}),)

    def run(pipeline, placement, specs, *, build, out):
        assert build == "streamvis.benchmarks.pipeline:build"
        starting = np.linspace(0, 60, WARM_UP, endpoint=False)
        np.save(out / TIMES, np.concatenate([starting, 60 + np.arange(81) / 8]))
        return Summary

    class Placement:
        workers = (type("Worker", (), {"stages": (), "replicas": 1}),)

    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr(benchmark.config, "default_placement", lambda pipeline, sources: Placement)
    monkeypatch.setattr(benchmark, "_detector_fps", lambda spec, whole: 10.0)
    found = msgspec.to_builtins(benchmark.measure())
    assert found["pipeline_fps"] == pytest.approx(8)
    assert found["ratio"] == pytest.approx(0.8)
    assert found["frames"] == 81


def test_the_last_stage_notes_when_each_packet_was_done(tmp_path):
    class Stage:
        def __call__(self, packets):
            yield from packets

        def close(self):
            pass

    noted = TimedStage(Stage(), tmp_path)
    assert list(noted(["a", "b"])) == ["a", "b"]
    assert list(noted(["c"])) == ["c"]
    noted.close()
    times = np.load(tmp_path / TIMES)
    assert len(times) == 3
    assert (np.diff(times) >= 0).all()
