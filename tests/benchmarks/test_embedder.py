"""`streamvis bench embedder` times the cutting of crops and each engine's network."""

import json

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import embedder
from streamvis.cli.main import app


def test_the_parts_are_the_same_work_and_their_times_add_up(one_thread, monkeypatch):
    made = {}

    def timed(parts, rounds):
        assert rounds == 7
        made.update({name: part() for name, part in parts.items()})
        return {name: 10.0**n for n, name in enumerate(parts)}

    monkeypatch.setattr(embedder, "timed", timed)
    report = msgspec.to_builtins(embedder.measure("person-r18", 3, 7))
    cut = made.pop("cutting")
    assert len(cut) == 3
    assert report["crops"] == f"3 of {cut.shape[2]}x{cut.shape[1]}"
    assert {"torch fp32", "openvino fp32"} <= set(made)
    exact = made["torch fp32"]
    for vectors in made.values():  # of unit length: their products are cosines
        assert (np.sum(vectors * exact, axis=1) > 0.99).all()
    assert report["cutting_ms"] == 1
    assert report["network_ms"] == {name: 10.0 ** (n + 1) for n, name in enumerate(made)}
    assert report["together_ms"] == {name: 1 + ms for name, ms in report["network_ms"].items()}


def test_the_command_prints_the_report(monkeypatch):
    asked = []

    def measured(*given):
        asked.append(given)
        return {"crops": "3 of 4x8", "network_ms": {"torch fp32": 1.5}}

    monkeypatch.setattr(embedder, "measure", measured)
    command = ["bench", "embedder", "--people", "3", "--rounds", "2"]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["embedder"]["network_ms"] == {"torch fp32": 1.5}
    assert CliRunner().invoke(app, command).exit_code == 0
    assert asked == [("person-r18", 3, 2)] * 2


@pytest.mark.parametrize("option", ["--people", "--rounds"])
def test_none_is_refused(option):
    assert CliRunner().invoke(app, ["bench", "embedder", option, "0"]).exit_code == 2
