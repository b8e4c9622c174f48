"""Starts the replay server beside the publisher, and again at the same address when it dies."""

import ipaddress
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from streamvis.errors import RunError
from streamvis.events.replay import LINGER_S, ReplaySettings
from streamvis.events.snapshot import Identities
from streamvis.transport.server_process import ServerProcess

IN_USE_S = 1.0  # how long the server of a predecessor that was killed may still hold the address


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
        listening, self.endpoint = _listening(addresses)
        settings = ReplaySettings(
            log=str(log.absolute()),
            endpoint=self.endpoint,
            parent=os.getpid(),
            listening=listening.fileno(),
            identities=dict(identities),
            keys=str(keys.absolute()) if keys else None,
        )
        self._server = ServerProcess(
            "streamvis.events.replay",
            "replay server",
            listening,
            lambda: msgspec.json.encode(settings),
        )

    @property
    def pid(self) -> int | None:
        """The process id of the server, while it runs."""
        return self._server.pid

    def start(self) -> None:
        """Start the server, and keep it running."""
        self._server.start()

    def close(self, *, linger: bool = False) -> None:
        """End the server, and release its address.

        `linger`: those who are being served get the rest of what they ask for first.
        """
        self._server.close(LINGER_S + 1 if linger else 0.0)
        scheme, _, path = self.endpoint.partition("://")
        if scheme == "ipc" and not path.startswith("@"):
            Path(path).unlink(missing_ok=True)


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
        "address by the setting publish.bind=tcp://127.0.0.1:PORT, or do without replay by "
        "publish.replay=false"
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
