"""The web server of a run, `run --web`: a process that begins and ends with the run.

    with closing(WebProcess(settings)) as web:
        web.start()

Nothing that the server does disturbs the run. When it dies it is started again, at the same
address.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import msgspec

from streamvis.errors import StreamvisError
from streamvis.logs import log
from streamvis.runtime.metrics import Status
from streamvis.transport.parent import exit_with_parent
from streamvis.transport.server_process import ServerProcess
from streamvis.web.settings import WebSettings, bound, check_address, url_of
from streamvis.web.token import read_token

END_S = 2.0  # for its end
BACKLOG = 128  # connections that wait for the server


class _Order(msgspec.Struct, frozen=True):
    """What the process gets from the one that has started it."""

    settings: WebSettings
    listening: int  # descriptor
    parent: int  # process id


class WebProcess:
    """The process of the server, which is started again when it dies."""

    def __init__(self, settings: WebSettings) -> None:
        """Bind the address. UsageError for a wrong setting, RunError for an address in use."""
        check_address(settings, "--web-token-file")
        if settings.token_file is not None:
            read_token(settings.token_file)
        listening = bound(settings)
        listening.listen(BACKLOG)
        self.url = url_of(listening)  # of the page
        order = _Order(settings, listening.fileno(), os.getpid())
        self._server = ServerProcess(
            "streamvis.web.beside",
            "web server",
            listening,
            lambda: msgspec.json.encode(order, enc_hook=str),
        )

    def start(self) -> None:
        """Start the server, once, and keep it running."""
        self._server.start()

    def close(self) -> None:
        """End the server, and free the address."""
        self._server.close(END_S)


@contextmanager
def beside(
    settings: WebSettings | None, say: Callable[[str], None]
) -> Iterator[Callable[[Status], None] | None]:
    """Serve a run, if that is asked for; yield what starts the server with its first status.

    Before it the directory may hold another run, or one that is refused.
    """
    if settings is None:
        yield None
        return
    with closing(WebProcess(settings)) as web:
        say(f"{web.url} serves the run")
        if settings.token_file is not None:
            say(f"clients need the token in {settings.token_file}")
        yield lambda status: web.start()


def main(data: bytes) -> int:
    """Serve until the parent ends this process, or is gone."""
    from pathlib import Path

    from streamvis.web.server import WebServer

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = msgspec.json.decode(data, type=_Order, dec_hook=lambda kind, text: Path(text))
    exit_with_parent(order.parent)
    try:
        with closing(WebServer(order.settings, socket.socket(fileno=order.listening))) as server:
            server.run()
    except StreamvisError as error:
        log("error", "web server", error=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer.read()))
