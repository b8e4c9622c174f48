"""Servers that ask for keys which a client has not, or have none that it asks for."""

import contextlib
import socket
import threading

import pytest
import zmq
from feed_processes import publisher

from streamvis.errors import UsageError
from streamvis.transport import keys
from streamvis.transport.refusal import check

CLOSED = [  # what libzmq reports of a server that closed the connection without a word: EPIPE
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL.to_bytes(2, "little") + (32).to_bytes(4, "little"),
    b"tcp://127.0.0.1:5560",
]


@pytest.mark.parametrize(
    ("server_has_keys", "with_keys", "message"),
    [
        (False, True, "has no keys, and this client asks for them"),
        (True, False, "serves only clients with keys"),
        (True, True, None),
        (False, False, None),
    ],
)
def test_a_server_that_closes_without_a_word_is_asked_what_it_speaks(
    server_has_keys, with_keys, message, tmp_path
):
    directory = tmp_path / "keys"
    keys.new_server(directory)
    used = directory if server_has_keys else ""
    with publisher("tcp://127.0.0.1:*", directory=used) as (_, endpoint):
        expected = pytest.raises(UsageError, match=message) if message else contextlib.nullcontext()
        with expected:
            check(CLOSED, endpoint, with_keys=with_keys)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 20])
def test_a_server_that_is_none_of_ours_is_tried_again(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with server.accept()[0] as client:
                client.recv(64)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        check(CLOSED, f"tcp://127.0.0.1:{server.getsockname()[1]}", with_keys=True)
        thread.join()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "ipc:///tmp/none", "tcp://nowhere"])
def test_a_server_that_is_gone_is_tried_again(endpoint):
    check(CLOSED, endpoint, with_keys=True)
