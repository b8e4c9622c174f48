import itertools
import json
import os
import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest
import zmq

from streamvis.errors import ConfigError, RunError
from streamvis.events.envelope import Beat
from streamvis.events.feed import (
    Feed,
    Message,
    _PublisherLoop,
    read_announcement,
    remove_announcement,
    write_announcement,
)
from streamvis.stages import event_codec

EPOCH = "01999c82-3d00-7a54-b1d5-0c6d2a7f9e11"
PATIENCE_MS = 20_000


@contextmanager
def subscriber(endpoint, *topics, rcvhwm=0):
    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    sub.rcvhwm = rcvhwm
    for topic in topics:
        sub.subscribe(topic)
    sub.connect(endpoint)
    try:
        yield sub
    finally:
        sub.close(linger=0)
        context.term()


def received(sub):
    assert sub.poll(PATIENCE_MS), "nothing came"
    return sub.recv_multipart()


def until_listening(sub):
    """Wait for a heartbeat, subscribed last: the subscriptions before it are in force then."""
    while not received(sub)[0].endswith((b"/hb/", b"/_sys/")):
        pass


def message(source, tseq, payload=b"{}", family="track"):
    return Message(source, family, tseq, payload)


@pytest.fixture
def feed():
    with closing(Feed("tcp://127.0.0.1:*", epoch=EPOCH, pipeline="abc")) as feed:
        yield feed


def test_the_wire(feed):
    with subscriber(feed.endpoint, "sv1/") as sub:
        until_listening(sub)
        feed.publish([message("cam1", 258, b'{"a":1}')])
        while (parts := received(sub))[0] != b"sv1/cam1/track/":
            pass
    assert parts == [b"sv1/cam1/track/", b"\0\0\0\0\0\0\1\2", b'{"a":1}']


def test_attachments_follow_the_payload_and_are_counted_as_one_message(feed):
    feed.open_source("cam1")
    with subscriber(feed.endpoint, "sv1/cam1/forecast/", "sv1/cam1/hb/") as sub:
        until_listening(sub)
        feed.publish([Message("cam1", "forecast", 1, b"{}", (b"\x89PNG", b""))])
        while (parts := received(sub))[0] != b"sv1/cam1/forecast/":
            pass
        assert parts[1:] == [b"\0\0\0\0\0\0\0\1", b"{}", b"\x89PNG", b""]
        while not (last := json.loads(received(sub)[2])["hb"]["last"]):
            pass
    assert last == {"forecast": 1}


def test_cam1_is_not_cam10(feed):
    with subscriber(feed.endpoint, "sv1/cam1/track/", "sv1/_sys/") as sub:
        until_listening(sub)
        feed.publish([message("cam10", 1), message("cam1", 1), message("cam1", 1, family="source")])
        feed.publish([message("cam1", 2)])
        got = []
        while len(got) < 2:
            parts = received(sub)
            got += [] if parts[0] == b"sv1/_sys/" else [parts[0]]
    assert got == [b"sv1/cam1/track/"] * 2


def test_the_welcome_comes_first(feed):
    with subscriber(feed.endpoint, "sv1-welcome/", "sv1/") as sub:
        assert received(sub) == [b"sv1-welcome/" + EPOCH.encode()]


def test_a_heartbeat_tells_where_each_topic_stands(feed):
    feed.open_source("cam1", {"source": 4})
    feed.publish([message("cam1", tseq) for tseq in (1, 2, 3)])
    with subscriber(feed.endpoint, "sv1/cam1/hb/") as sub:
        while (event := event_codec().decode(received(sub)[2])).what.hb.last.get("track") != 3:
            pass
    assert event.what.hb == Beat(last={"track": 3, "source": 4})
    assert (event.source, event.epoch, event.prov.pipeline) == ("cam1", EPOCH, "abc")
    assert (event.tseq, event.offset) == (0, -1)


