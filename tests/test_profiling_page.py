"""docs/profiling.md: its commands are understood, its columns are those of the tables."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from streamvis.benchmarks import flame_graph, pipeline, pipeline_profile, profile_tables
from streamvis.benchmarks.pipeline_profile import (
    CopiedBytes,
    ProcessCost,
    ProfileReport,
    StageCost,
)
from streamvis.cli.main import app
from streamvis.runners.tables import Table

TEXT = (Path(__file__).parents[1] / "docs/profiling.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS for line in block.splitlines() if not kind]
REPORT = ProfileReport(
    frames=1,
    seconds=1.0,
    fps=1.0,
    core_ms=1.0,
    cores=0.5,
    processes={
        "hub": ProcessCost(
            user_ms=1,
            system_ms=0,
            in_stages_ms=0,
            rest_ms=1,
            core_wait_ms=0,
            switches=1,
            working=None,
        )
    },
    stages={
        "detect": StageCost(
            process="detect.0",
            packets=1,
            user_ms=1,
            system_ms=0,
            state_ms=0,
            wall_ms=1,
            part_bytes=1,
            state_bytes=0,
        )
    },
    copied=CopiedBytes(pictures=1, parts_to_hub=1, parts_from_hub=1, states_to_hub=1),
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_measures_what_it_says(line, tmp_path, monkeypatch):
    """The runs themselves are in tests/benchmarks/test_pipeline_profile.py."""
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(pipeline, "measure", lambda *given: asked.append("rate") or REPORT)
    monkeypatch.setattr(
        pipeline_profile, "measure", lambda *given: asked.append("profile") or REPORT
    )
    monkeypatch.setattr(flame_graph, "spy_path", lambda: "py-spy")
    monkeypatch.setattr(flame_graph, "draw", lambda *given: asked.append("flame"))
    if "cuda" in line and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU on this machine, and this command measures one")
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    wanted = {"profile": "--profile" in line, "flame": "--flame" in line}
    if "bench detector" in line:
        return
    assert asked == [name for name, is_wanted in wanted.items() if is_wanted] or asked == ["rate"]


def test_the_columns_are_those_of_the_tables():
    (shown,) = (block for kind, block in BLOCKS if kind == "text")
    explained = re.findall(r"^\| ([\w, ]+) \| ", TEXT, re.MULTILINE)
    words = {word.strip() for one in explained for word in one.split(",")}
    for table in (one for one in profile_tables.tables(REPORT) if isinstance(one, Table)):
        assert re.search(r"^ +" + r" +".join(table.columns) + "$", shown, re.MULTILINE)
        assert set(table.columns) - {"process", "stage"} <= words
