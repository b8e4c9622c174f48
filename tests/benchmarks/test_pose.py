"""`streamvis bench pose` times crops, each engine's network and the decoding, for a person."""

import json

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import pose
from streamvis.cli.main import app


def test_the_parts_are_the_same_work_and_their_times_add_up(one_thread, monkeypatch):
    made = {}

    def timed(parts, rounds):
        assert rounds == 7
        made.update({name: part() for name, part in parts.items()})
        return {name: 3 * 10.0**n for n, name in enumerate(parts)}

    monkeypatch.setattr(pose, "timed", timed)
    report = msgspec.to_builtins(pose.measure("pose-lite", 3, 7))
    cut, decoded = made.pop("cutting"), made.pop("decoding")
    assert report["crops"] == "3 of 192x256"
    assert cut.shape == (3, 256, 192, 3)
    assert decoded.points.shape == (3, 17, 2)
    assert {"torch fp32", "openvino fp32"} <= set(made)
    for heatmaps in made.values():
        np.testing.assert_allclose(heatmaps, made["torch fp32"], atol=0.2)
    assert (report["cutting_ms"], report["decoding_ms"]) == (1, 10)
    assert report["network_ms"] == {name: 10.0 ** (n + 2) for n, name in enumerate(made)}
    assert report["together_ms"] == {n: 11 + ms for n, ms in report["network_ms"].items()}


def test_the_command_prints_the_report(monkeypatch):
    asked = []

    def measured(*given):
        asked.append(given)
        return {"together_ms": {"torch fp32": 3.0}}

    monkeypatch.setattr(pose, "measure", measured)
    result = CliRunner().invoke(app, ["bench", "pose", "--people", "4", "--json"])
    assert result.exit_code == 0, result.stderr
    assert asked == [("pose-lite", 4, 25)]
    assert json.loads(result.stdout)["pose"]["together_ms"]["torch fp32"] == pytest.approx(3)
