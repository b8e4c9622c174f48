"""A connection that libzmq has accepted, as its own process sees it from outside.

libzmq reports the number of its descriptor. A second descriptor of the same connection shows how
much has been received and who is at the other end; shutting it down ends the connection for libzmq
in the way of a peer that has gone.
"""

import array
import fcntl
import os
import select
import socket
import struct
import termios
import threading
import time
from collections import Counter
from contextlib import suppress

TCP_INFO_RECEIVED = 128  # offset of tcpi_bytes_received, u64
UNIX_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Connection:
    """One connection; `None` in place of it when it has ended already. Thread-safe."""

    def __init__(self, connection: socket.socket) -> None:
        self.address = _address(connection)
        self.users: frozenset[str] = frozenset()  # public keys of its messages
        self.talked = False  # it has sent a message that was taken
        self.cut = False  # it was ended by `shutdown`
        self.topics: Counter[bytes] = Counter()  # that it subscribes to
        self.topic_bytes = 0
        self.began_s = time.monotonic()
        self._lock = threading.Lock()
        self._connection = connection
        self._inode = os.fstat(connection.fileno()).st_ino
        self._received = 0
        self._spent = 0.0
        self._spent_s = time.monotonic()

    @classmethod
    def of(cls, number: int, endpoint: str) -> "Connection | None":
        """Open the connection of this descriptor to this endpoint.

        None when libzmq has closed it meanwhile: something else may have its number now.
        """
        connection = _second_descriptor(number, endpoint)
        if connection is None:
            return None
        try:
            return cls(connection)
        except OSError:
            connection.close()
            return None

    def fileno(self) -> int:
        """The second descriptor."""
        return self._connection.fileno()

    def received(self) -> int:
        """The bytes received so far; of a Unix socket, at least about so many."""
        try:
            if self._connection.family == socket.AF_UNIX:
                waiting = array.array("i", [0])
                fcntl.ioctl(self._connection, termios.FIONREAD, waiting)
                return self._received + waiting[0]
            size = TCP_INFO_RECEIVED + 8
            info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
        except OSError:  # it has ended
            return self._received
        return int.from_bytes(info[TCP_INFO_RECEIVED:size], "little")

    def spent(self, rate: float) -> float:
        """The bytes received, less those that `rate` bytes per second allow."""
        now = time.monotonic()
        received = self.received()
        self._spent = max(0.0, self._spent - (now - self._spent_s) * rate)
        self._spent += received - self._received
        self._received, self._spent_s = received, now
        return self._spent

    def has_left(self) -> bool:
        """Whether the peer has ended the connection, and not libzmq."""
        poller = select.poll()
        poller.register(self._connection, select.POLLRDHUP)
        return bool(poller.poll(0))

    def is_at(self, number: int) -> bool:
        """Whether this descriptor of the process is of this connection, which may be closed."""
        try:
            return os.fstat(number).st_ino == self._inode
        except OSError:
            return False

    def shutdown(self) -> None:
        """End the connection; libzmq then closes it."""
        self.cut = True
        with self._lock, suppress(OSError):  # it has ended meanwhile
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the second descriptor."""
        with self._lock:
            self._connection.close()


def _second_descriptor(number: int, endpoint: str) -> socket.socket | None:
    try:
        second = os.dup(number)
    except OSError:
        return None
    try:
        connection = socket.socket(fileno=second)
    except OSError:  # not a socket
        os.close(second)
        return None
    try:
        connection.getpeername()
        ours = _is_of(connection, endpoint)
    except OSError:
        ours = False
    if not ours:
        connection.close()
        return None
    return connection


def _is_of(connection: socket.socket, endpoint: str) -> bool:
    """Whether a connection was made to this address."""
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return connection.family == socket.AF_UNIX
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return str(connection.getsockname()[1]) == rest.rpartition(":")[2]


def _address(connection: socket.socket) -> str:
    """Return who is at the other end: an address, or a process of this machine."""
    if connection.family != socket.AF_UNIX:
        host, port, *_ = connection.getpeername()
        return f"{host}:{port}"
    known = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UNIX_CREDENTIALS.size)
    pid, uid, _ = UNIX_CREDENTIALS.unpack(known)
    return f"process {pid} of user {uid}"
