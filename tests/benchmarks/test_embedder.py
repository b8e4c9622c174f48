"""`streamvis bench embedder` names what it times."""

import json

from typer.testing import CliRunner

from streamvis.cli.main import app


def test_the_command_times_cutting_and_each_engine():
    result = CliRunner().invoke(
        app, ["bench", "embedder", "--people", "3", "--rounds", "1", "--json"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["embedder"]
    assert report["crops"].startswith("3 of ")
    assert {"torch fp32", "openvino fp32"} <= set(report["network_ms"])
    assert set(report["together_ms"]) == set(report["network_ms"])
    for name, ms in report["network_ms"].items():
        assert report["together_ms"][name] > max(ms, report["cutting_ms"]) > 0
