"""docs/own-detector.md: every command runs, its pipeline loads, its errors are those shown."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from onnx_files import onnx_file, yolox_rows
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.config import load_pipeline
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/own-detector.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in BLOCKS for line in block.splitlines() if not kind]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the commands name; the network finds one person at the same place."""
    home = tmp_path_factory.mktemp("own")
    scene = SyntheticScene(seed=3, people=4, size=(192, 144), fps=5, seconds=2)
    clip = write_sequence(home / "MOT/PETS09-S2L1", scene) / "video.mp4"
    shutil.copy(clip, home / "street.mp4")
    shutil.copy(ROOT / "pipelines/yolox.yaml", home)
    rows = yolox_rows((96, 128), [(20, 10, 40, 60, 0.9)], classes=80)
    onnx_file(home / "yolox_nano.onnx", rows, size=(96, 128))
    v5 = yolox_rows((640, 640), [], classes=80).repeat(3, axis=0)
    onnx_file(home / "v5.onnx", v5, size=(640, 640))
    return home


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs(line, folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = shlex.split(line)[1:]
    if words[0] == "run":
        words += ["--engine", "inline", "--set", "publish.bind=none"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for written in re.findall(r"--out (\S+)", line):
        assert (folder / written / "events.db").exists(), written


def test_the_pipeline_loads(tmp_path):
    (example,) = (block for kind, block in BLOCKS if kind == "yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(example)
    assert load_pipeline(path).stage("detect").run.weights == "yolox_nano.onnx"


def test_what_check_prints_is_what_the_page_shows(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (shown,) = (block for kind, block in BLOCKS if kind == "text")
    good, refused = shown.splitlines()
    assert "416×416" in good  # the one here is smaller
    checked = CliRunner().invoke(app, ["check", "yolox.yaml"]).output
    assert good.replace("416×416", "128×96").rpartition(" ")[0] in checked
    (folder / "v5.yaml").write_text(
        (folder / "yolox.yaml").read_text().replace("yolox_nano.onnx}", "v5.onnx}")
    )
    result = CliRunner().invoke(app, ["check", "v5.yaml"])
    assert result.exit_code == 4
    assert result.output == refused + "\n"