def test_a_source_that_is_shut_beats_no_more(feed):
    feed.open_source("cam1")
    feed.open_source("cam2")
    with subscriber(feed.endpoint, "sv1/") as sub:
        beats = (event_codec().decode(received(sub)[2]) for _ in range(100))
        assert any(beat.what.hb.sources == ["cam1", "cam2"] for beat in beats)
        feed.close_source("cam1")
        assert any(beat.what.hb.sources == ["cam2"] for beat in beats)
        assert next(beats).source == "cam2"


def test_a_slow_subscriber_is_counted_and_the_others_lose_nothing():
    total, payload = 8000, b'"%s"' % (b"x" * 4000)  # more than the kernel's buffers hold
    with closing(Feed("tcp://127.0.0.1:*", epoch=EPOCH, queue=500)) as feed:
        feed.open_source("cam1")
        topics = ("sv1/cam1/track/", "sv1/cam1/hb/")
        with (
            subscriber(feed.endpoint, *topics) as quick,
            subscriber(feed.endpoint, *topics, rcvhwm=10) as slow,
        ):
            until_listening(quick)
            until_listening(slow)
            got = []
            for tseq in range(1, total + 1):
                feed.publish([message("cam1", tseq, payload)])
                if tseq % 100 == 0:  # the publisher waits for nobody; the test lets `quick` keep up
                    while not got or got[-1] < tseq:
                        parts = received(quick)
                        got += numbers(parts)
            assert got == list(range(1, total + 1))
            beat = event_codec().decode(awaited(quick, b"sv1/cam1/hb/")[2])
            assert beat.what.hb.last == {"track": total}
            dropped = sum(beat.what.hb.dropped.values())  # a heartbeat may be what found it full
            assert dropped == sum(feed.dropped.values()) >= 1

            late = []
            while not late or late[-1] <= total:  # it wakes up; one more message reaches it
                late += numbers(received(slow))
                if not slow.poll(100):
                    feed.publish([message("cam1", total + 1)])
            late = sorted(set(late))
            gaps = sum(b != a + 1 for a, b in itertools.pairwise(late))
            assert len(late) < total
            assert gaps == dropped == sum(feed.dropped.values())


def test_a_full_way_to_the_thread_counts_once_for_each_gap(monkeypatch):
    gate, send = threading.Event(), _PublisherLoop._send

    def when_open(loop, parts):
        gate.wait()
        time.sleep(0.001)  # so that the queue of the subscriber does not become full as well
        send(loop, parts)

    monkeypatch.setattr(_PublisherLoop, "_send", when_open)
    queue, got, tseq = 50, [], 0
    with closing(Feed("tcp://127.0.0.1:*", epoch=EPOCH, queue=queue)) as feed:
        gate.set()
        feed.open_source("cam1")
        with subscriber(feed.endpoint, "sv1/cam1/track/", "sv1/cam1/hb/") as sub:
            until_listening(sub)
            for _ in range(3):
                gate.clear()
                for _ in range(10 * queue):
                    tseq += 1
                    feed.publish([message("cam1", tseq)])
                gate.set()
                while sub.poll(500):
                    got += numbers(received(sub))
            feed.publish([message("cam1", tseq + 1)])
            while tseq + 1 not in got:
                got += numbers(received(sub))
        gaps = sum(b != a + 1 for a, b in itertools.pairwise(got))
        assert gaps == feed.dropped["sv1/cam1/track/"] == 3


def numbers(parts):
    return [int.from_bytes(parts[1])] if parts[0].endswith(b"/track/") else []


def awaited(sub, topic):
    while (parts := received(sub))[0] != topic:
        pass
    return parts


def test_what_is_queued_is_sent_before_the_end_and_nothing_stays_behind():
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    feed = Feed("tcp://127.0.0.1:*", epoch=EPOCH)
    with subscriber(feed.endpoint, "sv1/") as sub:
        until_listening(sub)
        feed.publish([message("cam1", tseq) for tseq in range(1, 5001)])
        feed.close()
        feed.close()
        got = []
        while len(got) < 5000:
            got += numbers(received(sub))
    assert got == list(range(1, 5001))
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files


