"""docs/peers.md: its commands are understood, its tables name what the benchmark has."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import peer_comparison, peer_loops
from streamvis.benchmarks.peer_comparison import PeersReport
from streamvis.cli.main import app
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

TEXT = (Path(__file__).parents[1] / "docs/peers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS for line in block.splitlines() if not kind]
REPORT = PeersReport(
    cores=2, repeats=3, frames_not_counted=2, nms_iou=0.65, scores=[], skipped={"SORT": "why"}
)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line, tmp_path, monkeypatch):
    """The runs themselves are in tests/benchmarks/test_peer_comparison.py."""
    monkeypatch.chdir(tmp_path)
    scene = SyntheticScene(seed=1, people=2, size=(96, 64), fps=5, seconds=1)
    for name in ("PETS09-S2L1", "TUD-Campus"):
        write_sequence(tmp_path / "MOT" / name, scene)
    asked = []
    monkeypatch.setattr(
        peer_comparison, "measure", lambda *given, **more: asked.append((given, more)) or REPORT
    )
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    ((sequences, weights), more) = asked[0]
    assert [one.name for one in sequences] == ["PETS09-S2L1", "TUD-Campus"]
    assert weights == Path("yolox_nano.onnx")
    assert more["pipelines"] == ("people", "yolox")
    assert more["loops"] is peer_loops.LOOPS


def test_the_columns_are_explained():
    explained = re.findall(r"^\| ([\w, /≥×-]+) \| ", TEXT, re.MULTILINE)
    words = {word.strip() for one in explained for word in one.split(",")}
    assert set(peer_comparison.COLUMNS) - {"sequence", "program"} <= words


def test_every_program_is_described_and_has_rows_of_its_own():
    names = [*(f"streamvis {one}" for one in peer_comparison.PIPELINES), *peer_loops.LOOPS]
    described = re.findall(r"^\| (?:`(.+?)`|([^|`]+?)) \| ", TEXT.split("## How")[0], re.MULTILINE)
    described = [first or second for first, second in described if "program" not in (first, second)]
    assert [one.replace("…", "ONNX Runtime + ByteTrack,") for one in described] == names
    measured = TEXT.split("## Measured")[1]
    for sequence in ("PETS09-S2L1", "TUD-Campus"):
        rows = re.findall(rf"^\| {sequence} \| ([^|]+?) \|", measured, re.MULTILINE)
        assert rows == names


def test_scores_and_overlaps_are_those_of_the_loops():
    scores = {one.min_score for one in peer_loops.LOOPS.values()}
    assert scores == {0.5, 0.1}
    assert "from a score of 0.5" in TEXT
    assert f"more than {peer_loops.NMS_IOU}" in TEXT
