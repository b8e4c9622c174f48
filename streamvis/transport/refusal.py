"""Whether a server refuses a client, which libzmq says to a monitor only."""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import zmq
from zmq.utils.monitor import parse_monitor_message

from streamvis.errors import UsageError

if TYPE_CHECKING:
    import zmq.asyncio

EVENTS = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
GREETING = b"\xff" + bytes(8) + b"\x7f\x03"  # of ZMTP 3, up to the major version
ANSWER_S = 1.0  # within which a server sends its greeting
MECHANISM = 0x11000002  # ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH

Kind = TypeVar("Kind", "zmq.Socket[bytes]", "zmq.asyncio.Socket")


def refusals(context: "zmq.Context[Kind]", client: Kind) -> Kind:
    """Return the socket on which libzmq reports failed handshakes of a client.

    The client's `disable_monitor` is to be called before it is closed.
    """
    name = f"inproc://refusals-{id(client)}"
    client.monitor(name, EVENTS)
    monitor = context.socket(zmq.PAIR)
    monitor.linger = 0
    monitor.connect(name)
    return monitor


def check(parts: Sequence[bytes], endpoint: str, *, with_keys: bool) -> None:
    """Raise UsageError when a message of `refusals` is final.

    Takes up to `ANSWER_S` where the server has closed the connection without a word.
    """
    happened = parse_monitor_message(list(parts))
    if happened["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        raise UsageError(
            f"{endpoint} refuses the key of this client: it is unknown there, or was revoked. Have "
            "another made on the server: streamvis keys new DIR --client NAME"
        )
    if happened["event"] == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        other = happened["value"] == MECHANISM
    else:  # a server that is the first to see another mechanism may close without naming its own
        other = _mechanism(endpoint) == ("NULL" if with_keys else "CURVE")
    if other and with_keys:
        raise UsageError(
            f"{endpoint} has no keys, and this client asks for them. Leave out --keys (keys=), or "
            "set publish.keys on the server"
        )
    if other:
        raise UsageError(
            f"{endpoint} serves only clients with keys, and this one has none. Give the file that "
            "streamvis keys new made for it: --keys FILE (keys=FILE)"
        )


def _mechanism(endpoint: str) -> str:
    """Return the security mechanism that a server names in its greeting; empty where unknown.

    ZMTP 3.1, greeting: a server sends it whole once it knows the client's major version.
    """
    if not endpoint.startswith("tcp://"):
        return ""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S) as server:
            server.sendall(GREETING)
            greeting = b""
            while len(greeting) < 32 and (more := server.recv(64)):
                greeting += more
    except (OSError, ValueError):
        return ""
    return greeting[12:32].rstrip(b"\0").decode(errors="replace")
