"""docs/zones.md: its file is right, every command of it runs, its tables have every setting."""

import re
import shlex
from pathlib import Path

import msgspec
import pytest
import yaml
from controlled_runs import camera, private_home, under_way
from test_readme import quick
from typer.testing import CliRunner
from zone_logs import SECOND, move, write_log

from streamvis.cli.main import app
from streamvis.config import load_site
from streamvis.config.zones import read_zones, zones_text
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence
from streamvis.zone_layout import Line, Zone, ZoneLayout

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/zones.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for kind, block in BLOCKS
    for line in block.splitlines()
    if not kind and line.startswith("streamvis ")
]
OF_A_RUN = r"^streamvis (zones (list|set)|sources) "
SITE = "sources: [{id: gate, uri: gate.mp4, zones: door.yaml}]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the commands name; door.yaml is the page's own."""
    home = tmp_path_factory.mktemp("zones")
    scene = SyntheticScene(seed=1, people=2, size=(96, 64), fps=10, seconds=1)
    clip = (write_sequence(home / "scene", scene) / "video.mp4").read_bytes()
    (home / "recordings").mkdir()
    for name in ("gate.mp4", "yard.mp4", "recordings/a.mp4"):
        (home / name).write_bytes(clip)
    (example,) = (block for kind, block in BLOCKS if kind == "yaml" and "door.yaml" in block)
    (home / "door.yaml").write_text(example)
    (home / "new.yaml").write_text(example)
    (home / "site.yaml").write_text(SITE)
    (home / "monday").mkdir()
    crossing = [(n * SECOND // 10, move("gate:1:1", (320.0, 200.0 + 2 * n))) for n in range(100)]
    write_log(home / "monday/events.db", crossing, source="gate")
    return home


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs(line, folder, one_thread, monkeypatch):
    monkeypatch.chdir(folder)
    words = shlex.split(line, comments=True)[1:]
    if "report new.db" in line and not (folder / "new.db").exists():  # another process made it
        write_log(folder / "new.db", [], source="gate")
    elif "--out new.db" in line:
        (folder / "new.db").unlink(missing_ok=True)
    if re.search(OF_A_RUN, line):
        listed = {"gate": camera("gate", zones=ZoneLayout())}
        with (
            private_home(),
            under_way(*listed.values(), load_file=lambda: listed, zones=ZoneLayout()),
        ):
            result = CliRunner().invoke(app, words)
    else:
        result = CliRunner().invoke(app, quick(words, ""))
    assert result.exit_code == 0, result.output
    for written in re.findall(r"--(?:out|picture) (\S+)", line):
        assert (folder / written).exists(), written


def test_there_are_commands_of_every_kind():
    names = {" ".join(line.split()[1:3]) for line in COMMANDS}
    assert {"zones check", "zones list", "zones set", "run zones"} <= names
    assert {"zones report", "zones replay"} <= names


def test_the_table_of_files_has_every_column(folder, tmp_path):
    log = str(folder / "monday")
    result = CliRunner().invoke(app, ["zones", "report", log, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    shown = dict(re.findall(r"^\| `(\w+\.csv)` \| .*? \| (.*) \|$", TEXT, re.MULTILINE))
    assert sorted(shown) == sorted(path.name for path in tmp_path.glob("*.csv"))
    for name, columns in shown.items():
        head = (tmp_path / name).read_text().splitlines()[0]
        assert head.split(",") == re.findall(r"`(\w+)`", columns), name


def table(title):
    section = re.search(rf"^## {title}\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^\| (`.*?) \|.*?\| (.*?) \| .* \|$", section, re.MULTILINE)
    return {key: default for keys, default in rows for key in re.findall(r"`(\w+)`", keys)}


@pytest.mark.parametrize(
    ("title", "kind"), [("Settings of a zone", Zone), ("Settings of a line", Line)]
)
def test_the_tables_have_every_setting_with_its_default(title, kind):
    shown = table(title)
    assert list(shown) == [field.name for field in msgspec.structs.fields(kind)]
    for field in msgspec.structs.fields(kind):
        text = shown[field.name].strip("`")
        if field.required:
            assert text == "required"
        elif isinstance(field.default, tuple):
            assert text == ", ".join(f"{v:g}" if isinstance(v, float) else v for v in field.default)
        elif field.default is None:
            assert text == "none"
        else:
            value = field.default if isinstance(field.default, str) else yaml.safe_load(text)
            assert value == field.default, field.name


def test_the_example_is_what_it_says(folder):
    layout = read_zones(folder / "door.yaml")
    assert [zone.name for zone in layout.zones] == ["door", "queue"]
    assert [line.name for line in layout.lines] == ["gate"]
    (folder / "again.yaml").write_text(zones_text(layout))
    assert read_zones(folder / "again.yaml") == layout


def test_the_zones_in_the_comments_of_the_sample_sources_file_are_right(tmp_path):
    text = (ROOT / "configs/site.yaml").read_text(encoding="utf-8")
    commented = re.search(r"^    # zones: # of a pipeline.*?(?=^\S|\Z)", text, re.M | re.S)[0]
    path = tmp_path / "site.yaml"
    path.write_text(text.replace(commented, commented.replace("    # ", "    ")))
    *_, scene = load_site(path, {"GATE_PASSWORD": "x"}).specs()
    assert [zone.space for zone in scene.zones.zones] == ["ground"]
    assert [line.name for line in scene.zones.lines] == ["gate"]
