import os
import stat
import tempfile
from pathlib import Path

import pytest
import zmq
from waiting import PATIENCE_S

from streamvis.errors import RunError
from streamvis.transport.sockets import MAX_FRAMES, Client, Server, private_directory


@pytest.fixture
def ends():
    with private_directory() as home:
        server = Server(f"ipc://{home}/hub")
        client = Client(f"ipc://{home}/hub", b"one")
        yield server, client
        client.close()
        server.close()


def heard(server, count):
    """The next messages; waits for them."""
    messages = []
    while len(messages) < count:
        assert server.socket.poll(1000 * PATIENCE_S), "nothing came"
        messages += server.receive()
    return messages


def test_messages_go_both_ways_in_order(ends):
    server, client = ends
    for i in range(100):
        client.send([b"%d" % i, b"blob"])
    assert heard(server, 100) == [(b"one", [b"%d" % i, b"blob"]) for i in range(100)]
    for i in range(100):
        assert server.send(b"one", [b"%d" % i])
    assert [client.receive(5)[0] for _ in range(100)] == [b"%d" % i for i in range(100)]


def test_sending_to_an_absent_peer_returns_false(ends):
    server, _ = ends
    assert not server.send(b"nobody", [b"x"])


def test_receiving_returns_after_the_timeout(ends):
    assert ends[1].receive(0) is None


def test_messages_of_no_or_too_many_frames_are_counted_and_dropped(ends):
    server, client = ends
    client.socket.send_multipart([b"x"] * (MAX_FRAMES + 1))
    client.send([b"fine"])
    assert heard(server, 1) == [(b"one", [b"fine"])]
    assert server.refused == 1


def test_the_last_messages_arrive_though_the_client_closes_at_once(ends):
    server, _ = ends
    endpoint = server.socket.getsockopt_string(zmq.LAST_ENDPOINT)
    client = Client(endpoint, b"short")
    client.send([b"bye"])
    client.close()
    assert heard(server, 1) == [(b"short", [b"bye"])]


def test_the_directory_is_private_and_removed():
    with private_directory() as home:
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert home.stat().st_uid == os.getuid()
    assert not home.exists()


def test_a_directory_of_a_dead_run_is_removed_and_a_living_one_kept(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # tmp_path may be too long for a socket
        monkeypatch.setattr("tempfile.tempdir", short)
        dead = Path(short) / "streamvis-4194303-1-abcd"
        dead.mkdir()
        (dead / "hub").touch()
        with private_directory() as first, private_directory() as second:
            assert sorted(Path(short).iterdir()) == sorted([first, second])


def test_a_system_without_a_temporary_directory_names_tmpdir(monkeypatch):
    def none_usable():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none_usable)
    monkeypatch.setenv("TMPDIR", "/gone")
    message = r"TMPDIR is /gone.*Set TMPDIR to"
    with pytest.raises(RunError, match=message), private_directory():
        pass


def test_a_temporary_directory_that_is_read_only_names_tmpdir(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    message = r"directory for sockets cannot be created: .*Set TMPDIR to"
    with pytest.raises(RunError, match=message), private_directory():
        pass


def test_a_long_temporary_directory_does_not_break_the_socket(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with private_directory() as home:
        server = Server(f"ipc://{home}/hub")
        server.close()
