"""Web servers for tests: real ones, in a thread, and what clients say to them."""

import http.client
import json
import threading
import time
from contextlib import closing, contextmanager
from typing import NamedTuple

from waiting import PATIENCE_S
from websockets.sync.client import connect

from streamvis.web.server import WebServer, WebSettings


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]


class Client:
    """Asks a server; each request has a connection of its own."""

    def __init__(self, server):
        self.server = server
        self.port = server.listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            names.setdefault("Content-Type", "application/json")
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with closing(line):
            line.request(method, path, body, names)
            answer = line.getresponse()
            return Reply(answer.status, answer.headers, answer.read())

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def stream(self, query="", **options):
        address = f"ws://{self.host}/ws/events{query}"
        return connect(address, compression=None, open_timeout=PATIENCE_S, **options)


@contextmanager
def serving(out, **settings):
    """Serve a directory at a free port of 127.0.0.1, unless another address is given."""
    given = {"address": "127.0.0.1:0", **settings}
    with closing(WebServer(WebSettings(out=out, **given))) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive())
            assert server.started
            yield Client(server)
        finally:
            server.should_exit = True
            thread.join()


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.01)


def received(stream, kind):
    """Return the messages up to the first one of a kind, this included."""
    found = []
    while not found or found[-1]["kind"] != kind:
        found.append(json.loads(stream.recv(timeout=PATIENCE_S)))
    return found
