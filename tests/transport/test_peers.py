"""Connections are told apart by descriptors, whose numbers are used again."""

from contextlib import closing

import zmq
from waiting import until

from streamvis.transport.peers import Peers


def test_a_second_descriptor_is_not_taken_for_a_connection_that_has_ended():
    """Its number may be that of one that had been accepted, and closed before it was looked at."""
    with (
        zmq.Context() as context,
        context.socket(zmq.XPUB) as server,
        closing(Peers(context, server)) as peers,
    ):
        server.bind("tcp://127.0.0.1:*")
        endpoint = server.getsockopt_string(zmq.LAST_ENDPOINT)
        with context.socket(zmq.SUB) as client:
            client.subscribe("a")
            client.connect(endpoint)
            until(lambda: server.poll(0), "the subscription")
            peers.catch_up()
            ((number, connection),) = peers._connections.items()
            peers._accepted(connection.fileno(), endpoint)
            assert list(peers._connections) == [number]
            peers._disconnected(connection.fileno())
            peers._judge_ends()
            assert peers.refused == {}
            server.send(b"a")
            assert client.recv() == b"a"
