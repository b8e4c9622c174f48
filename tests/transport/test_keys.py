"""Files of keys: what is written, what is read, what is refused."""

import json
import os
import stat

import pytest
import zmq
from structlog.testing import capture_logs

from streamvis.errors import ConfigError, UsageError
from streamvis.transport import keys


@pytest.fixture
def directory(tmp_path):
    keys.new_server(tmp_path / "keys")
    return tmp_path / "keys"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_for_their_owner_alone(directory):
    issued = keys.new_client(directory, "phone")
    assert mode(directory) == mode(directory / "issued") == 0o700
    assert mode(directory / "server.json") == mode(issued) == 0o600
    assert set(json.loads((directory / "clients" / "phone.json").read_bytes())) == {"public"}


def test_pairs_belong_together(directory):
    client = keys.client_keys(keys.new_client(directory, "phone"))
    server = keys.server_keys(directory)
    assert client.server == server.public
    for pair in (client, server):
        assert zmq.curve_public(pair.secret.encode()).decode() == pair.public
    assert keys.listed(directory) == {client.public: "phone"}


def test_a_second_server_pair_is_not_made(directory):
    before = keys.server_keys(directory)
    assert not keys.new_server(directory)
    assert keys.server_keys(directory) == before


def test_a_name_is_given_once_until_it_is_revoked(directory):
    first = keys.client_keys(keys.new_client(directory, "phone"))
    with pytest.raises(UsageError, match=r"there is a client phone.*keys revoke"):
        keys.new_client(directory, "phone")
    keys.revoke(directory, "phone")
    assert keys.listed(directory) == {}
    assert not (directory / "issued" / "phone.json").exists()
    assert keys.client_keys(keys.new_client(directory, "phone")) != first


def test_revoking_a_stranger_names_those_that_are_there(directory):
    keys.new_client(directory, "phone")
    with pytest.raises(UsageError, match=r"stranger\.json: .*clients there: phone"):
        keys.revoke(directory, "stranger")


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "../server", "a/b", "a\n", "x" * 65, "é"])
def test_names_that_are_none(directory, name):
    for use in (keys.new_client, keys.revoke):
        with pytest.raises(UsageError, match="is no name of a client"):
            use(directory, name)
    assert keys.server_keys(directory)


def test_every_change_of_a_client_changes_the_stamp(directory):
    seen = [keys.stamp(directory)]
    keys.new_client(directory, "phone")
    seen.append(keys.stamp(directory))
    path = directory / "clients" / "phone.json"
    path.write_text(json.dumps({"public": "x" * 40}) + "   ")
    seen.append(keys.stamp(directory))
    os.unlink(path)
    seen.append(keys.stamp(directory))
    assert len(set(seen)) == 3
    assert seen[0] == seen[-1]


BAD = [
    "",
    "[]",
    "{}",
    '{"public": "short"}',
    '{"public": 1}',
    "\xff",
    "[" * 3000,
    '{"public": "\xff"}',
    "x" * 10_000,
]


@pytest.mark.parametrize("text", BAD)
def test_a_file_that_holds_no_key_serves_nobody_and_harms_nobody(directory, text):
    phone = keys.client_keys(keys.new_client(directory, "phone"))
    (directory / "clients" / "bad.json").write_bytes(text.encode("latin-1"))
    (directory / "clients" / "folder.json").mkdir()
    (directory / "clients" / "README").write_text("not a key")
    with capture_logs() as logs:
        assert keys.listed(directory) == {phone.public: "phone"}
    assert len(logs) == 2


@pytest.mark.parametrize("text", BAD)
def test_errors_name_the_file_and_quote_no_key(directory, text):
    secret = "S" * 39
    path = directory / "server.json"
    path.write_text(text or json.dumps({"public": "x" * 40, "secret": secret}))
    with pytest.raises(ConfigError, match=r"server\.json is not a file of keys") as error:
        keys.server_keys(directory)
    assert secret not in str(error.value)


def test_a_directory_without_keys_says_how_to_make_them(tmp_path):
    with pytest.raises(ConfigError, match=r"server\.json is not there\..*streamvis keys new"):
        keys.server_keys(tmp_path)
    with pytest.raises(UsageError, match=r"has no server\.json\..*streamvis keys new"):
        keys.clients(tmp_path)
    assert keys.listed(tmp_path / "nowhere") == {}


def test_a_secret_that_others_can_read_is_warned_of(directory):
    path = keys.new_client(directory, "phone")
    path.chmod(0o644)
    with capture_logs() as logs:
        keys.client_keys(path)
    (entry,) = logs
    assert (entry["path"], entry["mode"]) == (str(path), "0644")
