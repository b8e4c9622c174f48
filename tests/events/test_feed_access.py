"""Whom the feed serves: keys, revocation, limits; each in a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from functools import partial
from pathlib import Path

import msgspec
import pytest
import zmq
from event_logs import WALK, logged
from feed_processes import (
    PATIENCE_S,
    RawPeer,
    awaited,
    hears,
    plain_subscriber,
    publisher,
    refused,
    resident_mb,
    subscriber_process,
)

from streamvis.errors import UsageError
from streamvis.events.client import Subscription
from streamvis.events.feed import QUEUE, Feed
from streamvis.events.replay_process import ReplayProcess
from streamvis.stages import event_codec
from streamvis.transport import keys

MANY = 600  # connections
EPOCH = "01999c82-3d00-7a54-b1d5-0c6d2a7f9e11"


@pytest.fixture
def directory(tmp_path):
    keys.new_server(tmp_path / "keys")
    return tmp_path / "keys"


def new_client(directory, name):
    return keys.client_keys(keys.new_client(directory, name))


def test_only_those_with_a_key_are_served_and_the_others_are_counted(directory, tmp_path):
    keys.new_server(tmp_path / "other")
    elsewhere = new_client(tmp_path / "other", "elsewhere")
    phone = new_client(directory, "phone")
    unknown = msgspec.structs.replace(elsewhere, server=phone.server)
    with (
        publisher(directory=directory) as (_, endpoint),
        plain_subscriber(endpoint, client=phone) as right,
        plain_subscriber(endpoint) as without,
        plain_subscriber(endpoint, client=unknown) as wrong,
        plain_subscriber(endpoint, client=elsewhere) as stray,
        contextlib.ExitStack() as more,
    ):
        assert hears(right)
        awaited(right, unknown_key=1, wrong_server_key=1)
        # libzmq's client may leave before it is known to have no key, and then does not try again
        ended(right, 1, ["no_key"], lambda: more.enter_context(plain_subscriber(endpoint)))
        for sub in (without, wrong, stray):
            assert not hears(sub, 0)


def test_a_client_that_is_added_or_removed_meanwhile(directory):
    phone, tablet = new_client(directory, "phone"), new_client(directory, "tablet")
    with (
        publisher(directory=directory) as (_, endpoint),
        plain_subscriber(endpoint, client=phone) as first,
        plain_subscriber(endpoint, client=tablet) as second,
    ):
        assert hears(first)
        assert hears(second)
        keys.revoke(directory, "phone")
        time.sleep(1)  # a second, as the documentation states
        while first.poll(0):
            first.recv_multipart()
        assert not hears(first, 1)
        assert awaited(second, revoked=1)["revoked"] == 1
        with plain_subscriber(endpoint, client=phone) as again:
            awaited(second, unknown_key=1)
            assert not hears(again, 0)
        with plain_subscriber(endpoint, client=new_client(directory, "phone")) as anew:
            assert hears(anew)


def test_a_subscription_with_keys(directory):
    phone = new_client(directory, "phone")
    with publisher(directory=directory) as (_, endpoint):
        for event in Subscription(endpoint, event_codec(), family="hb", keys=phone):
            assert event.what.hb.last["track"] >= 0
            break


def test_without_keys_other_addresses_are_refused_and_with_keys_they_are_not(directory):
    with contextlib.closing(Feed("tcp://0.0.0.0:*", epoch=EPOCH, keys=directory)) as feed:
        assert feed.endpoint.startswith("tcp://0.0.0.0:")
        assert feed.refused == {}


def ended(sub, least, reasons=("connections", "no_handshake"), provoke=lambda: None):
    """Wait until so many connections were ended for one of these reasons."""
    deadline = time.monotonic() + PATIENCE_S
    provoke()
    while sum((found := refused(sub)).get(reason, 0) for reason in reasons) < least:
        assert time.monotonic() < deadline, (found, least)
        with contextlib.suppress(zmq.Again):  # it is about to connect again
            provoke()


def test_what_no_subscriber_sends_ends_its_connection_and_is_counted():
    with (
        publisher("tcp://127.0.0.1:*") as (_, endpoint),
        plain_subscriber(endpoint) as good,
        zmq.Context() as context,
    ):
        assert hears(good)
        # libzmq ends the connection of an oversized message, which may not be recognised as such
        for message, reasons in (
            ([b"\7hello"], ["malformed"]),
            ([b"\7not", b"a", b"subscription"], ["frames"]),
            ([b"\1" + b"x" * 300], ["malformed", "oversized"]),
            ([b"\1" + b"x" * 5000], ["malformed", "oversized"]),
        ):
            before = sum(refused(good).get(reason, 0) for reason in reasons)
            with context.socket(zmq.XSUB) as rude:
                rude.linger = 1000
                rude.connect(endpoint)
                rude.send(b"\1sv1/")
                assert hears(rude)
                # sent again, since a connection that is over before it is looked at is not counted
                ended(good, before + 1, reasons, partial(rude.send_multipart, message, zmq.NOBLOCK))
        host, port = endpoint.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 50)
            assert hears(good)


@pytest.mark.parametrize("with_keys", [False, True])
def test_subscribers_that_leave_at_once_are_not_refused(with_keys, directory):
    client = new_client(directory, "phone") if with_keys else None
    with (
        publisher(directory=directory) if with_keys else publisher("tcp://127.0.0.1:*") as (
            _,
            endpoint,
        )
    ):
        for turn in range(120):
            with plain_subscriber(endpoint, client=client):
                time.sleep(turn % 6 * 2e-4)  # before, during and after the handshake
        host, port = endpoint.removeprefix("tcp://").split(":")
        for _ in range(20):
            socket.create_connection((host, int(port))).close()
        with plain_subscriber(endpoint, client=client) as last:
            time.sleep(1)  # in which the ends of the others are judged
            while last.poll(0):
                last.recv_multipart()
            assert refused(last) == {}


def eventually(check):
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_frames_of_one_subscriber_do_not_end_with_what_another_sends():
    begin, end = b"\1sv1/cam1/frame/", b"\0sv1/cam1/frame/"
    with contextlib.closing(Feed("tcp://127.0.0.1:*", epoch=EPOCH)) as feed:

        def wanted(source="cam1"):
            return feed.wants_frames(source)

        with contextlib.closing(RawPeer(feed.endpoint)) as rude:
            rude.send(*[end] * 20, b"\1sv1/a/frame/")
            eventually(lambda: wanted("a"))
            assert not wanted()
            with plain_subscriber(feed.endpoint, "sv1/cam1/frame/"):
                eventually(wanted)
                rude.send(*[end] * 20, *[begin, end, end] * 5, b"\1sv1/b/frame/")
                eventually(lambda: wanted("b"))
                assert wanted()
            eventually(lambda: not wanted())
            rude.send(begin, begin)
            eventually(wanted)
        eventually(lambda: not wanted())
        assert not wanted("a")
        assert feed.refused == {}


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:*", "ipc://{}/feed"])
def test_a_flood_of_subscriptions_ends_and_memory_stays(bind, tmp_path):
    with (
        publisher(bind.format(tmp_path)) as (process, endpoint),
        plain_subscriber(endpoint) as good,
        zmq.Context() as context,
    ):
        assert hears(good)
        before = resident_mb(process)
        for turn in range(3):
            with context.socket(zmq.XSUB) as rude:
                rude.sndhwm = 0
                rude.linger = 2000
                rude.connect(endpoint)
                for n in range(100_000):
                    rude.send(b"\1" + b"%d/%d" % (turn, n) * 5)
            awaited(good, flood=turn + 1)
        # Kept, each flood would take more; some waits in queues while the publisher gets no core
        assert resident_mb(process) - before < 100


def test_a_subscriber_that_sleeps_for_10_s_costs_the_publisher_no_more_than_its_queue():
    rate, size, sleep_s = 3000, 1000, 10.0
    with (
        publisher("tcp://127.0.0.1:*", rate=rate, size=size) as (process, endpoint),
        plain_subscriber(endpoint, "sv1/cam1/track/") as quick,
        plain_subscriber(endpoint, "sv1/cam1/hb/") as beats,
        subscriber_process(endpoint) as asleep,
    ):
        numbers = [int.from_bytes(quick.recv_multipart()[1])]
        before = most = resident_mb(process)
        os.kill(asleep.pid, signal.SIGSTOP)
        began = time.monotonic()
        while time.monotonic() < began + sleep_s:
            numbers.append(int.from_bytes(quick.recv_multipart()[1]))
            if len(numbers) % 1000 == 0:
                most = max(most, resident_mb(process))
        assert len(numbers) / sleep_s > 2000
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert most - before < 2 * QUEUE * size / 1e6
        while not json.loads(beats.recv_multipart()[2])["hb"]["dropped"]:
            assert hears(beats)  # the queue was full


def cpu_s(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def few_descriptors(process, most):
    """Wait until the process has fewer descriptors than this."""
    deadline = time.monotonic() + PATIENCE_S
    while len(os.listdir(f"/proc/{process.pid}/fd")) >= most:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("descriptors", "kept"), [(1024, 256), (600, 200)])
def test_many_idle_connections_cost_neither_descriptors_nor_a_core(descriptors, kept):
    with (
        publisher("tcp://127.0.0.1:*", descriptors=descriptors) as (process, endpoint),
        plain_subscriber(endpoint) as good,
        contextlib.ExitStack() as stack,
    ):
        assert hears(good)
        host, port = endpoint.removeprefix("tcp://").split(":")
        for _ in range(MANY):
            stack.enter_context(socket.create_connection((host, int(port))))
        # where a burst uses up the descriptors, some end only after 5 s, and count as such
        looked_at = descriptors > MANY  # of others, not all can be
        ended(good, (MANY - kept) * 3 // 4 if looked_at else 1)
        few_descriptors(process, 2 * kept + 100)
        with plain_subscriber(endpoint) as late:
            assert hears(late)
        before = cpu_s(process)
        time.sleep(2)
        assert cpu_s(process) - before < 1
        ended(good, MANY - 10 if looked_at else MANY // 4)  # after 5 s
        few_descriptors(process, 100)


@contextlib.contextmanager
def requester(endpoint, client=None):
    with zmq.Context() as context, context.socket(zmq.DEALER) as request:
        request.linger = 0
        if client is not None:
            client.use(request)
        request.connect(endpoint)
        yield request


def answered(request, seconds=PATIENCE_S):
    while request.poll(0):
        request.recv()
    with contextlib.suppress(zmq.Again):  # the connection was refused
        request.send(b'{"get": "snapshot"}', zmq.NOBLOCK)
    return request.poll(1000 * seconds) and json.loads(request.recv())["reply"] == "snapshot"


def test_the_replay_server_answers_only_those_with_a_key(directory, tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK)
    phone, tablet = new_client(directory, "phone"), new_client(directory, "tablet")
    addresses = ["tcp://127.0.0.1:0"]
    with contextlib.closing(
        ReplayProcess(tmp_path / "events.db", addresses, {}, directory)
    ) as server:
        server.start()
        with (
            requester(server.endpoint, phone) as first,
            requester(server.endpoint, tablet) as second,
            requester(server.endpoint) as without,
        ):
            assert answered(first)
            assert answered(second)
            assert not answered(without, 1)
            keys.revoke(directory, "phone")
            time.sleep(1)
            assert not answered(first, 1)
            assert answered(second)


async def first_of(subscription):
    async for event in subscription:
        return event
    return None


def test_a_subscription_that_is_refused_says_why(directory):
    phone = new_client(directory, "phone")
    with publisher(directory=directory) as (_, endpoint):
        subscription = Subscription(endpoint, event_codec())
        with pytest.raises(UsageError, match=r"serves only clients with keys.*--keys FILE"):
            next(iter(subscription))
        with pytest.raises(UsageError, match="serves only clients with keys"):
            asyncio.run(first_of(subscription))
        keys.revoke(directory, "phone")
        subscription = Subscription(endpoint, event_codec(), keys=phone)
        with pytest.raises(UsageError, match="refuses the key of this client"):
            next(iter(subscription))
        with pytest.raises(UsageError, match="refuses the key of this client"):
            asyncio.run(first_of(subscription))
    with (
        publisher("tcp://127.0.0.1:*") as (_, endpoint),
        pytest.raises(UsageError, match="has no keys"),
    ):
        next(iter(Subscription(endpoint, event_codec(), keys=phone)))


def test_refusals_without_a_reason_do_not_make_a_wait_longer(directory, tmp_path):
    """A client with the keys of another server is refused again and again."""
    keys.new_server(tmp_path / "other")
    stray = new_client(tmp_path / "other", "stray")
    with publisher(directory=directory) as (_, endpoint):
        subscription = partial(Subscription, endpoint, event_codec(), timeout_s=0.5, keys=stray)
        assert list(subscription()) == []
        assert asyncio.run(first_of(subscription())) is None


def test_a_subscription_whose_key_is_revoked_ends(directory):
    phone = new_client(directory, "phone")
    with publisher(directory=directory) as (_, endpoint):
        events = iter(Subscription(endpoint, event_codec(), family="hb", keys=phone))
        assert next(events)
        keys.revoke(directory, "phone")
        with pytest.raises(UsageError, match="refuses the key of this client"):
            list(events)
