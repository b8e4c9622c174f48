"""The peers of a bound socket: how many there may be, who they are, and their disconnection.

libzmq asks who a peer is when it connects, and never again; it limits neither connections nor what
they send. `Peers` notes each connection as libzmq accepts it, and keeps a second descriptor of it:
shutting that down ends the connection, in the way of a peer that has gone.

    peers = Peers(context, publisher, keys)  # before the socket is bound
    publisher.bind("tcp://0.0.0.0:5560")
    while …:
        poller.poll(…)  # of peers.sockets, too
        peers.work()
        for frame in …:  # zmq.Frame, copy=False
            peers.admit(frame)

It belongs to the thread of the socket, and never waits.
"""

import os
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from streamvis.logs import warn
from streamvis.transport import keys as key_files

ZAP = "inproc://zeromq.zap.01"
DOMAIN = b"streamvis"
LOOK_S = 0.25  # between two looks at the directory of keys
HANDSHAKE_MS = 5000  # a peer that says nothing is disconnected after that
KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 60, zmq.TCP_KEEPALIVE_INTVL: 10}
WARN_S = 10.0  # between two warnings of one reason
AT_ONCE = 1000  # events of one kind that are handled in one call

EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
CRYPTOGRAPHIC = 0x11000001  # ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC
MECHANISM = 0x11000002  # ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH


class Limits(NamedTuple):
    """What peers may do."""

    connections: int = 256  # two descriptors each
    requests: int = 1000  # messages of a connection at once; then
    requests_s: float = 20.0  # so many a second
    topics: int = 1 << 16  # bytes of the topics that a connection has subscribed to
    topics_in_all: int = 1 << 21  # libzmq needs about 50 bytes for each of them
    topic: int = 256  # bytes of one topic


class Peer(msgspec.Struct):
    """A connection."""

    connection: socket.socket  # a second descriptor of it
    address: str
    users: set[str] = set()  # public keys of its messages
    talked: bool = False  # it has sent a message
    cut: bool = False  # it was disconnected by us
    requests: float = 0.0  # that it may send at once
    refilled_s: float = 0.0
    topics: Counter[bytes] = msgspec.field(default_factory=Counter)
    topic_bytes: int = 0


