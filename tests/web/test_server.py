"""The server itself: its address, its life as a process, connections that do not behave."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing

import pytest
from event_logs import WALK, logged
from typer.testing import CliRunner
from web_servers import PATIENCE_S, serving, wait_for

from streamvis.cli.main import app
from streamvis.errors import RunError, UsageError
from streamvis.events.log import FILE_NAME
from streamvis.web import server
from streamvis.web.server import WebServer, WebSettings


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "cam1", WALK)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"address": "0.0.0.0:0"}, "--token-file"),
        ({"address": "[::]:0"}, "--token-file"),
        ({"address": ":8080"}, "127.0.0.1:8080"),
        ({"address": "8080"}, "127.0.0.1:8080"),
        ({"address": "127.0.0.1:70000"}, "127.0.0.1:8080"),
        ({"address": "cameras.example:80"}, "--web cameras.example:80 is not an address"),
    ],
)
def test_addresses_that_are_refused(out, settings, word):
    with pytest.raises(UsageError) as told:
        WebServer(WebSettings(out=out, **settings))
    assert word in str(told.value)


def test_an_address_in_use_and_a_directory_without_a_run(out, tmp_path):
    with serving(out) as client, pytest.raises(RunError) as told:
        WebServer(WebSettings(out=out, address=client.host))
    assert "in use" in str(told.value)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere", out / FILE_NAME):
        with pytest.raises(UsageError) as told:
            WebServer(WebSettings(out=path))
        assert str(path) in str(told.value)


def test_with_a_token_other_addresses_are_served(out):
    with serving(out, address="0.0.0.0:0", token_file=out / "token") as client:
        token = (out / "token").read_text().strip()
        assert client.get("/api/status").status == 401
        assert client.get("/api/status", Authorization=f"Bearer {token}").status == 200
    with serving(out, address="[::1]:0") as client:
        assert client.server.url == f"http://[::1]:{client.port}/"


def connected(client, count, stack):
    return [
        stack.enter_context(
            closing(socket.create_connection(("127.0.0.1", client.port), PATIENCE_S))
        )
        for _ in range(count)
    ]


def is_closed(line):
    """Whether the server has closed a connection, or does so soon."""
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


def test_connections_without_a_request_are_closed(out, monkeypatch):
    monkeypatch.setattr(server, "SWEEP_S", 0.05)
    monkeypatch.setattr(server, "FIRST_REQUEST_S", 0.3)
    with serving(out) as client, ExitStack() as stack:
        lines = connected(client, 3, stack)
        lines[1].sendall(b"GET / HTTP/1.1\r\nHost: local")  # and no more
        lines[2].sendall(b"G")
        assert all(map(is_closed, lines))
        wait_for(lambda: not client.server.server_state.connections)


def test_among_many_connections_there_is_room_for_a_request(out, monkeypatch):
    monkeypatch.setattr(server, "SWEEP_S", 0.05)
    with serving(out) as client, ExitStack() as stack:
        first = connected(client, 10, stack)
        wait_for(lambda: len(client.server.server_state.connections) == 10)
        time.sleep(0.1)
        connected(client, 300, stack)
        # once all of them have been accepted, and the surplus was closed
        wait_for(lambda: client.get("/api/status").status == 200)
        wait_for(lambda: len(client.server.server_state.connections) <= server.IDLE_CONNECTIONS)
        assert client.get("/api/status").status == 200
        assert all(map(is_closed, first))  # the oldest ones had to go


def test_the_server_ends_while_a_client_closes_its_websocket(out):
    with serving(out) as client, client.stream():
        (line,) = client.server.server_state.connections

        async def close_and_end():
            line.data_received(bytes([0x88, 0x80, 0, 0, 0, 0]))  # a Close frame, mask 0
            line.shutdown()

        asyncio.run_coroutine_threadsafe(close_and_end(), line.loop).result(PATIENCE_S)
        wait_for(lambda: not client.server.server_state.connections)


def test_the_command_serves_until_it_is_interrupted(out):
    command = [sys.executable, "-m", "streamvis", "web", str(out), "--web", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = process.stderr.readline()
            address = re.match(r"http://127\.0\.0\.1:(\d+)/ serves ", said)
            with closing(socket.socket()) as line:
                line.settimeout(PATIENCE_S)
                wait_for(lambda: line.connect_ex(("127.0.0.1", int(address[1]))) == 0)
                line.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert line.recv(4096).startswith(b"HTTP/1.1 200 ")
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr.read() == "streamvis: interrupted\n"


def test_the_command_says_what_is_wrong(tmp_path):
    result = CliRunner().invoke(app, ["web", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{tmp_path} has no run" in result.stderr
    (tmp_path / FILE_NAME).touch()
    result = CliRunner().invoke(app, ["web", str(tmp_path), "--web", "0.0.0.0:0"])
    assert result.exit_code == 2
    assert "--token-file" in result.stderr
