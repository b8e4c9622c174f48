"""Contenders take turns on the same pictures."""

import json

import pytest
import torch
from typer.testing import CliRunner

from streamvis.benchmarks import detector, gpu_detector
from streamvis.cli.main import app


def test_turns_go_round_and_warm_up_does_not_count():
    calls: list[tuple[str, int]] = []
    images = [torch.full((3, 4, 4), i) for i in range(3)]

    def contender(name):
        def find(image):
            calls.append((name, int(image[0, 0, 0])))
            return int(image[0, 0, 0])

        return find

    times, found = detector.interleaved({name: contender(name) for name in "ab"}, images, rounds=3)
    assert [name for name, _ in calls] == ["a", "b"] * (3 + detector.WARM_UP)
    assert [image for _, image in calls[::2]] == [image for _, image in calls[1::2]]
    assert found == {"a": 1.0, "b": 1.0}  # of pictures 2, 0, 1
    assert set(times) == {"a", "b"}


def test_the_command_races_the_engines_and_names_the_parts(monkeypatch):
    monkeypatch.setattr(detector, "WARM_UP", 0)  # no time is asserted
    scene = "synthetic:walkers?people=2&seconds=1&fps=3&size=160x120&seed=3"
    result = CliRunner().invoke(
        app, ["bench", "detector", "--source", scene, "--rounds", "1", "--json"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["detector"]
    assert report["size"] == "160x120"
    names = list(report["contenders"])
    assert names[0] == "torch fp32, plain"
    assert report["contenders"][names[0]]["times_as_fast"] == 1
    assert {name.split()[0] for name in names} >= {"torch", "openvino"}
    assert {"backbone", "fpn", "rpn", "boxes and masks"} <= set(report["parts_ms"]["torch"])
    assert {"dense", "proposals"} <= set(report["parts_ms"]["openvino"])
    assert isinstance(report["call_overhead"], float)


SMALL = "synthetic:walkers?people=2&seconds=1&fps=3&size=160x120&seed=3"


def test_a_missing_gpu_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    result = CliRunner().invoke(app, ["bench", "detector", "--device", "cuda:0"])
    assert result.exit_code != 0
    (line,) = [one for one in result.stderr.splitlines() if "measuring" not in one]
    assert "'cuda:0' is not there; this machine has cpu" in line


def test_others_are_compared_on_the_cpu_alone(tmp_path):
    options = ["--device", "cuda:0", "--against", str(tmp_path / "theirs.onnx")]
    result = CliRunner().invoke(app, ["bench", "detector", *options])
    assert result.exit_code != 0
    assert "leave it out" in result.stderr


def test_batches_are_measured_with_their_shares(monkeypatch):
    monkeypatch.setattr(gpu_detector, "BATCHES", (1, 3))
    monkeypatch.setattr(gpu_detector, "WARM_UP", 1)
    report = gpu_detector.measure(source=SMALL, device="cpu", rounds=1, masks=False)
    assert list(report.batches) == ["1", "3"]
    assert report.repeated == 0
    for speed in report.batches.values():
        assert min(speed.fps, speed.ms, speed.plain_fps) > 0
        assert 0 < speed.compute_share <= 1
        assert speed.upload_share == speed.download_share == 0  # only a device has those


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and a torch with CUDA")
def test_a_gpu_is_measured():
    report = gpu_detector.measure(source=SMALL, rounds=3)
    assert report.graphs
    assert all(speed.upload_share > 0 for speed in report.batches.values())