def test_nobody_listens_and_the_end_does_not_wait():
    feed = Feed("tcp://127.0.0.1:*", epoch=EPOCH)
    feed.open_source("cam1")
    feed.publish([message("cam1", tseq) for tseq in range(1, 1001)])
    feed.close()
    assert feed.dropped == {}


def test_noise_on_the_port_harms_nobody(feed):
    host, port = feed.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 50)
    context = zmq.Context()
    rude = context.socket(zmq.XSUB)
    rude.connect(feed.endpoint)
    rude.send(b"\1" + b"long" * 5000)
    rude.send_multipart([b"\7", b"not", b"a subscription"])
    try:
        with subscriber(feed.endpoint, "sv1/") as sub:
            until_listening(sub)
            feed.publish([message("cam1", 1)])
            assert numbers(awaited(sub, b"sv1/cam1/track/")) == [1]
    finally:
        rude.close(linger=0)
        context.term()


@pytest.mark.parametrize(
    "bind",
    [
        *("tcp://0.0.0.0:5560", "tcp://*:5560", "tcp://192.0.2.7:5560", "tcp://[::]:5560"),
        *("tcp://eth0:5560", "tcp://example.org:5560"),
    ],
)
def test_addresses_that_others_could_reach_are_refused(bind):
    with pytest.raises(ConfigError, match=r"can be reached from other machines.*no authentication"):
        Feed(bind, epoch=EPOCH)


@pytest.mark.parametrize(
    "bind",
    [
        *("5560", "tcp://127.0.0.1", "tcp://127.0.0.1:http", "udp://127.0.0.1:1", "ipc://"),
        *("tcp://127.0.0.1:99999", "ipc:///nowhere/at/all/feed", "ipc://" + "x" * 200),
    ],
)
def test_addresses_that_are_none(bind):
    with pytest.raises(ConfigError, match=r"publish\.bind=.*Expected tcp://127\.0\.0\.1:PORT"):
        Feed(bind, epoch=EPOCH)


def test_the_port_is_in_use(feed):
    with pytest.raises(RunError, match=r"in use.*by the setting publish\.bind=") as error:
        Feed(feed.endpoint, epoch=EPOCH)
    assert feed.endpoint in str(error.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_other_names_of_loopback(host):
    with closing(Feed(f"tcp://{host}:*", epoch=EPOCH)) as feed:
        assert feed.endpoint.startswith("tcp://127.0.0.")


def test_ipc(tmp_path):
    path = tmp_path / "feed"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()  # a dead publisher's socket file is in nobody's way
    with closing(Feed(f"ipc://{path}", epoch=EPOCH)) as feed:
        with subscriber(feed.endpoint, "sv1/") as sub:
            until_listening(sub)
        with pytest.raises(RunError, match="in use"):
            Feed(f"ipc://{path}", epoch=EPOCH)
    assert not path.exists()


def test_a_file_is_not_overwritten_by_a_socket(tmp_path):
    path = tmp_path / "letter"
    path.write_text("dear")
    with pytest.raises(ConfigError, match="is a file, expected a free path or a socket"):
        Feed(f"ipc://{path}", epoch=EPOCH)
    assert path.read_text() == "dear"


def test_the_note_of_where_the_feed_is(tmp_path):
    assert read_announcement(tmp_path) is None
    write_announcement(tmp_path, "tcp://127.0.0.1:1", EPOCH)
    assert read_announcement(tmp_path) == ("tcp://127.0.0.1:1", EPOCH, None)
    write_announcement(tmp_path, "tcp://127.0.0.1:1", EPOCH, "tcp://127.0.0.1:2")
    assert read_announcement(tmp_path).replay == "tcp://127.0.0.1:2"
    remove_announcement(tmp_path, "another run")
    assert read_announcement(tmp_path) is not None
    remove_announcement(tmp_path, EPOCH)
    assert list(tmp_path.iterdir()) == []
    for wrong in ("", "[]", '{"endpoint": 1}', json.dumps({"epoch": 1})):
        (tmp_path / "feed.json").write_text(wrong)
        assert read_announcement(tmp_path) is None
