"""A feed in a process of its own, and its subscribers."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import zmq
from waiting import PATIENCE_S

PUBLISHER = """
import sys, time
from pathlib import Path
from streamvis.events.feed import Feed, Message
bind, keys, rate, size = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
feed = Feed(bind, epoch="e", keys=Path(keys) if keys else None)
feed.open_source("cam1")
print(feed.endpoint, flush=True)
began, tseq = time.monotonic(), 0
while True:
    due = int((time.monotonic() - began) * rate)
    numbers = range(tseq + 1, due + 1)
    feed.publish([Message("cam1", "track", n, b"{" + b" " * size + b"}") for n in numbers])
    tseq = max(tseq, due)
    time.sleep(0.005)
"""


@contextlib.contextmanager
def publisher(bind="tcp://0.0.0.0:*", directory="", descriptors=1024, rate=200, size=0):
    """Run a feed with `rate` messages a second, of `size` bytes; yield its process and address."""
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({descriptors}, {descriptors}))"
    command = [sys.executable, "-c", limit + PUBLISHER, bind, str(directory), str(rate), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip().replace("0.0.0.0", "127.0.0.1")
        finally:
            process.kill()


SUBSCRIBER = """
import sys, zmq
sub = zmq.Context().socket(zmq.SUB)
sub.subscribe("sv1/cam1/")
sub.connect(sys.argv[1])
while True:
    print(int.from_bytes(sub.recv_multipart()[1]), flush=True)
"""


@contextlib.contextmanager
def subscriber_process(endpoint):
    """Run a subscriber that prints the numbers of messages; yield its process once it has some."""
    command = [sys.executable, "-c", SUBSCRIBER, endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def plain_subscriber(endpoint, *topics, client=None):
    """A ZeroMQ socket, with the keys of a client."""
    with zmq.Context() as context, context.socket(zmq.SUB) as sub:
        sub.linger = 0
        if client is not None:
            client.use(sub)
        for topic in topics or ("sv1/",):
            sub.subscribe(topic)
        sub.connect(endpoint)
        yield sub


def hears(sub, seconds=PATIENCE_S):
    return bool(sub.poll(1000 * seconds))


def refused(sub):
    """The publisher's counts, from its heartbeats."""
    while True:
        assert hears(sub)
        parts = sub.recv_multipart()
        if parts[0] == b"sv1/_sys/":
            return json.loads(parts[2])["hb"]["refused"]


def awaited(sub, **counts):
    """Wait until the publisher has counted at least these."""
    deadline = time.monotonic() + PATIENCE_S
    while not all((found := refused(sub)).get(name, 0) >= n for name, n in counts.items()):
        assert time.monotonic() < deadline, (found, counts)
    return found


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"


class RawPeer:
    """A peer that speaks ZMTP 3.0 without libzmq, and so sends whatever it likes."""

    def __init__(self, endpoint):
        host, port = endpoint.removeprefix("tcp://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._data = b""
        self.socket.sendall(GREETING)
        self.hears(b"NULL")
        self.socket.sendall(bytes([4, len(READY)]) + READY)
        self.hears(b"READY")

    def send(self, *messages):
        self.socket.sendall(b"".join(bytes([0, len(one)]) + one for one in messages))

    def hears(self, text):
        """Wait until this text arrives, and forget what came until then."""
        while text not in self._data:
            self._data += (more := self.socket.recv(1 << 16))
            assert more, self._data
        self._data = self._data.partition(text)[2]

    def close(self):
        self.socket.close()


def resident_mb(process):
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
