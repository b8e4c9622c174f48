"""The web server: its address, its limits, its life."""

import asyncio
import logging
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from streamvis.logs import log
from streamvis.transport.keys import client_keys
from streamvis.web.app import application
from streamvis.web.run_folder import RunFolder
from streamvis.web.settings import WebSettings, bound, check_address, url_of
from streamvis.web.token import Logins, read_token

CONNECTIONS = 128  # at once; above, requests are refused
IDLE_CONNECTIONS = 64  # that send no request; the oldest is closed for another one
FIRST_REQUEST_S = 10.0  # for the head of the first request of a connection
STALL_S = 30.0  # for a client that takes nothing of what was sent
SWEEP_S = 1.0
LONGEST_HEAD = 16384  # bytes of a request without its body
LONGEST_MESSAGE = 1024  # bytes of a WebSocket message: none is expected
PING_S = 20.0
REFUSED = "ASGI callable returned without completing handshake."  # uvicorn says it of each
# WebSocket that is answered with an error
GRACE_S = 3.0  # for requests under way, when the server ends


class WebServer(uvicorn.Server):
    """Serves until it is asked to end, and closes connections that do not behave.

    with closing(WebServer(settings)) as server:
        server.run()
    """

    def __init__(self, settings: WebSettings, listener: socket.socket | None = None) -> None:
        """Bind the address, unless a listener is given, whose run may not have begun.

        UsageError for a wrong setting, RunError for an address in use.
        """
        folder = RunFolder(settings.out, settings.run)
        if listener is None:
            check_address(settings)
            folder.check()
        self.token = read_token(settings.token_file) if settings.token_file is not None else None
        keys = client_keys(settings.keys) if settings.keys is not None else None
        self.listener = listener or bound(settings)
        app = application(
            folder,
            logins=Logins(self.token) if self.token is not None else None,
            cookie=f"streamvis-{self.listener.getsockname()[1]}",
            names=settings.names,
            keys=keys,
        )
        super().__init__(_configured(app))
        self._sweeper = Sweeper(self.server_state)

    @property
    def url(self) -> str:
        """The address of the page."""
        return url_of(self.listener)

    def run(self, sockets: "list[socket.socket] | None" = None) -> None:
        """Serve until SIGINT or SIGTERM, or until `should_exit` is set."""
        asyncio.run(self.serve(sockets or [self.listener]))

    async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
        await super().startup(sockets)
        self._task = asyncio.create_task(self._sweeper.run())

    async def shutdown(self, sockets: "list[socket.socket] | None" = None) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._sweeper.abort_unread()
        await super().shutdown(sockets)

    def close(self) -> None:
        """Free the address."""
        self.listener.close()


class TimedProtocol(H11Protocol):
    """A connection that knows since when it is there."""

    opened_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the time."""
        self.opened_s = time.monotonic()
        super().connection_made(transport)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that its client may close while the server ends."""

    def shutdown(self) -> None:
        """Close it, unless it is being closed: uvicorn's method raises InvalidState then."""
        if self.transport.is_closing():
            self.stop_keepalive()
        else:
            super().shutdown()


class Sweeper:
    """Closes connections that send no request, and those that take no answer."""

    def __init__(self, state: uvicorn.server.ServerState) -> None:
        self._state = state
        self._unread: dict[object, tuple[int, float]] = {}  # bytes, and since when so many

    async def run(self) -> None:
        """Look at all connections again and again."""
        while True:
            self.sweep(time.monotonic())
            await asyncio.sleep(SWEEP_S)

    def sweep(self, now: float) -> None:
        """Look at all connections once."""
        connections = [one for one in self._state.connections if one.transport is not None]
        self._unread = {
            one: known if known and known[0] == size else (size, now)
            for one in connections
            if (size := one.transport.get_write_buffer_size())
            for known in [self._unread.get(one)]
        }
        idle = sorted(_idle(connections), key=lambda one: one.opened_s)
        surplus = idle[: max(len(idle) - IDLE_CONNECTIONS, 0)]
        late = [one for one in idle if now - one.opened_s > FIRST_REQUEST_S]
        stalled = [one for one, (_, since) in self._unread.items() if now - since > STALL_S]
        for one in {*surplus, *late, *stalled}:
            one.transport.abort()  # type: ignore[attr-defined]

    def abort_unread(self) -> None:
        """End the connections whose client has not taken all that was sent."""
        for one in list(self._state.connections):
            if one.transport is not None and one.transport.get_write_buffer_size():
                one.transport.abort()


def _idle(connections: Iterable[object]) -> list[TimedProtocol]:
    """Return those without a request so far; uvicorn ends connections that idle after one."""
    timed = [one for one in connections if isinstance(one, TimedProtocol)]
    return [one for one in timed if one.cycle is None]


def _configured(app: object) -> uvicorn.Config:
    _forward_errors()
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        lifespan="on",
        loop="asyncio",
        http=TimedProtocol,
        ws=WebSocketProtocol,
        ws_max_size=LONGEST_MESSAGE,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,  # its memory, for each viewer
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the address of a client is that of its connection
        server_header=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        timeout_graceful_shutdown=int(GRACE_S),
    )


class _Forward(logging.Handler):
    """Writes errors of the server to the log of this process."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == REFUSED:
            return
        log("error", "web server", error=record.getMessage())


def _forward_errors() -> None:
    logger = logging.getLogger("uvicorn")
    if not logger.handlers:
        logger.addHandler(_Forward(logging.ERROR))
        logger.propagate = False
