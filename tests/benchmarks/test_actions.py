"""`streamvis bench actions` says whether people are watched in real time."""

import json

from typer.testing import CliRunner

from streamvis.cli.main import app


def test_the_command_watches_so_many_people_so_often():
    line = ["bench", "actions", "--people", "2", "--per-second", "2", "--seconds", "2", "--json"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["actions"]
    assert (report["people"], report["samples_per_second"], report["crops"]) == (2, 2.0, 8)
    assert report["times_real_time"] > 0
