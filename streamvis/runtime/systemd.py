"""Tell systemd that the service is ready, alive or stopping: sd_notify(3), without a library.

Outside of a service with Type=notify, nothing is sent.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from streamvis.runtime.health import unready_workers
from streamvis.runtime.metrics import Status

SOCKET = "NOTIFY_SOCKET"  # environment variable that systemd sets


def notify(text: str) -> None:
    """Send assignments, one a line, such as READY=1."""
    if not (address := os.environ.get(SOCKET, "")):
        return
    if address.startswith("@"):  # an abstract address
        address = f"\0{address[1:]}"
    with (
        suppress(OSError),  # the service manager is gone, or its queue is full
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.setblocking(False)
        sender.sendto(text.encode(), address)


@contextmanager
def notified() -> Iterator[Callable[[Status], None] | None]:
    """Yield a function that reports a status: READY once all workers are ready, and WATCHDOG.

    It is called by the hub, about once a second: a hub that hangs is noticed. A camera that is
    away does not keep the service from being ready. Outside of a service, yield None.
    """
    if not os.environ.get(SOCKET):
        yield None
        return
    ready = False

    def report(status: Status) -> None:
        nonlocal ready
        lines = ["WATCHDOG=1", f"STATUS={describe(status)}"]
        if not ready and not unready_workers(status):
            ready = True
            lines.append("READY=1")
        notify("\n".join(lines))

    try:
        yield report
    finally:
        notify("STOPPING=1")


def describe(status: Status) -> str:
    """Describe the run in one line, as `systemctl status` shows it."""
    waiting = unready_workers(status)
    online = sum(source.state == "online" for source in status.sources)
    others = [f"{s.id} {s.state}" for s in status.sources if s.state != "online"]
    text = f"{online} of {len(status.sources)} sources online"
    return "; ".join([f"{text} ({', '.join(others[:5])})" if others else text, *waiting])
