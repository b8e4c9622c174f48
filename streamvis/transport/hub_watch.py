"""Ends a process of another machine that its hub cannot be reached from any more.

A process whose network is cut learns of nothing: TCP waits, for ever if it has nothing to send. Its
hub has replaced it meanwhile, and its memory and its device would stay in use.
"""

import os
import threading
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

from streamvis import logs
from streamvis.transport.keys import ClientKeys

PING_S = 5.0  # from one question to the hub's sockets to the next
GIVE_UP_S = 60.0  # without a connection; as long as the hub waits for heartbeats
EVENTS = int(zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED)


def exit_without_hub(
    endpoint: str, keys: ClientKeys, ping_s: float = PING_S, give_up_s: float = GIVE_UP_S
) -> None:
    """Exit this process, with code 1, when `endpoint` has not answered for `give_up_s`.

    That is seen at most 2 `ping_s` after the last answer. A thread watches until the process ends.
    """
    threading.Thread(
        target=_watch, args=(endpoint, keys, ping_s, give_up_s), name="hub", daemon=True
    ).start()


def _watch(endpoint: str, keys: ClientKeys, ping_s: float, give_up_s: float) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    for option in (zmq.HEARTBEAT_IVL, zmq.HEARTBEAT_TIMEOUT, zmq.CONNECT_TIMEOUT):
        socket.setsockopt(option, round(1000 * ping_s))
    keys.use(socket)
    monitor = socket.get_monitor_socket(EVENTS)
    socket.connect(endpoint)
    connected, lost_at = False, time.monotonic()
    while True:
        left_s = lost_at + give_up_s - time.monotonic()
        if not connected and (left_s <= 0 or not monitor.poll(round(1000 * left_s) + 1)):
            logs.warn("the hub does not answer: process ends", hub=endpoint, seconds=give_up_s)
            os._exit(1)
        answered = recv_monitor_message(monitor)["event"] == zmq.Event.HANDSHAKE_SUCCEEDED
        if connected and not answered:
            lost_at = time.monotonic()
        connected = answered
