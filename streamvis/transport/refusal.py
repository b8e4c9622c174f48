"""Whether a server refuses a client: libzmq says so to a monitor only, and then tries no more."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import zmq
from zmq.utils.monitor import parse_monitor_message

from streamvis.errors import UsageError

if TYPE_CHECKING:
    import zmq.asyncio

EVENTS = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
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
    """Raise UsageError when a message of `refusals` is final."""
    happened = parse_monitor_message(list(parts))
    if happened["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        raise UsageError(
            f"{endpoint} refuses the key of this client: it is unknown there, or was revoked. Have "
            "another made on the server: streamvis keys new DIR --client NAME"
        )
    if happened["value"] == MECHANISM and with_keys:
        raise UsageError(
            f"{endpoint} has no keys, and this client asks for them. Leave out --keys (keys=), or "
            "set publish.keys on the server"
        )
    if happened["value"] == MECHANISM:
        raise UsageError(
            f"{endpoint} serves only clients with keys, and this one has none. Give the file that "
            "streamvis keys new made for it: --keys FILE (keys=FILE)"
        )
