"""The README's commands are run on short clips, its links lead somewhere, its table is complete.

Commands that need real data, a camera, a download or hours are only parsed, each with its reason.
"""

import os
import re
import shlex
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from streamvis import config
from streamvis.cli.main import app
from streamvis.events.feed import Feed
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(text: str) -> Iterator[str]:
    """Lines of the code blocks that call streamvis."""
    inside = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside and line.startswith("streamvis "):
            yield line


COMMANDS = list(commands(TEXT))
NOT_RUN = {  # the first that is found says why
    r"://|camera \d": "needs a camera or the network",
    r"\.(onnx|pth|safetensors)": "needs weights that are not shipped",
    r"^streamvis train ": "training takes longer than a test may",
    r"\b(CamVid|camvid|actions|things|sequence|driving|coco)/": "needs real data",
    r"^streamvis (demo|doctor)$": "tests/cli/test_demo.py and tests/test_doctor.py run it",
    r"^streamvis run --sources ": "goes on until it is stopped",
    r"^streamvis (events tail .*--wait|web|sources|status)\b": "goes on until it is stopped",
    r"^streamvis bench( --json)?$": "takes minutes: `make bench`",
    r"--engine ray|--on one-gpu|cuda": "needs Ray or a GPU",
}
CHEAP = {  # options that make a stage quick, where its pipeline has it
    "detect": ("engine=torch", "short_side=64"),
    "embed": ("engine=torch",),
    "publish": ("bind=none",),
}
QUICK = {  # options appended to a command; the last one of a name counts
    "bench actions": "--people 1 --per-second 2 --seconds 1",
    "bench embedder": "--people 2 --rounds 1",
    "label": "--every 0.5",
    "eval detect": "--short-side 64",
    "eval reid": "--every 1 --apart 0.5",
}
POINTS = "u,v,x,y\n25,58,-2,7\n71,58,2,7\n76,40,4,12\n20,40,-4,12\n48,32,0,16\n48,49,0,9\n"


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)[1:]


def quick(words: list[str], address: str) -> list[str]:
    """The command's words, and options that make it quick: short clips are slow to start with."""
    name = words[0]
    words = [word.replace("seconds=10", "seconds=1&size=96x64") for word in words]
    if name in ("run", "batch"):
        (chosen,) = words[1:2] if name == "run" and words[1][:1] != "-" else (None,)
        stages = config.load_pipeline(chosen and Path(chosen)).stages
        changes = [f"{s.name}.{one}" for s in stages for one in CHEAP.get(s.name, ())]
        words = [*words, *(word for one in changes for word in ("--set", one))]
        return [*words, "--engine", "inline"] if name == "run" else words
    if words[:2] == ["events", "tail"]:
        return [*words, "--connect", address]
    more = QUICK.get(" ".join(words[:2]), QUICK.get(name, ""))
    return [*words, *more.split()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The videos and files that the commands name."""
    home = tmp_path_factory.mktemp("readme")
    scene = SyntheticScene(seed=1, people=2, size=(96, 64), fps=10, seconds=1)
    clip = write_sequence(home / "scene", scene) / "video.mp4"
    people = SyntheticScene(seed=3, people=4, size=(192, 144), fps=5, seconds=2)
    write_sequence(home / "MOT/PETS09-S2L1", people, images=True)
    for name in re.findall(r"[\w/-]+\.(?:mp4|avi)\b", "\n".join(COMMANDS)):
        (home / name).write_bytes(clip.read_bytes())
    (home / "recordings/monday").mkdir(parents=True)
    for name in ("a.mp4", "monday/b.mp4"):
        (home / "recordings" / name).write_bytes(clip.read_bytes())
    (home / "points.csv").write_text(POINTS)
    (home / "door.yaml").write_text("zones: [{name: door, polygon: [[0, 0.5], [1, 0.5], [1, 1]]}]")
    rows = (f"{n},-1,{10 + n},20,12,30,0.9" for n in range(1, 11))
    (home / "det.txt").write_text("".join(f"{row}\n" for row in rows))
    return home


@contextmanager
def feed() -> Iterator[str]:
    """The address of a feed that ends by itself."""
    with tempfile.TemporaryDirectory() as place:
        feed = Feed(f"ipc://{place}/feed", epoch="e")
        closing = threading.Timer(1, feed.close, kwargs={"ended": True})
        closing.start()
        try:
            feed.open_source("a")
            yield feed.endpoint
        finally:
            closing.join()


def play(line: str) -> None:
    words = words_of(line)
    with feed() if words[:2] == ["events", "tail"] else nullcontext("") as address:
        result = CliRunner().invoke(app, quick(words, address))
    assert result.exit_code == 0, result.output
    for written in re.findall(r"--(?:out|sheet|plot) (\S+)", line):
        assert Path(written).exists(), written


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs(line, folder, one_thread, monkeypatch):
    for pattern, reason in NOT_RUN.items():
        if re.search(pattern, shlex.join(["streamvis", *words_of(line)])):
            pytest.skip(reason)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))  # placements name some
    for earlier in COMMANDS[: COMMANDS.index(line)]:  # what the line goes on from, if it is not
        made = re.search(r"--out (\S+)", earlier)
        if made and not Path(made[1]).exists() and made[1] in words_of(line):
            play(earlier)
    play(line)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line, monkeypatch):
    words = words_of(line)
    monkeypatch.chdir(ROOT)
    command: click.Command = typer.main.get_command(app)
    context: click.Context | None = None
    name = "streamvis"
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = command.make_context(name, words[:1], parent=context)
        name, found, _ = command.resolve_command(context, words[:1])
        assert found is not None
        command, words = found, words[1:]
    command.make_context(name, words, parent=context)  # raises on what it does not know


def test_there_are_commands_and_make_has_those_that_it_names():
    assert len(COMMANDS) > 8
    run = [line for line in COMMANDS if not any(re.search(one, line) for one in NOT_RUN)]
    assert len(run) >= len(COMMANDS) / 3
    makefile = (ROOT / "Makefile").read_text()
    for verb in re.findall(r"make (\w+)", TEXT):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", TEXT))))
def test_every_link_leads_somewhere(target):
    assert target.startswith("http") or (ROOT / target).exists()


def reasons() -> dict[tuple[str, str], str]:
    """Why there is which package, by extra and name, from the table of dependencies."""
    table = re.search(SECTION, TEXT)[0].partition("|---")[2]  # below its head
    rows = re.findall(r"^\| (?:\*\[(\w+)\]\* )?([\w, -]+?) \| (.+) \|$", table, re.MULTILINE)
    return {(extra, name): why for extra, names, why in rows for name in names.split(", ")}


SECTION = re.compile(r"^#+ Dependencies.*?(?=^#|\Z)", re.DOTALL | re.MULTILINE)


def test_every_dependency_has_its_reason_and_no_other_package_has_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {"": project["dependencies"], **project["optional-dependencies"]}
    name = re.compile(r"[A-Za-z0-9_-]+")
    wanted = {(extra, name.match(one)[0]) for extra, many in asked.items() for one in many}
    core = {package for extra, package in wanted if not extra}
    wanted = {
        (extra, one) for extra, one in wanted if extra != "dev" and (not extra or one not in core)
    }
    given = {(extra, one) for extra, one in reasons() if extra != "dev"}
    assert given == wanted
