"""The peers of a bound socket: how many there may be, who they are, and their disconnection.

libzmq asks who a peer is when it connects, and never again; it limits neither connections nor what
they send. A thread watches them from outside: it follows the connections by libzmq's events, and
ends those that send too much, that are too many, or whose key was revoked. It is a thread of its
own since libzmq stores subscriptions, each at many times its size, for as long as more of them
come, without returning to the thread of the socket.

    peers = Peers(context, publisher, keys)  # before the socket is bound
    publisher.bind("tcp://0.0.0.0:5560")
    while …:
        frame = publisher.recv(copy=False)
        peers.admit_subscription(frame)
    peers.close()  # before the socket
"""

import math
import os
import resource
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from streamvis.logs import warn
from streamvis.transport.connections import Connection
from streamvis.transport.served import Served

HANDSHAKE_MS = 5000  # a peer that says nothing is disconnected after that
HANDSHAKE_S = 0.9 * HANDSHAKE_MS / 1000  # so long it was there, at least, when that ends it
CATCH_UP_S = 1.0  # at most
KEEPALIVE = {zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 60, zmq.TCP_KEEPALIVE_INTVL: 10}
RECEIVE_BUFFER = 1 << 16  # bytes that a peer can still send when its connection is ended
DOUBT_S = 0.02  # until an end for which libzmq gives no reason is judged; where it may be that of
DOUBTS_S = 0.5  # another connection, so long at most
DOUBTS = 32  # at once, each with a descriptor
WARN_S = 10.0  # between two warnings of one reason
RESERVED = 200  # descriptors for the rest of the process
LEAST = 8  # connections, whatever the limit of descriptors
AT_ONCE = 1000  # events that are handled in one call

EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
CRYPTOGRAPHIC = 0x11000001  # ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC
MECHANISM = 0x11000002  # ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
REASONS = (  # of `refused`
    *("no_key", "unknown_key", "wrong_server_key", "revoked", "key_not_wanted"),
    *("malformed", "frames", "oversized", "flood", "connections", "no_handshake"),
)


class Doubt(NamedTuple):
    """An end without a reason, which may be that of a connection that had this descriptor before.

    libzmq tells the number of a descriptor, not whose it was when it is read.
    """

    number: int
    connection: Connection
    began_s: float
    due_s: float


class Limits(NamedTuple):
    """What peers may do."""

    connections: int = 256  # two descriptors each
    sent: int = 1 << 16  # bytes of a connection at once; then
    sent_s: float = 1024.0  # so many a second
    topics: int = 1 << 16  # bytes of the topics that a connection has subscribed to
    topics_in_all: int = 1 << 21  # libzmq needs about 50 bytes for each of them
    topic: int = 256  # bytes of one topic


