"""A server in a process of its own, which is started again when it dies.

    server = ServerProcess("streamvis.web.beside", "web server", listening, order)
    server.start()
    server.close()

The process that starts it holds the listening socket, so that an address in use is an error at
once, and the address stays the same over restarts: clients that connect meanwhile wait. The server
is to call `exit_with_parent`, so that it dies with the thread that has started it, however that
ends.
"""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from streamvis.logs import log, warn

PAUSES_S = (0.1, 1.0, 5.0, 30.0)  # before it is started again, if it dies again and again
STEADY_S = 60.0  # after so long it is no longer "again"


class ServerProcess:
    """The process that runs a module, which inherits `listening` and reads its order from stdin."""

    def __init__(
        self, module: str, name: str, listening: socket.socket, order: Callable[[], bytes]
    ) -> None:
        """`name` is for the log; `order` is asked at each start."""
        self._module = module
        self._name = name
        self._listening = listening
        self._order = order
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name=name.replace(" ", "-"), daemon=True)

    @property
    def pid(self) -> int | None:
        """The process id of the server, while it runs."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start the server, once, and keep it running."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self, wait_s: float = 0.0) -> None:
        """End the server, which has `wait_s` to end by itself, and close the socket."""
        with self._lock:
            self._over.set()
            process = self._process
            if process is not None:
                process.send_signal(signal.SIGTERM if wait_s > 0 else signal.SIGKILL)
        if self._thread.ident is not None:
            self._thread.join(wait_s)
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
            if process is not None:
                warn(f"{self._name} died", exit_code=code, again_in_s=pause_s)
            self._over.wait(pause_s)

    def _started(self) -> "subprocess.Popen[bytes] | None":
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module],  # -P: not from the cwd
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[self._listening.fileno()],
                process_group=0,  # Ctrl-C reaches the run alone
            )
        except OSError as error:  # no memory, or no process, is left
            log("warning", f"{self._name} cannot be started", reason=error.strerror)
            return None
        assert process.stdin is not None
        with suppress(OSError), process.stdin as stdin:  # it has died: `wait` returns at once
            stdin.write(self._order())
        return process
