"""ZeroMQ between the hub (ROUTER) and its processes (DEALER), on a socket file.

The directory is private, so only this user's processes can connect. Queues are not
limited, since slots bound the frames in flight. Foreign messages are counted and dropped.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from streamvis.errors import RunError
from streamvis.transport.keys import ClientKeys, ServerKeys
from streamvis.transport.owner import is_abandoned, owned_name

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

AT_ONCE = int(zmq.NOBLOCK)  # plain integers: pyzmq's enums are measurably slower
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
MAX_FRAMES = 4096  # parts of one message
MAX_BYTES = 2**28  # of one part: pixels are not sent, so messages stay far below
LONGEST_HOME = 60  # characters: sockaddr_un holds 107, and our names need 45


class Server:
    """The socket of the hub, to many processes that are known by their identities.

    `queued` limits the messages that wait in each direction for each peer; 0: no limit.
    """

    def __init__(self, endpoint: str, max_bytes: int = MAX_BYTES, queued: int = 0) -> None:
        self.refused = 0  # foreign messages
        self._context = zmq.Context()
        self.socket = _socket(self._context, zmq.ROUTER, max_bytes, queued)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._authenticator: ThreadAuthenticator | None = None
        self.socket.bind(endpoint)

    def listen(self, address: str, keys: ServerKeys, clients: Collection[str]) -> str:
        """Bind to another address, over CURVE, for those whose public keys are in `clients`.

        `address` may leave the port open, `tcp://10.0.0.1:*`. Return the address that is bound.
        What was bound before stays as it was, without encryption.
        """
        self._authenticator = serve_keys(self._context, clients)
        use_server_keys(self.socket, keys)
        try:
            self.socket.bind(address)
        except zmq.ZMQError as error:
            raise RunError(f"{address} cannot be bound: {error.strerror}") from None
        return self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, peer: bytes, frames: Sequence[bytes]) -> bool:
        """Send a message; False when the peer has died, or leaves too many messages unread."""
        try:
            self.socket.send(peer, MORE)
            for frame in frames[:-1]:
                self.socket.send(frame, MORE)
            self.socket.send(frames[-1], AT_ONCE)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            return False
        return True

    def receive(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield the messages that have arrived, as (identity, frames), without waiting."""
        while True:
            try:
                frame = self.socket.recv(AT_ONCE, copy=False)
            except zmq.Again:
                return
            peer, frames = frame.bytes, []
            while frame.more:
                frame = self.socket.recv(AT_ONCE, copy=False)
                frames.append(frame.bytes)
            if not 1 <= len(frames) <= MAX_FRAMES:
                self.refused += 1
                continue
            yield peer, frames

    def close(self) -> None:
        if self._authenticator is not None:
            self._authenticator.stop()
        self.socket.close(linger=0)
        self._context.term()


class Client:
    """The socket of a process; one for a second thread shares the context of the first."""

    def __init__(
        self,
        endpoint: str,
        identity: bytes,
        first: "Client | None" = None,
        keys: ClientKeys | None = None,
    ) -> None:
        self.keys: ClientKeys | None = keys if first is None else first.keys
        self._shares = first is not None
        self.sent = 0  # messages
        self._context: zmq.Context[zmq.Socket[bytes]] = (
            zmq.Context() if first is None else first._context
        )
        self.socket = _socket(self._context, zmq.DEALER)
        self.socket.setsockopt(zmq.IDENTITY, identity)
        if self.keys is not None:
            self.keys.use(self.socket)
        self.socket.connect(endpoint)

    def send(self, frames: Sequence[bytes]) -> None:
        self.socket.send_multipart(frames)
        self.sent += 1

    def receive(self, timeout_s: float | None = None) -> list[bytes] | None:
        """Return the next message, or None after the timeout."""
        if timeout_s is not None and not self.socket.poll(round(timeout_s * 1000)):
            return None
        return self.socket.recv_multipart()

    def close(self) -> None:
        self.socket.close(linger=2000)  # time for the last messages to be sent
        if not self._shares:
            self._context.term()


def use_server_keys(socket: "zmq.Socket[bytes]", keys: ServerKeys) -> None:
    """Encrypt the connections that come to addresses bound from now on."""
    socket.curve_server = True
    socket.curve_publickey = keys.public.encode()
    socket.curve_secretkey = keys.secret.encode()


def serve_keys(
    context: "zmq.Context[zmq.Socket[bytes]]", clients: Collection[str]
) -> "ThreadAuthenticator":
    """Serve only clients of these public keys over CURVE; `clients` may grow and shrink."""

    from zmq.auth.thread import ThreadAuthenticator

    class Listed:
        def callback(self, domain: str, key: bytes) -> bool:
            return key.decode() in clients

    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback("*", Listed())
    return authenticator


def temporary_root() -> Path:
    """Return the directory for temporary files; RunError when none can be written to."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise RunError(
            "there is no directory for temporary files: TMPDIR is "
            f"{os.environ.get('TMPDIR', 'not set')}, and neither /tmp nor /var/tmp nor the working "
            "directory can be written to. Set TMPDIR to a directory that can, such as "
            "TMPDIR=/dev/shm"
        ) from None


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """Create a directory for sockets that only this user can enter, and remove it at the end."""
    home = temporary_root()
    if len(str(home)) > LONGEST_HOME:
        home = Path("/tmp")
    path = home / owned_name()
    try:
        path.mkdir(mode=0o700)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RunError(
            f"{path}: the directory for sockets cannot be created: {error.strerror}. Set TMPDIR "
            f"to a writable directory whose name has at most {LONGEST_HOME} characters"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for left in home.glob("streamvis-*"):
            if is_abandoned(left):
                shutil.rmtree(left, ignore_errors=True)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def _socket(
    context: "zmq.Context[zmq.Socket[bytes]]",
    kind: int,
    max_bytes: int = MAX_BYTES,
    queued: int = 0,
) -> "zmq.Socket[bytes]":
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, queued)
    socket.setsockopt(zmq.RCVHWM, queued)
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    return socket