class Peers:
    """Counts, limits and disconnects the peers of `server`, which is not bound yet.

    `keys`: a directory of keys: only its clients are served, over CURVE. `refused` counts by
    reason. All methods belong to the thread of the socket.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        server: "zmq.Socket[bytes]",
        keys: Path | None = None,
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> None:
        self.refused: Counter[str] = Counter()
        self._server = server
        self._limits = limits._replace(connections=_affordable(limits.connections))
        self._served = Served(context, server, keys) if keys is not None else None
        self._connections: dict[int, Connection] = {}  # descriptor of libzmq -> connection
        self._watched: dict[int, Connection] = {}  # our descriptor -> connection
        self._warned_s: dict[str, float] = {}
        self._lock = threading.Lock()  # of the counts
        self._failed = ""  # reason of the handshake failure just before
        self._doubts: deque[Doubt] = deque()
        self._monitor = _monitor(context, server)
        self._sent = select.epoll()
        self._stop = os.eventfd(0)
        self._asked = os.eventfd(0, os.EFD_NONBLOCK)
        self._caught_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peers", daemon=True)
        self._thread.start()

    def admit(self, frame: zmq.Frame) -> bool:
        """Take a frame that the server received; False when it came from who is not served."""
        connection = self._sender(frame)
        if connection is not None and not connection.cut and self._is_revoked(connection):
            self._cut(connection, "revoked")
        return connection is None or not connection.cut

    def admit_subscription(self, frame: zmq.Frame) -> bool:
        """Take a frame that an XPUB socket received; False when its connection ends for it."""
        connection = self._sender(frame)
        if connection is None or connection.cut or not self.admit(frame):
            return connection is None and bool(_property(frame, "__fd"))
        reason = self._objection(connection, frame)
        if reason:
            self._cut(connection, reason)
        return not reason

    def catch_up(self) -> None:
        """Wait until the thread knows all connections that were accepted so far."""
        self._caught_up.clear()
        os.eventfd_write(self._asked, 1)
        self._caught_up.wait(CATCH_UP_S)

    def subscribe_to(self, topic: bytes) -> bool:
        """Whether a connection that is served subscribes to exactly this topic. Thread-safe.

        It has to be known when it subscribes: `catch_up` before `admit_subscription`.
        """
        return any(topic in connection.topics for connection in self._open())

    def count(self, reason: str, frame: zmq.Frame) -> None:
        """Count a message of this frame's connection as refused, and keep the connection."""
        connection = self._sender(frame)
        if connection is not None:
            self._refuse(reason, connection)

    def close(self) -> None:
        """End the thread; before the socket is closed."""
        self._server.disable_monitor()
        os.eventfd_write(self._stop, 1)
        self._thread.join()

    def _sender(self, frame: zmq.Frame) -> Connection | None:
        """Return the connection of a frame, with what the frame shows of it; None when it is gone.

        Without keys also when the thread has not seen it yet.
        """
        number = _property(frame, "__fd")
        connection = self._connections.get(int(number)) if number else None
        if connection is not None:
            connection.talked = True
            user = _property(frame, "User-Id")
            if user and user not in connection.users:
                connection.users |= {user}
        return connection

    def _is_revoked(self, connection: Connection) -> bool:
        served = self._served
        return served is not None and not all(user in served for user in connection.users)

    def _objection(self, connection: Connection, frame: zmq.Frame) -> str:
        """Return why the message is refused, or nothing."""
        if frame.more:
            return "frames"
        data = frame.bytes
        if data[:1] not in (b"\0", b"\1"):
            return "malformed"
        return self._subscribe(connection, data[1:], on=data[0] == 1)

    def _subscribe(self, connection: Connection, topic: bytes, *, on: bool) -> str:
        """Count a subscription, or its end."""
        if len(topic) > self._limits.topic:
            return "oversized"
        size = len(topic) + 1
        if not on:
            if topic in connection.topics:  # a peer may send ends of what it has never begun
                connection.topic_bytes -= size
                connection.topics[topic] -= 1
                if not connection.topics[topic]:
                    del connection.topics[topic]
            return ""
        connection.topics[topic] += 1
        connection.topic_bytes += size
        total = sum(each.topic_bytes for each in list(self._connections.values()))
        if connection.topic_bytes > self._limits.topics or total > self._limits.topics_in_all:
            return "flood"
        return ""

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._monitor, zmq.POLLIN)
        poller.register(self._sent.fileno(), zmq.POLLIN)
        poller.register(self._stop, zmq.POLLIN)
        poller.register(self._asked, zmq.POLLIN)
        if self._served:
            poller.register(self._served.socket, zmq.POLLIN)
        try:
            while self._stop not in (ready := dict(poller.poll(self._wait_ms()))):
                asked = self._asked in ready
                if asked:
                    os.eventfd_read(self._asked)
                self._follow_connections()
                if asked:
                    self._caught_up.set()
                self._judge_ends()
                if self._sent.fileno() in ready:
                    self._limit_bytes()
                if self._served:
                    self._serve(self._served)
        finally:
            self._close()

    def _wait_ms(self) -> int | None:
        due = [self._doubts[0].due_s] if self._doubts else []
        due += [self._served.next_s] if self._served else []
        return max(0, math.ceil(1000 * (min(due) - time.monotonic()))) if due else None

    def _serve(self, served: Served) -> None:
        """Answer who may connect, and end the connections whose key is gone."""
        for address in served.answer():  # their ends may come after other connections' failures
            self._count("unknown_key", address)
        if time.monotonic() >= served.next_s:
            served.read()
        for connection in self._open():
            if self._is_revoked(connection):
                self._cut(connection, "revoked")

    def _limit_bytes(self) -> None:
        """End the connections that have sent too much; each that has sent anything is looked at."""
        for number, _ in self._sent.poll(0, AT_ONCE):
            connection = self._watched.get(number)
            if connection is None or connection.cut:
                continue
            if connection.spent(self._limits.sent_s) > self._limits.sent:
                self._cut(connection, "flood")

    def _open(self) -> Iterator[Connection]:
        return (each for each in list(self._connections.values()) if not each.cut)

    def _follow_connections(self) -> None:
        for _ in range(AT_ONCE):
            try:
                parts = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            happened = parse_monitor_message(parts)
            event, value = happened["event"], happened["value"]
            if event == zmq.EVENT_ACCEPTED:
                self._accepted(value, happened["endpoint"].decode())
            elif event == zmq.EVENT_DISCONNECTED:
                self._disconnected(value)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                self._failed = self._reason(value)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._failed = "unknown_key"
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._failed = "no_handshake"

    def _reason(self, failure: int) -> str:
        if failure == MECHANISM:
            return "no_key" if self._served else "key_not_wanted"
        return "wrong_server_key" if failure == CRYPTOGRAPHIC else "malformed"

    def _accepted(self, number: int, endpoint: str) -> None:
        self._forget(number)  # libzmq uses numbers again
        if number in self._watched or any(
            number == one.connection.fileno() for one in self._doubts
        ):
            return  # it has ended: its number is that of a second descriptor now, of another one
        connection = Connection.of(number, endpoint)
        if connection is None:
            return
        self._connections[number] = self._watched[connection.fileno()] = connection
        self._sent.register(connection.fileno(), select.EPOLLIN | select.EPOLLET)
        there = list(self._open())
        if len(there) > self._limits.connections:
            silent = (each for each in there if not each.talked)
            self._cut(next(silent, connection), "connections")

    def _disconnected(self, number: int) -> None:
        connection, failed, self._failed = self._connections.get(number), self._failed, ""
        if connection is None:  # it had ended before it was looked at, or was counted already
            if failed not in ("", "no_handshake", "unknown_key"):
                self._count(failed, "unknown")
            return
        now = time.monotonic()
        if connection.cut:
            pass
        elif failed == "no_handshake":  # otherwise the peer has left before it was complete
            if now - connection.began_s > HANDSHAKE_S:
                self._refuse(failed, connection)
        elif failed == "unknown_key":  # counted when it was refused
            pass
        elif failed:
            self._refuse(failed, connection)
        elif connection.is_at(number) and not connection.has_left():
            self._doubts.append(Doubt(number, connection, now, now + DOUBT_S))
            self._forget(number, close=False)
            return
        elif not connection.has_left():
            self._refuse_unread(connection)
        self._forget(number)

    def _judge_ends(self) -> None:
        """Judge the ends in doubt by who has closed the connection: libzmq, or the peer."""
        now = time.monotonic()
        while self._doubts and (self._doubts[0].due_s <= now or len(self._doubts) > DOUBTS):
            doubt = self._doubts.popleft()
            connection, again = doubt.connection, doubt.began_s + DOUBTS_S > now
            if not connection.has_left():
                if not connection.is_at(doubt.number):
                    self._refuse_unread(connection)
                elif again and len(self._doubts) < DOUBTS:  # libzmq may not have closed it yet
                    self._doubts.append(doubt._replace(due_s=now + DOUBT_S))
                    continue
            connection.close()

    def _refuse_unread(self, connection: Connection) -> None:
        """Count a connection that libzmq has ended: it could not read what the peer sent."""
        self._refuse("oversized" if connection.talked else "malformed", connection)

    def _forget(self, number: int, *, close: bool = True) -> None:
        connection = self._connections.pop(number, None)
        if connection is not None:
            del self._watched[connection.fileno()]
            self._sent.unregister(connection.fileno())  # libzmq's descriptor would keep it there
            if close:
                connection.close()

    def _cut(self, connection: Connection, reason: str) -> None:
        connection.shutdown()
        self._refuse(reason, connection)

    def _refuse(self, reason: str, connection: Connection) -> None:
        known = self._served.names if self._served else {}
        names = ", ".join(sorted(known.get(user, user) for user in connection.users))
        self._count(reason, connection.address, **({"client": names} if names else {}))

    def _count(self, reason: str, address: str, **client: str) -> None:
        """Count a refusal, and warn of it unless that was done a moment ago."""
        now = time.monotonic()
        with self._lock:
            self.refused[reason] += 1
            count = self.refused[reason]
            if now - self._warned_s.get(reason, -WARN_S) < WARN_S:
                return
            self._warned_s[reason] = now
        warn("refused", reason=reason, peer=address, count=count, **client)

    def _close(self) -> None:
        for number in list(self._connections):
            self._forget(number)
        for doubt in self._doubts:
            doubt.connection.close()
        self._sent.close()
        os.close(self._stop)
        os.close(self._asked)
        self._monitor.close(linger=0)
        if self._served:
            self._served.close()


def _affordable(connections: int) -> int:
    """Return how many connections leave descriptors for the rest of the process.

    Without a free descriptor libzmq's thread would use a whole core: it cannot accept the next.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return connections
    return max(LEAST, min(connections, (most - RESERVED) // 2))


def _monitor(
    context: "zmq.Context[zmq.Socket[bytes]]", server: "zmq.Socket[bytes]"
) -> "zmq.Socket[bytes]":
    """Return the socket of libzmq's events, and set the options of connections."""
    server.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    server.setsockopt(zmq.RCVBUF, RECEIVE_BUFFER)
    for option, value in KEEPALIVE.items():
        server.setsockopt(option, value)
    monitor = context.socket(zmq.PAIR)
    monitor.rcvhwm = 0  # with a limit, a full queue would stop libzmq's thread
    monitor.linger = 0
    name = f"inproc://events-{id(server)}"
    server.monitor(name, EVENTS)
    monitor.connect(name)
    return monitor


def _property(frame: zmq.Frame, name: str) -> str:
    """Return a property of the connection that a frame came by; nothing when that has ended."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""
