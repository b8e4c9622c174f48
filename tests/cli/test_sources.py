"""`streamvis sources`: the sources of a run, changed while it goes on."""

import json

import pytest
from controlled_runs import camera, private_home, under_way
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.errors import ConfigError
from streamvis.runtime import control_client
from streamvis.runtime.control import ListSources
from streamvis.runtime.protocol import AddSource, RemoveSource, RestartSource


@pytest.fixture(autouse=True)
def home():
    with private_home() as home:
        yield home


def call(*arguments, stdin=None):
    return CliRunner().invoke(app, ["sources", *map(str, arguments)], input=stdin)


def refused(result, code, *words):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("streamvis: ")
    assert all(word in line for word in words), line
    assert "s3cret" not in line


def test_the_list_has_every_source_without_passwords():
    with under_way(camera("gate"), camera("yard")):
        table = call("list")
        found = call("list", "--json")
    assert table.exit_code == found.exit_code == 0
    assert "s3cret" not in table.output + found.output
    assert "rtsp://10.0.0.2/yard" in table.stdout
    assert [(s["id"], s["state"], s["kind"]) for s in json.loads(found.stdout)] == [
        ("gate", "online", "url"),
        ("yard", "online", "url"),
    ]


def test_sources_are_added_restarted_removed_and_added_again():
    dock = "dock=rtsp://10.0.0.4/main#read_s=2"
    with under_way(camera("gate")) as run:
        for arguments, said in [
            (("add", dock), "added dock"),
            (("restart", "dock"), "restarted dock"),
            (("remove", "dock"), "removed dock"),
            (("add", dock), "added dock"),
        ]:
            result = call(*arguments)
            assert (result.exit_code, result.stdout) == (0, ""), result.output
            assert result.stderr == f"{said}\n"
        assert [type(fact) for fact in run.facts] == [
            AddSource,
            RestartSource,
            RemoveSource,
            AddSource,
        ]
        assert run.specs["dock"].read_s == 2.0
        assert not run.ended


def test_a_run_may_end_with_the_source_that_is_removed(monkeypatch):
    ask = control_client.ask
    with under_way(camera("gate")) as run:

        def end_first(file, request):
            if isinstance(request, ListSources):
                run.close()
            return ask(file, request)

        monkeypatch.setattr(control_client, "ask", end_first)
        result = call("remove", "gate")
    assert (result.exit_code, result.stderr) == (0, "removed gate\n")


def test_a_source_with_a_password_is_read_from_stdin():
    line = "dock=rtsp://joe:s3cret@10.0.0.4/main\n"
    with under_way(camera("gate")) as run:
        result = call("add", "-", stdin=line)
        assert result.exit_code == 0, result.output
        assert "s3cret" not in result.output
        assert run.specs["dock"].uri == "rtsp://joe:s3cret@10.0.0.4/main"
        refused(call("add", "-", stdin=""), 2, "no source on stdin")
        refused(call("add", "-", stdin=line), 2, "'dock' already", "rtsp://10.0.0.4/main")


def test_paths_are_those_of_the_client(tmp_path, monkeypatch):
    (tmp_path / "film.mp4").touch()
    monkeypatch.chdir(tmp_path)
    with under_way(camera("gate")) as run:
        assert call("add", "film.mp4").exit_code == 0
        assert run.specs["film"].uri == str(tmp_path / "film.mp4")


def test_what_cannot_be_done_says_why_and_changes_nothing():
    with under_way(camera("gate")) as run:
        refused(call("add", "gate=rtsp://10.0.0.9/x"), 2, "'gate' already", "remove it first")
        refused(call("add", "dock=gopher://host/path"), 2, "gopher")
        refused(call("add", "dock=/nowhere.mp4"), 3, "/nowhere.mp4")
        refused(call("remove", "gaet"), 2, "no source 'gaet'", "did you mean gate?")
        refused(call("restart", "yard"), 2, "no source 'yard'")
        refused(call("reload"), 2, "no sources file")
        assert run.facts == []


def test_a_sources_file_is_read_again(tmp_path):
    files = [ConfigError("site.yaml: torn"), {"gate": camera("gate"), "dock": camera("dock")}]

    def load_file():
        found = files.pop(0) if len(files) > 1 else files[0]
        if isinstance(found, Exception):
            raise found
        return found

    listed = {"gate": camera("gate")}
    with under_way(camera("gate"), load_file=load_file, listed=listed):
        refused(call("reload"), 2, "site.yaml: torn")
        assert call("reload").stderr == "added dock\n"
        assert call("reload").stderr == "nothing has changed\n"
        assert [s["origin"] for s in json.loads(call("list", "--json").stdout)] == ["file", "file"]


def test_without_a_run_or_with_several_the_codes_are_those_documented(tmp_path):
    refused(call("list"), 1, "no run of this user is under way")
    refused(call("list", "--run", tmp_path), 1, str(tmp_path), "no run is under way there")
    with under_way(camera("gate"), out=tmp_path) as run, under_way(camera("yard")):
        refused(call("list"), 2, "2 runs", "--run PID", f"process {run.file.pid}", str(tmp_path))
        found = call("list", "--json", "--run", tmp_path)
        assert [s["id"] for s in json.loads(found.stdout)] == ["gate"]
