"""The web server of a run, `run --web`: a process that begins and ends with the run.

    with closing(WebProcess(settings)) as web:
        web.start()

The run holds the address, so that one in use is an error at once, and it stays the same when the
server dies and is started again: browsers that connect meanwhile wait. Nothing that the server does
disturbs the run. It dies with the thread that has started it, however that ends.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import msgspec

from streamvis.errors import StreamvisError
from streamvis.logs import log, warn
from streamvis.runtime.metrics import Status
from streamvis.transport.parent import exit_with_parent
from streamvis.web.settings import WebSettings, bound, check_address, url_of
from streamvis.web.token import read_token

PAUSES_S = (0.1, 1.0, 5.0, 30.0)  # before it is started again, if it dies again and again
STEADY_S = 60.0  # after so long it is no longer "again"
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
        self._settings = settings
        self._listening = bound(settings)
        self._listening.listen(BACKLOG)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="web-server", daemon=True)

    @property
    def url(self) -> str:
        """The address of the page."""
        return url_of(self._listening)

    def start(self) -> None:
        """Start the server, once, and keep it running."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """End the server, and free the address."""
        with self._lock:
            self._over.set()
            process = self._process
            if process is not None:
                process.terminate()
        if self._thread.ident is not None:
            self._thread.join(END_S)
            if self._thread.is_alive() and process is not None:
                process.kill()
            self._thread.join()
        self._listening.close()

    def _run(self) -> None:
        deaths = 0
        while True:
            with self._lock:
                if self._over.is_set():
                    return
                process = self._process = self._started()
            began = time.monotonic()
            code = None if process is None else process.wait()
            self._process = None
            if self._over.is_set():
                return
            deaths = 0 if time.monotonic() > began + STEADY_S else deaths
            pause_s = PAUSES_S[min(deaths, len(PAUSES_S) - 1)]
            deaths += 1
            warn("web server died", exit_code=code, again_in_s=pause_s)
            self._over.wait(pause_s)

    def _started(self) -> "subprocess.Popen[bytes] | None":
        fd = self._listening.fileno()
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "streamvis.web.beside"],  # -P: not from the cwd
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[fd],
                process_group=0,  # Ctrl-C reaches the run alone
            )
        except OSError as error:  # no memory, or no process, is left
            log("warning", "web server cannot be started", reason=error.strerror)
            return None
        order = _Order(self._settings, fd, os.getpid())
        assert process.stdin is not None
        with suppress(OSError), process.stdin as stdin:  # it has died: `wait` returns at once
            stdin.write(msgspec.json.encode(order, enc_hook=str))
        return process


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
