"""A server beside a process: started again whatever has happened to it, at the same address."""

import errno
import socket
import subprocess
from contextlib import closing

import pytest
from structlog.testing import capture_logs
from web_servers import wait_for

from streamvis.transport import server_process
from streamvis.transport.server_process import ServerProcess


@pytest.fixture
def listening():
    with closing(socket.create_server(("127.0.0.1", 0))) as one:
        yield one


def test_one_for_which_no_process_is_left_is_started_later(listening, monkeypatch):
    failures = [OSError(errno.EAGAIN, "Resource temporarily unavailable")] * 2
    popen = subprocess.Popen

    def start(*args, **options):
        if failures:
            raise failures.pop()
        return popen(*args, **options)

    monkeypatch.setattr(server_process, "PAUSES_S", (0.01,))
    monkeypatch.setattr(subprocess, "Popen", start)
    server = ServerProcess("timeit", "test server", listening, lambda: b"")
    with capture_logs() as entries, closing(server):
        server.start()
        wait_for(lambda: len(entries) >= 3)
    events = [(one["event"], one.get("reason")) for one in entries[:3]]
    refused = ("test server cannot be started", "Resource temporarily unavailable")
    assert events == [refused, refused, ("test server died", None)]
    assert server.pid is None