class Peers:
    """Counts, limits and disconnects the peers of `server`, which is not bound yet.

    `keys`: a directory of keys: only its clients are served, over CURVE. `refused` counts by
    reason.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        server: "zmq.Socket[bytes]",
        keys: Path | None = None,
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> None:
        self.refused: Counter[str] = Counter()
        self.peers: dict[int, Peer] = {}  # descriptor of libzmq -> peer
        self.topic_bytes = 0
        self._server = server
        self._keys = keys
        self._limits = limits
        self._warned_s: dict[str, float] = {}
        self._failed = ""  # reason of the handshake failure just before
        self._zap = _authenticator(context, server, keys) if keys is not None else None
        self._stamp: object = None
        self._served: dict[str, str] = {}  # public key -> name
        self._names: dict[str, str] = {}  # the same, with those that were revoked
        self._look_s = 0.0
        server.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        for option, value in KEEPALIVE.items():
            server.setsockopt(option, value)
        name = f"inproc://peers-{id(self)}"
        self._monitor = context.socket(zmq.PAIR)
        self._monitor.rcvhwm = 0  # with a limit, a full queue would stop libzmq's thread
        self._monitor.linger = 0
        server.monitor(name, EVENTS)
        self._monitor.connect(name)

    @property
    def sockets(self) -> "list[zmq.Socket[bytes]]":
        """The sockets to poll for input."""
        return [self._monitor] + ([self._zap] if self._zap else [])

    @property
    def next_s(self) -> float:
        """When `work` is to be called next at the latest, by the monotonic clock."""
        return self._look_s if self._keys else float("inf")

    def work(self) -> None:
        """Handle what has happened: connections, questions of libzmq, changes of the keys."""
        self._read_keys()
        self._authenticate()
        self._follow_connections()

    def admit(self, frame: zmq.Frame, more: bool = False) -> bool:
        """Take a frame of a message to the socket; False when its connection is cut for it.

        `more`: it is part of a message of several frames, which nobody may send.
        """
        peer = self._peer_of(frame)
        if peer is None or peer.cut:
            return False
        user = _property(frame, "User-Id")
        if user:
            peer.users.add(user)
        reason = self._objection(peer, user, frame, more)
        peer.talked = True
        if reason:
            self._cut(peer, reason)
        return not reason

    def close(self) -> None:
        """Forget all peers; before the socket is closed."""
        self._server.disable_monitor()
        self._monitor.close(linger=0)
        if self._zap:
            self._zap.close(linger=0)
        for peer in self.peers.values():
            peer.connection.close()
        self.peers.clear()

    def _objection(self, peer: Peer, user: str, frame: zmq.Frame, more: bool) -> str:
        """Return why the message is refused, or nothing."""
        if self._keys is not None and user not in self._served:
            return "revoked"
        if not self._may_ask(peer):
            return "flood"
        if more:
            return "frames"
        data = frame.bytes
        if data[:1] not in (b"\0", b"\1"):
            return "malformed"
        return self._subscribe(peer, data[1:], on=data[0] == 1)

    def _subscribe(self, peer: Peer, topic: bytes, *, on: bool) -> str:
        """Count a subscription, or its end."""
        if len(topic) > self._limits.topic:
            return "oversized"
        size = len(topic) + 1
        if not on:
            if peer.topics[topic]:
                peer.topics[topic] -= 1
                peer.topic_bytes -= size
                self.topic_bytes -= size
            return ""
        peer.topics[topic] += 1
        peer.topic_bytes += size
        self.topic_bytes += size
        if peer.topic_bytes > self._limits.topics:
            return "flood"
        return "flood" if self.topic_bytes > self._limits.topics_in_all else ""

    def _may_ask(self, peer: Peer) -> bool:
        now, limits = time.monotonic(), self._limits
        gained = (now - peer.refilled_s) * limits.requests_s
        peer.requests = min(limits.requests, peer.requests + gained) - 1
        peer.refilled_s = now
        return peer.requests >= 0

    def _peer_of(self, frame: zmq.Frame) -> Peer | None:
        """Return the sender; None when it has gone: it was accepted before it sent anything."""
        number = _property(frame, "__fd")
        if not number:
            return None
        if int(number) not in self.peers:
            self._follow_connections()
        return self.peers.get(int(number))

    def _follow_connections(self) -> None:
        for _ in range(AT_ONCE):
            try:
                parts = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            happened = parse_monitor_message(parts)
            event, value = happened["event"], happened["value"]
            if event == zmq.EVENT_ACCEPTED:
                self._accepted(value)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                self._failed = self._reason(value)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._failed = "no_handshake"
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._failed = "unknown_key"
            elif event == zmq.EVENT_DISCONNECTED:
                self._disconnected(value)

    def _reason(self, failure: int) -> str:
        if failure == MECHANISM:
            return "no_key" if self._keys else "key_not_wanted"
        return "wrong_server_key" if failure == CRYPTOGRAPHIC else "malformed"

    def _accepted(self, number: int) -> None:
        self._forget(number)  # libzmq uses numbers again
        connection = _second_descriptor(number, self._server)
        if connection is None:
            return
        now = time.monotonic()
        self.peers[number] = Peer(
            connection,
            _address(connection),
            requests=self._limits.requests,
            refilled_s=now,
        )
        here = [peer for peer in self.peers.values() if not peer.cut]
        if len(here) > self._limits.connections:
            silent = (peer for peer in here if not peer.talked)  # the newest is, at least
            self._cut(next(silent), "connections")

    def _disconnected(self, number: int) -> None:
        peer, failed, self._failed = self.peers.get(number), self._failed, ""
        if peer is None:
            return
        if not peer.cut and not peer.talked:
            self._refuse(failed or "malformed", peer)
        elif not peer.cut and not _has_left(peer.connection):  # libzmq has ended it
            self._refuse("oversized", peer)
        self._forget(number)

    def _forget(self, number: int) -> None:
        peer = self.peers.pop(number, None)
        if peer is not None:
            self.topic_bytes -= peer.topic_bytes
            peer.connection.close()

    def _cut(self, peer: Peer, reason: str) -> None:
        self._refuse(reason, peer)
        peer.cut = True
        with suppress(OSError):  # it has gone meanwhile
            peer.connection.shutdown(socket.SHUT_RDWR)

    def _refuse(self, reason: str, peer: Peer) -> None:
        self.refused[reason] += 1
        now = time.monotonic()
        if now - self._warned_s.get(reason, -WARN_S) >= WARN_S:
            self._warned_s[reason] = now
            names = ", ".join(sorted(self._names.get(user, user) for user in peer.users))
            client = {"client": names} if names else {}
            count = self.refused[reason]
            warn("refused", reason=reason, peer=peer.address, count=count, **client)

    def _read_keys(self, *, at_once: bool = False) -> None:
        """Read the directory again if it has changed, and cut those whose key is gone."""
        if self._keys is None or (time.monotonic() < self._look_s and not at_once):
            return
        self._look_s = time.monotonic() + LOOK_S
        stamp = key_files.stamp(self._keys)
        if stamp == self._stamp:
            return
        self._stamp, self._served = stamp, key_files.listed(self._keys)
        self._names.update(self._served)
        for peer in self.peers.values():
            if not peer.cut and not peer.users <= self._served.keys():
                self._cut(peer, "revoked")

    def _authenticate(self) -> None:
        """Answer libzmq's questions by the ZeroMQ Authentication Protocol (RFC 27)."""
        zap = self._zap
        for _ in range(AT_ONCE):
            if zap is None:
                return
            try:
                parts = zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(parts) != 9 or parts[7] != b"CURVE":
                continue  # not from libzmq
            public = z85.encode(parts[8])
            if public.decode() not in self._served:
                self._read_keys(at_once=True)
            known = public.decode() in self._served
            status = [b"200", b"OK", public, b""] if known else [b"400", b"unknown key", b"", b""]
            zap.send_multipart([*parts[:4], *status])


def _authenticator(
    context: "zmq.Context[zmq.Socket[bytes]]", server: "zmq.Socket[bytes]", keys: Path
) -> "zmq.Socket[bytes]":
    own = key_files.server_keys(keys)
    zap = context.socket(zmq.ROUTER)
    zap.linger = 0
    zap.bind(ZAP)
    server.curve_server = True
    server.curve_publickey = own.public.encode()
    server.curve_secretkey = own.secret.encode()
    server.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    return zap


def _second_descriptor(number: int, server: "zmq.Socket[bytes]") -> socket.socket | None:
    """Return another descriptor of a connection; None when it is closed already.

    libzmq's thread may have closed it, and something else may have its number now.
    """
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
        ours = _is_of(connection, server.getsockopt_string(zmq.LAST_ENDPOINT))
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
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return f"process {pid} of user {uid}"


def _has_left(connection: socket.socket) -> bool:
    """Whether the peer has ended the connection, and not libzmq."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _property(frame: zmq.Frame, name: str) -> str:
    """Return a property of the connection that a frame came by; nothing when that has ended."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""
