"""An HTTP server for those who operate a run: its metrics and its health.

    GET /metrics        in the text format of Prometheus
    GET /health/live    200 while the hub turns, else 503
    GET /health/ready   200 while all workers are ready and a source is online, else 503

It has no authentication and changes nothing. It never waits for the run, nor the run for it.
"""

import ipaddress
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any

import msgspec

from streamvis.errors import RunError, UsageError
from streamvis.logs import log
from streamvis.runtime import health
from streamvis.runtime.metrics import Status
from streamvis.runtime.resource_usage import disk_of, usage_of

TIMEOUT_S = 5.0  # for a client to send its request, and to take the answer
CONNECTIONS = 16  # at once; the oldest is closed for another one
POLL_S = 0.1  # at most, from `close` to its end
PAUSE_S = 0.1  # before the next attempt to accept, where no descriptor is free
JSON, TEXT = "application/json", "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
EXPECTED = "expected ADDRESS:PORT of this machine, such as 127.0.0.1:9100"

OnStatus = Callable[[Status], None]
Answer = tuple[HTTPStatus, str, bytes]  # with the content type


class Monitor:
    """Serves the latest status over HTTP, from threads of its own."""

    def __init__(self, address: str, out: Path | None = None) -> None:
        """Bind to `address`. UsageError for one that is none, RunError for one in use."""
        from streamvis.runtime import prometheus  # needs prometheus-client: 0.06 s to import

        self._exposition = prometheus.exposition
        self._out = out
        self._status: Status | None = None
        self._at = time.monotonic()
        self._server = _bound(address, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="monitor", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else host
        return f"http://{shown!s}:{port}"

    def update(self, status: Status) -> None:
        """Take the latest status; the hub calls this about once a second."""
        self._status, self._at = status, time.monotonic()

    def close(self) -> None:
        """End all connections and threads, and free the address."""
        self._server.shutdown()
        self._thread.join()
        self._server.disconnect()
        self._server.server_close()

    def answer(self, path: str) -> Answer:
        """Return the answer to a request."""
        status, age_s = self._status, time.monotonic() - self._at
        match path.partition("?")[0]:
            case "/health/live":
                live = age_s < health.LIVE_S
                return _verdict(live, {"live": live, "status_age_s": round(age_s, 3)})
            case "/health/ready":
                reasons = health.unready(status)
                if age_s >= health.LIVE_S:
                    reasons = [f"the hub has not reported for {age_s:.0f} s", *reasons]
                return _verdict(not reasons, {"ready": not reasons, "reasons": reasons})
            case "/metrics" if status is None:
                return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"the run is starting\n"
            case "/metrics" if status is not None:
                return HTTPStatus.OK, METRICS, self._metrics(status, age_s)
        return HTTPStatus.NOT_FOUND, TEXT, b"/metrics, /health/live or /health/ready\n"

    def _metrics(self, status: Status, age_s: float) -> bytes:
        pids = {"hub": os.getpid()} | status.processes
        usages = {name: usage for name, pid in pids.items() if (usage := usage_of(pid))}
        disk = disk_of(self._out) if self._out is not None else None
        return self._exposition(status, usages, disk, age_s)


@contextmanager
def monitored(address: str | None, out: Path | None) -> Iterator[OnStatus | None]:
    """Serve metrics and health at `address`, if there is one; yield what takes the statuses."""
    if address is None:
        yield None
        return
    with closing(Monitor(address, out)) as monitor:
        log("info", "metrics and health are served", address=monitor.url)
        yield monitor.update


def each_of(*takers: OnStatus | None) -> OnStatus | None:
    """Return a function that gives a status to all of them; None where there is none."""
    present = [taker for taker in takers if taker is not None]

    def give(status: Status) -> None:
        for taker in present:
            taker(status)

    return give if present else None


def _verdict(good: bool, body: Mapping[str, object]) -> Answer:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, JSON, msgspec.json.encode(body) + b"\n"


class _Handler(BaseHTTPRequestHandler):
    """Answers one request of a connection."""

    server: "_Server"
    timeout = TIMEOUT_S
    server_version, sys_version = "streamvis", ""
    error_message_format, error_content_type = "%(code)d %(message)s\n", TEXT

    def do_GET(self) -> None:
        status, content_type, body = self.server.monitor.answer(self.path)
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


class _Server(ThreadingMixIn, HTTPServer):
    """An HTTP server with a bounded number of connections, all of which `disconnect` ends."""

    daemon_threads = False  # `server_close` waits for them
    request_queue_size = 128  # a full queue delays clients by a second

    def __init__(self, address: tuple[str, int], monitor: Monitor) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.monitor = monitor
        self._open: list[socket.socket] = []  # the oldest first
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

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

    def disconnect(self) -> None:
        with self._lock:
            for request in self._open:
                _disconnect(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """End the connection of a client that has gone, or whose request was not answered."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log("error", "a request to the monitor failed", error=repr(error))


def _disconnect(request: socket.socket) -> None:
    with suppress(OSError):  # the client has closed it
        request.shutdown(socket.SHUT_RDWR)


def _bound(address: str, monitor: Monitor) -> _Server:
    try:
        return _Server(_parse(address), monitor)
    except OSError as error:
        why = error.strerror or str(error)
        raise RunError(f"--metrics {address}: {why}; {EXPECTED}, and a free port") from None


def _parse(address: str) -> tuple[str, int]:
    """Return IP address and port. An address must be named: no port is open to all by default."""
    if match := re.fullmatch(r"(\[[^]]+\]|[^:[]+):([0-9]{1,5})", address):
        bracketed, host = address.startswith("["), match[1].strip("[]")
        with suppress(ValueError):
            ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
            port = int(match[2])
            if port < 2**16 and bracketed == (ip.version == 6):
                return str(ip), port
    raise UsageError(f"--metrics {address} is not an address; {EXPECTED}")
