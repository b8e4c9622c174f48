"""Pipelines, placements and training files are in the package, and found by name."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamvis import config, shipped
from streamvis.cli.main import app
from streamvis.errors import ConfigError
from streamvis.training import recipes
from streamvis.training.scenes import segmenter

ROOT = Path(__file__).parents[1]

PIPELINES = ", ".join(sorted(path.stem for path in ROOT.glob("pipelines/*.yaml")))


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        ("pipeline", "pipelines"),
        ("placement", "configs"),
        ("training file", "configs/training"),
    ],
)
def test_every_file_of_the_project_is_found_by_its_name(kind, folder):
    paths = sorted(set((ROOT / folder).glob("*.yaml")) - {ROOT / "configs/site.yaml"})
    assert shipped.names(kind) == sorted(path.stem for path in paths)
    for path in paths:
        assert shipped.find(Path(path.stem), kind).read_bytes() == path.read_bytes()


def test_names_are_accepted_wherever_paths_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = config.load_pipeline(Path("actions"))
    assert pipeline == config.load_pipeline(ROOT / "pipelines/actions.yaml")
    assert config.load_placement(Path("actions"), pipeline).workers[1].stages == ["act"]
    recipe = recipes.read_recipe(Path("street-seg"), segmenter.SegmenterRecipe)
    assert recipe == segmenter.load_recipe(ROOT / "configs/training/street-seg.yaml")


def test_a_file_takes_precedence_over_a_name_and_a_directory_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    assert len(config.load_pipeline(Path("full")).stages) > 5
    Path("actions").write_text("stages: [{name: find, run: {kind: mask_rcnn}}]")
    assert [stage.name for stage in config.load_pipeline(Path("actions")).stages] == ["find"]


@pytest.mark.parametrize("name", ["nosuch", "nosuch.yaml", "../people", "."])
def test_an_unknown_name_is_refused_with_the_shipped_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"Allowed: {PIPELINES}$"):
        config.load_pipeline(Path(name))
    with pytest.raises(ConfigError, match=r"no placement of that name .* two-cores$"):
        config.load_placement(Path(name), config.default_pipeline())
    with pytest.raises(ConfigError, match=r"no training file of that name .* fine-tune"):
        recipes.read_recipe(Path(name), segmenter.SegmenterRecipe)


def test_the_command_line_takes_names():
    checked = CliRunner().invoke(app, ["check", "actions", "--on", "actions"])
    assert checked.exit_code == 0, checked.output
    assert "actions is sound" in checked.stdout
    wrong = CliRunner().invoke(app, ["run", "nosuch", "--source", "synthetic:"])
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("streamvis: nosuch: No such file, and no pipeline")


def test_wheel_and_sdist_hold_every_file_that_ships(tmp_path):
    """Built without a network from a copy without weights: building leaves files beside it."""
    project = tmp_path / "project"
    skip = shutil.ignore_patterns("*.safetensors", "__pycache__")
    for name in ("streamvis", "pipelines", "configs"):
        shutil.copytree(ROOT / name, project / name, symlinks=True, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project / name)
    build(project, "build_sdist", tmp_path)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    build(next((tmp_path / "unpacked").iterdir()), "build_wheel", tmp_path)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        held = set(archive.namelist())
    for folder in ("pipelines", "configs", "configs/training"):
        for path in (ROOT / folder).glob("*.yaml"):
            assert f"streamvis/{folder}/{path.name}" in held
    assert "streamvis/py.typed" in held
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "streamvis").rglob("*.py")}
    assert modules <= held
    pages = (path for path in (ROOT / "streamvis/web/static").rglob("*") if path.is_file())
    assert {str(path.relative_to(ROOT)) for path in pages} <= held


def build(project: Path, what: str, into: Path) -> None:
    code = f"from setuptools import build_meta; build_meta.{what}({str(into)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=project, check=True, capture_output=True)
