"""A real broker, a subscriber, and a proxy that cuts connections at any byte."""

import selectors
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress

import paho.mqtt.client as paho
import pytest
from bridged import wait_until
from paho.mqtt.enums import CallbackAPIVersion
from waiting import PATIENCE_S

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None, reason="needs a broker: apt-get install mosquitto"
)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


class Mosquitto:
    """mosquitto on a port of this machine; it forgets everything when it ends."""

    def __init__(self, folder, lines=("allow_anonymous true",)):
        self.port, self._folder = free_port(), folder
        self._conf = folder / "mosquitto.conf"
        # `user root`: it would give up its rights, and with them those on the test's files
        head = [f"listener {self.port} 127.0.0.1", "user root", "max_queued_messages 0"]
        self._conf.write_text("\n".join([*head, *lines, ""]))
        self.start()

    def start(self):
        self._log = (self._folder / "mosquitto.log").open("a")
        self.process = subprocess.Popen([MOSQUITTO, "-c", self._conf], stderr=self._log)
        wait_until(self._listens)

    def _listens(self):
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._log.close()


@contextmanager
def mosquitto(folder, *lines):
    broker = Mosquitto(folder, lines or ("allow_anonymous true",))
    try:
        yield broker
    finally:
        broker.kill()


class Subscriber:
    """Receives all messages of a broker."""

    def __init__(self, port, topic="#", configure=lambda client: None):
        self.received = []  # (topic, payload, retain)
        self._subscribed = threading.Event()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        configure(self.client)
        self.client.on_message = lambda client, data, m: self.received.append(
            (m.topic, m.payload, m.retain)
        )
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self._ended = threading.Event()
        self.client.on_connect = lambda *_: self._ended.clear()
        self.client.on_disconnect = lambda *_: self._ended.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe(topic, 1)
        assert self._subscribed.wait(PATIENCE_S)

    def payloads(self, topic):
        return [payload for name, payload, _ in list(self.received) if name == topic]

    def catch_up(self):
        """Wait until all that the broker has accepted so far has arrived."""
        before = len(self.payloads("marker"))
        self.client.publish("marker", b"", 1)
        wait_until(lambda: len(self.payloads("marker")) > before)

    def close(self):
        self.client.disconnect()
        self._ended.wait(PATIENCE_S)  # its thread has closed the socket
        self.client.loop_stop()
        if (left := self.client.socket()) is not None:  # its thread was about to connect again
            left.close()
        # without a cycle, the client closes its other sockets when it is let go
        self.client.on_message = self.client.on_subscribe = None
        self.client.on_connect = self.client.on_disconnect = None


@contextmanager
def subscribed(broker, **options):
    one = Subscriber(broker.port, **options)
    try:
        yield one
    finally:
        one.close()


class Proxy:
    """Passes bytes to a port of this machine, while it is open and until it has passed enough."""

    def __init__(self, port):
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._other = {}
        self.is_open, self.left = True, None  # bytes until the cut; None: no cut
        self.cuts = 0
        self.loses_requests = self.loses_answers = False
        self.lost = b""  # what was lost, while one of them was set
        self._far = set()
        self._ends = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def shut(self):
        """Cut all connections, and refuse others until `is_open` is set."""
        self.is_open = False
        wait_until(lambda: not self._other)

    def close(self):
        self._ends = True
        self._thread.join()
        self._server.close()
        self._selector.close()

    def _run(self):
        while not self._ends:
            for key, _ in self._selector.select(0.02):
                with suppress(KeyError):  # cut in this round
                    self._accept() if key.fileobj is self._server else self._pass(key.fileobj)
            if not self.is_open:
                self._cut()
        self._cut()

    def _accept(self):
        near, _ = self._server.accept()
        if not self.is_open:
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            near.close()
            return
        self._other |= {near: far, far: near}
        self._far.add(far)
        for one in (near, far):
            self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, one):
        other = self._other[one]
        with suppress(OSError):
            data = one.recv(512)
            if self.left is not None:
                data, self.left = data[: self.left], self.left - len(data)
            if data:
                if self.loses_answers if one in self._far else self.loses_requests:
                    self.lost += data
                    return
                other.sendall(data)
                if self.left is None or self.left > 0:
                    return
        if self.left is not None and self.left <= 0:
            self.left, self.cuts = None, self.cuts + 1
        self._cut()

    def _cut(self):
        for one in self._other:
            self._selector.unregister(one)
            one.close()
        self._other, self._far = {}, set()


@contextmanager
def proxy_of(broker):
    one = Proxy(broker.port)
    try:
        yield one
    finally:
        one.close()
