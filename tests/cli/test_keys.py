"""`streamvis keys`."""

import json
import shlex
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.config import load_pipeline
from streamvis.events import follow
from streamvis.events.feed import Feed
from streamvis.transport import keys


def call(*arguments):
    return CliRunner().invoke(app, ["keys", *map(str, arguments)])


def test_a_client_from_its_first_day_to_its_last(tmp_path):
    directory = tmp_path / "keys"
    made = call("new", directory)
    assert made.exit_code == 0
    assert made.stdout.strip() == str(directory / "issued" / "client.json")
    phone = call("new", directory, "--client", "phone", "--json")
    assert json.loads(phone.stdout) == {
        "client": str(directory / "issued" / "phone.json"),
        "server": keys.server_keys(directory).public,
    }
    shown = json.loads(call("list", directory, "--json").stdout)
    assert [one["name"] for one in shown["clients"]] == ["client", "phone"]
    assert call("revoke", directory, "client").exit_code == 0
    table = call("list", directory)
    assert "phone" in table.stdout
    assert " client " not in table.stdout.splitlines()[-1]
    secrets = [keys.server_keys(directory).secret]
    secrets.append(keys.client_keys(directory / "issued" / "phone.json").secret)
    for result in (made, phone, table):
        assert not any(secret in result.output for secret in secrets)


def test_mistakes_are_one_line_and_exit_code_2(tmp_path):
    call("new", tmp_path / "keys")
    file = tmp_path / "file"
    file.write_text("")
    without_clients = tmp_path / "without clients"
    call("new", without_clients)
    shutil.rmtree(without_clients / "clients")
    for arguments in (
        ["new", tmp_path / "keys"],  # whose?
        ["new", tmp_path / "keys", "--client", "client"],
        ["new", tmp_path / "keys", "--client", "../client"],
        ["new", file],
        ["list", tmp_path],
        ["list", without_clients],
        ["revoke", tmp_path / "keys", "nobody"],
    ):
        result = call(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (arguments, result.output)


def test_a_file_of_a_client_that_is_not_there_is_said_with_how_to_make_one(tmp_path):
    for path, reason in (
        (tmp_path / "absent", "is not there, or cannot be read"),
        (tmp_path, "is a directory"),
    ):
        result = CliRunner().invoke(app, ["events", "tail", "--keys", str(path)])
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert f"{path} {reason}. Expected a client's file, issued/NAME.json" in result.stderr
        assert "streamvis keys new DIR --client NAME" in result.stderr


def test_tail_with_keys_says_that_the_server_may_have_others(tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "SILENCE_S", 0.3)
    call("new", tmp_path / "ours")
    call("new", tmp_path / "theirs")
    with closing(Feed("tcp://127.0.0.1:*", epoch="e", keys=tmp_path / "ours")) as feed:
        file = str(tmp_path / "theirs" / "issued" / "client.json")
        options = ["--connect", feed.endpoint, "--keys", file, "--timeout-s", "1"]
        result = CliRunner().invoke(app, ["events", "tail", *options])
    assert result.exit_code == 3
    assert f"nothing at {feed.endpoint} yet, or its keys are not those of --keys" in result.stderr


def documented():
    """The commands of docs/security.md."""
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    block = text.split("```bash\n")[1].split("```")[0]
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def test_the_documented_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new, another, run, tail, shown, revoke = documented()
    for command in (new, another):
        assert CliRunner().invoke(app, command[1:]).exit_code == 0
    settings = dict(one.split("=", 1) for one in run if one.startswith("publish."))
    publish = load_pipeline(None, settings).stages[-1].run
    with closing(Feed("tcp://127.0.0.1:*", epoch="e", keys=Path(publish.keys))) as feed:
        feed.open_source("cam1")
        for keys_file in ("keys/issued/phone.json", "keys/issued/client.json"):
            followed = [
                {"tcp://server:5560": feed.endpoint, "client.json": keys_file}.get(word, word)
                for word in tail
            ]
            command = [sys.executable, "-m", *followed, "--family", "hb", "--json"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert json.loads(process.stdout.readline())["type"] == "hb"
                process.kill()
        assert "phone" in CliRunner().invoke(app, shown[1:]).stdout
        kept = (tmp_path / "keys" / "issued" / "phone.json").read_bytes()
        assert CliRunner().invoke(app, revoke[1:]).exit_code == 0
        stolen = tmp_path / "stolen.json"
        stolen.write_bytes(kept)
        for keys_option in ([], ["--keys", str(stolen)]):
            refused = CliRunner().invoke(
                app, ["events", "tail", "--connect", feed.endpoint, *keys_option]
            )
            assert refused.exit_code == 2, refused.output
