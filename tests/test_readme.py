"""The README's commands exist as written, and its files are there."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from streamvis.cli.main import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:sh)?\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("streamvis")]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line, monkeypatch):
    words = shlex.split(line, comments=True)[1:]
    monkeypatch.chdir(ROOT)
    command: click.Command = typer.main.get_command(app)
    context: click.Context | None = None
    name = "streamvis"
    while isinstance(command, click.Group):
        context = command.make_context(name, words[:1], parent=context)
        name, found, _ = command.resolve_command(context, words[:1])
        assert found is not None
        command, words = found, words[1:]
    command.make_context(name, words, parent=context)  # raises on what it does not know


def test_there_are_commands_and_make_has_the_two_that_it_names():
    assert len(COMMANDS) > 8
    makefile = (ROOT / "Makefile").read_text()
    for verb in re.findall(r"make (\w+)", TEXT):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_every_link_leads_somewhere(target):
    assert target.startswith("http") or (ROOT / target).exists()


def test_every_dependency_has_its_reason():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    shipped = (extras[name] for name in extras if name != "dev")
    asked = [*project["dependencies"], *(one for extra in shipped for one in extra)]
    for requirement in asked:
        name = re.match(r"[A-Za-z0-9_-]+", requirement)
        assert name is not None
        assert name[0].lower() in TEXT.lower(), name[0]
