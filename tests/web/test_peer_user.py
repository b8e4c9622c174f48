"""Without a token, other users of the machine read what they may, and change nothing."""

import ctypes
import http.client
import os
import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest
from event_logs import WALK, logged
from web_servers import PATIENCE_S, serving, wait_for
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from streamvis.events.log import FILE_NAME
from streamvis.web.peer_user import find_user, is_owner, user_of

OTHER = 54321  # a user without an account
SHARED = ("/", "/reference", "/static/page.css", "/api/status", "/api/sources", "/api/events")
SHARED += ("/api/openapi.json", "/health/live", "/metrics", "/api/resources", "/api/summary")
OWN = [
    ("POST", "/api/sources", b'{"id": "a", "uri": "rtsp://192.0.2.1/x"}'),
    ("DELETE", "/api/sources/gate", None),
    ("PUT", "/api/zones/gate", b'{"zones": []}'),
    ("GET", "/api/picture/gate", None),  # and what nobody has called shared
    ("GET", "/api/nothing", None),
]
HEAD = "sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode"
CLIENT, SERVER = ("127.0.0.1", 45392), ("127.0.0.1", 8080)
# of proc_pid_net(5), as kernels on little-endian machines write it
ROW = "1: 0100007F:B150 0100007F:1F90 {state} 00000000:00000000 00:00000000 00000000 {user} 0 {ino}"


def row(state="01", user=1000, ino=77):
    return ROW.format(state=state, user=user, ino=ino)


@pytest.fixture
def as_other():
    """A function that opens sockets of another user, in a thread as which the kernel sees them."""
    if os.geteuid() != 0:
        pytest.skip("only root opens a connection as another user: run the tests as root")
    libc = ctypes.CDLL(None)

    @contextmanager
    def as_user():
        libc.setfsuid(OTHER)  # of this thread alone; the owner of what it opens
        try:
            yield
        finally:
            libc.setfsuid(os.geteuid())

    return as_user


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "gate", WALK)
    return tmp_path


@pytest.fixture
def client(out):
    with serving(out) as found:
        yield found


def asked(port, method, path, body, as_user):
    """Status and body of an answer to another user."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as line:
        with as_user():
            line.connect()
        headers = {"Content-Type": "application/json"} if body else {}
        line.request(method, path, body, headers)
        answer = line.getresponse()
        return answer.status, answer.read()


def test_the_owner_of_a_connection_is_the_one_in_its_row():
    assert find_user([HEAD, row()], CLIENT, SERVER) == 1000
    assert find_user([HEAD, row()], SERVER, CLIENT) is None  # the other end of it
    assert find_user([HEAD, row()], ("127.0.0.2", 45392), SERVER) is None
    for state in ("04", "05"):  # the client has sent all that it will send
        assert find_user([row(state)], CLIENT, SERVER) == 1000


@pytest.mark.parametrize(
    "other",
    [
        row(user=0, ino=0),  # its process has closed it
        row("06", 0, 0),  # TIME_WAIT
        row("02", 1000),  # SYN_SENT: it has sent nothing
        row("0A", 1000),
        "",
        "1: x",
        HEAD,
    ],
)
def test_a_socket_that_is_not_connected_has_no_owner(other):
    assert find_user([other], CLIENT, SERVER) is None
    assert find_user([other, row()], CLIENT, SERVER) == 1000


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::"])
def test_the_kernel_says_whose_a_connection_is(address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    with closing(listener):
        try:
            listener.bind((address, 0))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}; enable it")
        listener.listen()
        port = listener.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1" if address == "::" else address, port))):
            line, peer = listener.accept()
            with closing(line):
                assert user_of(peer[:2], line.getsockname()[:2]) == os.geteuid()
        assert user_of(peer[:2], ("127.0.0.1", port)) is None


def test_another_user_is_told_by_the_kernel(as_other):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        with as_other():
            theirs = socket.create_connection(listener.getsockname())
        line, peer = listener.accept()
        with closing(line):
            assert user_of(peer, line.getsockname()) == OTHER
            theirs.shutdown(socket.SHUT_WR)
            assert user_of(peer, line.getsockname()) == OTHER
            theirs.close()
            wait_for(lambda: user_of(peer, line.getsockname()) is None)


def test_only_this_user_and_root_own_the_run():
    assert is_owner(os.geteuid())
    assert is_owner(0)
    assert not is_owner(OTHER)
    assert not is_owner(None)


def test_another_user_reads_what_is_shared_and_changes_nothing(client, as_other):
    for path in SHARED:
        assert asked(client.port, "GET", path, None, as_other)[0] == client.get(path).status
    for method, path, body in OWN:
        status, text = asked(client.port, method, path, body, as_other)
        assert status == 403, path
        assert b"--token-file" in text
        assert str(OTHER).encode() in text
    # the same requests of this user
    answers = [client.ask(m, p, b, Content_Type="application/json").status for m, p, b in OWN]
    assert answers == [503, 503, 503, *answers[3:4], 404]


def test_a_user_that_leaves_at_once_is_not_taken_for_root(client, as_other, monkeypatch):
    """Of a closed socket the kernel names root as the owner."""
    looked = threading.Event()
    monkeypatch.setattr("streamvis.web.guard.user_of", lambda *ends: _late(ends, looked))
    asked_run = []
    monkeypatch.setattr(
        "streamvis.web.run_folder.RunFolder.ask", lambda self, request: asked_run.append(request)
    )
    with as_other():
        line = socket.create_connection(("127.0.0.1", client.port))
    head = f"DELETE /api/sources/gate HTTP/1.1\r\nHost: {client.host}\r\n\r\n"
    line.sendall(head.encode())
    line.close()
    assert looked.wait(PATIENCE_S)
    assert client.get("/api/status").status == 200
    assert asked_run == []


def _late(ends, looked):
    """Look when the client has certainly gone."""
    time.sleep(0.1)
    found = user_of(*ends)
    looked.set()
    return found


def test_a_user_that_cannot_be_told_changes_nothing(client, monkeypatch):
    monkeypatch.setattr("streamvis.web.guard.user_of", lambda *ends: None)
    for method, path, body in OWN:
        refused = client.ask(method, path, body, Content_Type="application/json")
        assert (refused.status, refused.error["where"]) == (403, "the request")
        assert refused.error["found"] == "its user cannot be told"
    assert client.get("/api/status").status == 200
    assert client.ask("POST", "/api/logout").status == 200
    with client.stream() as stream:
        assert stream.recv(timeout=PATIENCE_S)
    address = f"{client.host}/ws/video/gate"
    with pytest.raises(InvalidStatus) as refused, connect(f"ws://{address}"):
        pass
    assert refused.value.response.status_code == 403


def test_with_a_token_the_user_does_not_count(out, tmp_path, as_other):
    with serving(out, token_file=tmp_path / "token") as client:
        token = (tmp_path / "token").read_text().strip()
        with closing(http.client.HTTPConnection("127.0.0.1", client.port)) as line:
            with as_other():
                line.connect()
            line.request(
                "DELETE", "/api/sources/gate", headers={"Authorization": f"Bearer {token}"}
            )
            assert line.getresponse().status == 503  # there is no run
