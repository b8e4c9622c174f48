"""docs/architecture.md names files that exist, counts them rightly, and shows the import layers."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILE = re.compile(r"`([\w/]+\.py)`")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}")[2].partition("\n## ")[0]


@pytest.mark.parametrize("path", sorted(set(FILE.findall(TEXT))))
def test_every_file_is_there(path):
    assert (ROOT / "streamvis" / path).is_file()


@pytest.mark.parametrize(
    ("title", "most"), [("The walk of a frame", 32), ("The walk of a forecast horizon", 15)]
)
def test_the_walks_are_as_long_as_the_page_says(title, most):
    table, _, below = section(title).partition("\nThese are ")
    files = FILE.findall(table)
    assert len(files) == len(set(files)) == int(re.match(r"\d+", below)[0]) <= most


def test_every_package_has_its_layer():
    rows = re.findall(r"^\| (`[^|]+) \|", section("Packages"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    package = ROOT / "streamvis"
    modules = {p.stem for p in package.glob("*.py")} | {
        p.parent.name for p in package.glob("*/__init__.py")
    }
    assert set(named) == modules - {"__init__", "__main__"}
    assert len(named) == len(set(named))


def test_layers_stand_in_the_order_of_the_import_contract():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = project["tool"]["importlinter"]["contracts"][:1]
    layers = [re.findall(r"\w+", layer.replace("streamvis.", "")) for layer in contract["layers"]]
    rank = {name: i for i, names in enumerate(layers) for name in names}
    rows = re.findall(r"^\| (`[^|]+) \|", section("Packages"), re.MULTILINE)
    ranks = [[rank[n] for n in re.findall(r"`(\w+)`", row) if n in rank] for row in rows]
    for above, below in pairwise(ranks):
        assert max(above, default=0) <= min(below, default=99)
