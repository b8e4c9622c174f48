"""docs/cameras.md: its commands are understood, its columns are those of the table."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import streams
from streamvis.benchmarks.stream_tables import tables
from streamvis.benchmarks.streams import StreamsReport
from streamvis.cli.main import app
from streamvis.runners.tables import Table

TEXT = (Path(__file__).parents[1] / "docs/cameras.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
EMPTY = StreamsReport(cores=2, fps=5.0, slow=1.0, size=(640, 360), seconds=30.0, loads=[])


@pytest.mark.parametrize("line", BLOCKS[0].splitlines())
def test_every_command_is_understood(line, tmp_path, monkeypatch):
    """The runs themselves are in tests/benchmarks/test_streams.py."""
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(streams, "measure", lambda *given: asked.append(given) or EMPTY)
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    assert len(asked) == 1


def test_the_columns_are_those_of_the_table():
    explained = re.findall(r"^\| ([\w, /-]+) \| ", TEXT, re.MULTILINE)
    words = {word.strip() for one in explained for word in one.split(",")}
    first = next(one for one in tables(EMPTY) if isinstance(one, Table))
    assert set(first.columns) - {"cameras"} <= words
