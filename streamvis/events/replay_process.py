"""Starts the replay server beside the publisher, and starts it again when it dies.

The publisher holds the listening socket, so that the address is known at once and stays the same
over restarts: clients that connect meanwhile wait. The server dies with the thread that has started
it, and so with the publisher's process, however that ends.
"""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from streamvis.errors import RunError
from streamvis.events.replay import LINGER_S, ReplaySettings
from streamvis.events.snapshot import Identities
from streamvis.logs import warn

IN_USE_S = 1.0  # how long the server of a predecessor that was killed may still hold the address
PAUSES_S = (0.1, 1.0, 5.0, 30.0)  # before it is started again, if it dies again and again
STEADY_S = 60.0  # after so long it is no longer "again"


class ReplayProcess:
    """The replay server of a log, for those with `keys`; `endpoint` is its address.

    RunError when no socket can be made there.
    """

    def __init__(
        self,
        log: Path,
        addresses: Sequence[str],
        identities: Identities,
        keys: Path | None = None,
    ) -> None:
        self._listening, self.endpoint = _listening(addresses)
        self._settings = ReplaySettings(
            log=str(log.absolute()),
            endpoint=self.endpoint,
            parent=0,
            listening=self._listening.fileno(),
            identities=dict(identities),
            keys=str(keys.absolute()) if keys else None,
        )
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="replay-server", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process id of the server, while it runs."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the server, and keep it running."""
        self._thread.start()

    def close(self, *, linger: bool = False) -> None:
        """End the server, and release its address.

        `linger`: those who are being served get the rest of what they ask for first.
        """
        with self._lock:
            self._over.set()
            process = self._process
            if process is not None:
                process.send_signal(signal.SIGTERM if linger else signal.SIGKILL)
        if self._thread.is_alive():
            self._thread.join(LINGER_S + 1 if linger else None)
            if self._thread.is_alive() and process is not None:
                process.kill()
            self._thread.join()
        self._listening.close()
        scheme, _, path = self.endpoint.partition("://")
        if scheme == "ipc" and not path.startswith("@"):
            Path(path).unlink(missing_ok=True)

    def _run(self) -> None:
        deaths = 0
        while True:
            with self._lock:
                if self._over.is_set():
                    return
                self._process = process = self._started()
            began = time.monotonic()
            code = process.wait()
            self._process = None
            if self._over.is_set():
                return
            deaths = 0 if time.monotonic() > began + STEADY_S else deaths
            pause_s = PAUSES_S[min(deaths, len(PAUSES_S) - 1)]
            deaths += 1
            warn("replay server died", exit_code=code, again_in_s=pause_s)
            self._over.wait(pause_s)

    def _started(self) -> "subprocess.Popen[bytes]":
        fd = self._listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "streamvis.events.replay"],  # -P: not from the cwd
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[fd],
            process_group=0,  # Ctrl-C reaches the run alone
        )
        settings = msgspec.structs.replace(self._settings, parent=os.getpid())
        assert process.stdin is not None
        with suppress(OSError), process.stdin as stdin:  # it has died: `wait` returns at once
            stdin.write(msgspec.json.encode(settings))
        return process


def addresses_beside(bind: str, before: str | None = None) -> list[str]:
    """Return where the server of a feed at `bind` may listen, the first choice first.

    That is the next port, or the next path; where that is in use, any port. `before` is the address
    of a predecessor. There is none beside what is no address of a feed.
    """
    scheme, _, rest = bind.partition("://")
    if scheme == "ipc":
        return [f"{bind}-replay"] if rest else []
    host, _, port = rest.rpartition(":")
    host = {"localhost": "127.0.0.1", "*": "0.0.0.0"}.get(host, host)
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return []
    named = [f"tcp://{host}:{int(port) + 1}"] if port.isdecimal() and int(port) < 65535 else []
    return [*([before] if before else []), *named, f"tcp://{host}:0"]


def _listening(addresses: Sequence[str]) -> tuple[socket.socket, str]:
    """Return a socket that listens at the first address that is free, and the address."""
    deadline = time.monotonic() + IN_USE_S
    error = OSError()
    for number, address in enumerate(addresses):
        while True:
            try:
                listening = _listener(address)
            except OSError as failed:
                error = failed
                if number == 0 and len(addresses) > 2 and time.monotonic() < deadline:
                    time.sleep(0.02)
                    continue
                break
            return listening, _endpoint(address, listening)
    raise RunError(
        f"{addresses[-1]}: the replay server cannot listen there: {error.strerror}. Choose another "
        "address with --set publish.bind=tcp://127.0.0.1:PORT, or do without replay: "
        "--set publish.replay=false"
    )


def _listener(address: str) -> socket.socket:
    scheme, _, rest = address.partition("://")
    if scheme == "ipc":
        return _unix_listener(rest)
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, backlog=128)


def _unix_listener(path: str) -> socket.socket:
    if not path.startswith("@"):
        with suppress(OSError):
            Path(path).unlink()  # of a publisher that was killed: the feed beside it is ours
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind("\0" + path[1:] if path.startswith("@") else path)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def _endpoint(address: str, listening: socket.socket) -> str:
    if address.startswith("ipc://"):
        return address
    return f"{address.rpartition(':')[0]}:{listening.getsockname()[1]}"
