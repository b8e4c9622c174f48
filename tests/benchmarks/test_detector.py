"""Contenders take turns on the same pictures."""

import json

import torch
from typer.testing import CliRunner

from streamvis.benchmarks import detector
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


def test_the_command_races_the_engines_and_names_the_parts():
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
