"""A small HTTP server for pages that only report: metrics and health, without authentication."""

import ipaddress
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any

from streamvis.errors import RunError, UsageError
from streamvis.logs import log

TIMEOUT_S = 5.0  # for a client to send its request, and to take the answer
CONNECTIONS = 16  # at once; the oldest is closed for another one
POLL_S = 0.1  # at most, from `close` to its end
PAUSE_S = 0.1  # before the next attempt to accept, where no descriptor is free
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
EXPECTED = "expected ADDRESS:PORT of this machine, such as 127.0.0.1:"
PORT = 9100  # of the examples

Answer = tuple[HTTPStatus, str, bytes]  # with the content type


class _Handler(BaseHTTPRequestHandler):
    """Answers one request of a connection."""

    server: "PageServer"
    timeout = TIMEOUT_S
    server_version, sys_version = "streamvis", ""
    error_message_format, error_content_type = "%(code)d %(message)s\n", TEXT

    def do_GET(self) -> None:
        status, content_type, body = self.server.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - as the base class looks it up

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: there is a request every few seconds."""


class PageServer(ThreadingMixIn, HTTPServer):
    """Answers GET and HEAD requests from threads of its own, over a bounded number of connections.

    `answer` gets a path and is called in any thread.
    """

    daemon_threads = False  # `server_close` waits for them
    request_queue_size = 128  # a full queue delays clients by a second

    def __init__(self, address: str, answer: Callable[[str], Answer]) -> None:
        """Bind to `address`. UsageError for one that is none, RunError for one in use."""
        host, port = parse_address(address)
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.answer = answer
        self._open: list[socket.socket] = []  # the oldest first
        self._lock = threading.Lock()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            why = error.strerror or str(error)
            raise RunError(
                f"--metrics {address}: {why}; {EXPECTED}{PORT}, and a free port"
            ) from None
        self._thread = threading.Thread(
            target=self.serve_forever, args=(POLL_S,), name="monitor", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else host
        return f"http://{shown!s}:{port}"

    def close(self) -> None:
        """End all connections and threads, and free the address."""
        self.shutdown()
        self._thread.join()
        self._disconnect_all()
        self.server_close()

    def server_bind(self) -> None:
        """Bind, without the look-up of a host name that HTTPServer does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:  # too many open files: without a pause, this thread would spin
            time.sleep(PAUSE_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; the oldest connection ends where there are too many."""
        with self._lock:
            if len(self._open) >= CONNECTIONS:
                _disconnect(self._open.pop(0))
            self._open.append(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock, suppress(ValueError):  # it was too old
            self._open.remove(request)
        super().shutdown_request(request)

    def _disconnect_all(self) -> None:
        with self._lock:
            for request in self._open:
                _disconnect(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """End the connection of a client that has gone, or whose request was not answered."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log("error", "a request failed", error=repr(error))


def _disconnect(request: socket.socket) -> None:
    with suppress(OSError):  # the client has closed it
        request.shutdown(socket.SHUT_RDWR)


def parse_address(address: str, option: str = "--metrics", port: int = PORT) -> tuple[str, int]:
    """Return IP address and port of an option's value; UsageError, with an example, for no address.

    An address must be named: no port is open to all by default.
    """
    if match := re.fullmatch(r"(\[[^]]+\]|[^:[]+):([0-9]{1,5})", address):
        bracketed, host = address.startswith("["), match[1].strip("[]")
        with suppress(ValueError):
            ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
            if int(match[2]) < 2**16 and bracketed == (ip.version == 6):
                return str(ip), int(match[2])
    raise UsageError(f"{option} {address} is not an address; {EXPECTED}{port}")
