"""`streamvis bench actions`: whether actions are recognised in real time."""

import itertools
import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import actions
from streamvis.cli.main import app


def test_so_many_crops_are_classified_and_the_time_is_that_of_the_calls(one_thread, monkeypatch):
    """With clocks that advance by 10 and 20 ms at each reading: 50 frames take 0.5 s."""
    wall, cpu = itertools.count(0, 0.01), itertools.count(0, 0.02)
    clocks = SimpleNamespace(perf_counter=wall.__next__, process_time=cpu.__next__)
    monkeypatch.setattr(actions, "time", clocks)
    monkeypatch.setattr(actions, "SIZE", (320, 240))
    line = ["bench", "actions", "--people", "2", "--per-second", "2", "--seconds", "2", "--json"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["actions"]
    assert (report["people"], report["samples_per_second"], report["crops"]) == (2, 2.0, 8)
    assert report["busy"] == pytest.approx(0.25)
    assert report["busy_cores"] == pytest.approx(0.5)
    assert report["times_real_time"] == pytest.approx(4)
    assert report["ms_per_person_and_sample"] == pytest.approx(500 / 8)
