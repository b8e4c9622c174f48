"""`streamvis doctor` examines this machine: facts, weights verified, and an exit code."""

import json

import pytest
from typer.testing import CliRunner

from streamvis import doctor
from streamvis.cli.main import app
from streamvis.models.weights import shipped


@pytest.fixture(scope="module")
def report():
    return doctor.examine()


def test_a_machine_that_runs_the_tests_is_not_broken(report):
    assert not report.broken
    assert {"streamvis", "python", "cores", "torch", "opencv", "video"} <= set(report.facts)
    assert all(report.facts.values())


def test_every_shipped_file_of_weights_is_verified(report):
    assert len(shipped()) > 3
    assert {report.facts[name] for name in shipped()} == {"verified"}


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_prints_facts_and_advice_and_fails_when_something_is_broken(
    monkeypatch, broken
):
    found = doctor.Examination({"torch": "2.9"}, ["pip install x"], broken)
    monkeypatch.setattr(doctor, "examine", lambda: found)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == broken
    assert json.loads(result.stdout) == {
        "facts": {"torch": "2.9"},
        "advice": ["pip install x"],
        "broken": broken,
    }
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == broken
    assert [line.split(maxsplit=1) for line in result.stdout.splitlines()] == [
        ["torch", "2.9"],
        ["advice", "pip install x"],
    ]
