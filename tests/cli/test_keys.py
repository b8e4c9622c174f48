"""`streamvis keys`."""

import json

from typer.testing import CliRunner

from streamvis.cli.main import app
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
    for arguments in (
        ["new", tmp_path / "keys"],  # whose?
        ["new", tmp_path / "keys", "--client", "client"],
        ["new", tmp_path / "keys", "--client", "../client"],
        ["new", file],
        ["list", tmp_path],
        ["revoke", tmp_path / "keys", "nobody"],
    ):
        result = call(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (arguments, result.output)
