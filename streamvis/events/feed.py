"""The live feed: events on a ZeroMQ XPUB socket that its own thread owns.

The publisher never waits. Every queue is bounded, and messages that do not fit are counted.

A slow subscriber does not affect the others: with `XPUB_NODROP` a send fails as soon as the queue
of *any* subscriber of the topic is full, and no subscriber gets the message. So a failed send is
counted and repeated with `XPUB_NODROP` off, which delivers to all that have room. libzmq then skips
the slow subscriber silently until it has read half of its queue. `dropped` thus counts full queues,
that is the gaps that subscribers see, not the messages in them: `tseq` gives these exactly.
"""

import ipaddress
import json
import math
import os
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec
import zmq

from streamvis.errors import ConfigError, RunError
from streamvis.events import envelope, topics
from streamvis.events.envelope import Beat, Event, Heartbeat, Provenance, Time, new_epoch
from streamvis.events.topics import SYSTEM, SYSTEM_TOPIC
from streamvis.files import replace
from streamvis.transport.peers import Peers

BEAT_S = 1.0
SOON_S = 0.05  # a new subscriber's first heartbeat, and the least time between two
QUEUE = 10_000  # messages for each subscriber, and on their way to the thread
LINGER_MS = 1000  # how long a close may wait for what is queued
LONGEST_REQUEST = 1024  # bytes of a subscription, or of a message of the CURVE handshake
LONGEST = 1 << 20  # bytes of a payload or an attachment: subscribers take no more
WELCOME = b"sv1-welcome/"  # first thing a new subscriber of this prefix gets: WELCOME + epoch
ANNOUNCEMENT = "feed.json"
BIND = "publish.bind="
ON_DEMAND = "frame"  # family that is published while it has a subscriber by name
_END_OF_FRAMES = f"/{ON_DEMAND}/".encode()


class Message(NamedTuple):
    """A message of the feed: `[topic][u64 big-endian tseq][payload][attachments…]`."""

    source: str
    family: str
    tseq: int
    payload: bytes
    attachments: tuple[bytes, ...] = ()


class Feed:
    """Publishes on `bind`, with a heartbeat each second for every open source.

    `keys`: a directory of keys, whose clients alone are served. `endpoint` is the bound address.
    ConfigError for an address that other machines could reach, without keys; RunError when the
    address is in use.
    """

    def __init__(
        self,
        bind: str,
        *,
        epoch: str,
        pipeline: str = "",
        queue: int = QUEUE,
        keys: Path | None = None,
        replay: str | None = None,  # address of the replay server, for the heartbeats
        option: str = BIND,  # that `bind` comes from, for the errors
    ) -> None:
        self._context = zmq.Context()
        try:
            publisher, peers = _publisher(self._context, (option, bind), epoch, queue, keys)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self.endpoint = publisher.getsockopt_string(zmq.LAST_ENDPOINT)
        self._inlet = self._context.socket(zmq.PAIR)
        outlet = self._context.socket(zmq.PAIR)
        self._inlet.sndhwm = outlet.rcvhwm = queue
        self._inlet.sndtimeo = LINGER_MS
        self._inlet.linger = 0
        name = f"inproc://{uuid4()}"
        outlet.bind(name)
        self._inlet.connect(name)
        self._refused: Counter[str] = Counter()  # the way to the thread was full
        self._gaps: set[str] = set()  # topics whose last message found it so
        loop = _PublisherLoop(publisher, peers, outlet, epoch, pipeline, self._refused, replay)
        self._loop = loop
        self._dropped = loop.dropped
        self._peers = peers
        self._thread = threading.Thread(target=loop.run, name="event-feed", daemon=True)
        self._thread.start()

    def open_source(self, source: str, last: dict[str, int] | None = None) -> None:
        """Start heartbeats for a source; `last` is the last `tseq` sent before, by family."""
        self._inlet.send_multipart([b"open", source.encode(), msgspec.msgpack.encode(last or {})])

    def close_source(self, source: str) -> None:
        """Send a last heartbeat for the source."""
        self._inlet.send_multipart([b"shut", source.encode(), b""])

    def publish(self, messages: Iterable[Message]) -> None:
        """Queue messages for the thread; never waits."""
        for source, family, tseq, payload, attachments in messages:
            topic = topics.of(source, family)
            parts = [topic.encode(), tseq.to_bytes(8), payload, *attachments]
            try:
                self._inlet.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                if topic not in self._gaps:  # one gap, however many messages are in it
                    self._gaps.add(topic)
                    self._refused[topic] += 1
            else:
                self._gaps.discard(topic)

    @property
    def dropped(self) -> dict[str, int]:
        """By topic: how often a queue became full, each of which is a gap for its subscribers."""
        return dict(Counter(dict(self._refused)) + Counter(dict(self._dropped)))

    @property
    def subscribed(self) -> bool:
        """Whether there has been a subscriber since the start."""
        return self._loop.subscribed

    def wants_frames(self, source: str) -> bool:
        """Whether there is a subscriber to the topic of the frames of a source."""
        return self._peers.subscribe_to(topics.of(source, ON_DEMAND).encode())

    @property
    def refused(self) -> dict[str, int]:
        """By reason: how many connections were refused or ended."""
        return dict(self._peers.refused)

    def close(self, *, ended: bool = False) -> None:
        """Send queued messages, for at most LINGER_MS, and end the thread.

        `ended`: the run is over, and the last heartbeat says so. Without it subscribers see a
        publisher that stopped and may be restarted.
        """
        if self._context.closed:
            return
        with suppress(zmq.Again):  # the thread has died
            self._inlet.send_multipart([b"stop", b"ended" if ended else b""])
        self._thread.join()
        self._inlet.close()
        self._context.term()
        scheme, _, path = self.endpoint.partition("://")
        if scheme == "ipc" and not path.startswith("@"):  # libzmq leaves its socket file
            Path(path).unlink(missing_ok=True)


class _PublisherLoop:
    """The loop of the feed thread, the only user of the publisher socket."""

    def __init__(
        self,
        publisher: "zmq.Socket[bytes]",
        peers: Peers,
        outlet: "zmq.Socket[bytes]",
        epoch: str,
        pipeline: str,
        refused: Counter[str],
        replay: str | None = None,
    ) -> None:
        self.publisher = publisher
        self.peers = peers
        self.outlet = outlet
        self.epoch = epoch
        self.prov = Provenance(pipeline=pipeline)
        self.refused = refused
        self.replay = replay or msgspec.UNSET
        self.dropped: Counter[str] = Counter()
        self.last: dict[str, dict[str, int]] = {}  # open source -> family -> tseq
        self.last_beat_s = 0.0
        self.next_beat_s = 0.0
        self.subscribed = False  # there has been a subscriber

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self.outlet, zmq.POLLIN)
        poller.register(self.publisher, zmq.POLLIN)
        try:
            while True:
                wait_ms = math.ceil(1000 * (self.next_beat_s - time.monotonic()))
                ready = dict(poller.poll(max(0, wait_ms)))
                if self.publisher in ready:
                    self._subscriptions()
                if self.outlet in ready and not self._forward():
                    return
                if time.monotonic() >= self.next_beat_s:
                    self._send_heartbeats()
        finally:
            self.outlet.close(linger=0)
            self.peers.close()
            self.publisher.close(linger=LINGER_MS)

    def _subscriptions(self) -> None:
        """Send heartbeats soon after a subscription, so that it has the current numbers."""
        for _ in range(QUEUE):
            try:
                frame = self.publisher.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            subscribes = frame.bytes[:1] == b"\x01"
            if subscribes and frame.bytes.endswith(_END_OF_FRAMES):
                self.peers.catch_up()  # so that its topic is kept with its connection
            if self.peers.admit_subscription(frame) and subscribes:
                self.subscribed = True
                self.next_beat_s = min(self.next_beat_s, self.last_beat_s + SOON_S)

    def _forward(self) -> bool:
        """Publish queued messages, at most 1000; False at the end."""
        for _ in range(1000):
            try:
                parts = self.outlet.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return True
            match parts:
                case [topic, tseq, _, *_] if topic.startswith(b"sv1/"):
                    if topic != SYSTEM_TOPIC.encode():  # heartbeats of old do not count its events
                        _, source, family, _ = topic.decode().split("/")
                        self.last.get(source, {})[family] = int.from_bytes(tseq)
                    self._send(parts)
                case [b"open", source, last]:
                    self.last[source.decode()] = msgspec.msgpack.decode(last)
                    self.next_beat_s = 0.0
                case [b"shut", source, _]:
                    self._send_heartbeats()
                    self.last.pop(source.decode(), None)
                case [_, ended, *_]:
                    self._send_heartbeats(ended=bool(ended))
                    return False
        return True

    def _send(self, parts: list[bytes]) -> None:
        try:
            self.publisher.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            self.dropped[parts[0].decode()] += 1
            self.publisher.setsockopt(zmq.XPUB_NODROP, 0)
            self.publisher.send_multipart(parts, zmq.NOBLOCK)
            self.publisher.setsockopt(zmq.XPUB_NODROP, 1)

    def _send_heartbeats(self, *, ended: bool = False) -> None:
        for source, last in self.last.items():
            beat = Beat(last=last, dropped=self._dropped_of(source))
            self._send_heartbeat(topics.of(source, "hb"), source, beat)
        self._send_heartbeat(SYSTEM_TOPIC, SYSTEM, self._state(ended=ended))
        self.last_beat_s = time.monotonic()
        self.next_beat_s = self.last_beat_s + BEAT_S

    def _send_heartbeat(self, topic: str, source: str, beat: Beat) -> None:
        event = Event(
            id=new_epoch(),
            source=source,
            epoch=self.epoch,
            tseq=0,  # heartbeats are not counted
            offset=-1,
            time=Time(media_us=0, emit_us=time.time_ns() // 1000),
            prov=self.prov,
            what=Heartbeat(beat),
        )
        self._send([topic.encode(), bytes(8), envelope.encode(event)])

    def _state(self, *, ended: bool) -> Beat:
        """Of the publisher itself."""
        refused = dict(self.peers.refused)
        sources = sorted(self.last)
        return Beat(sources=sources, ended=ended, refused=refused, replay=self.replay)

    def _dropped_of(self, source: str) -> dict[str, int]:
        """By family."""
        prefix = f"sv1/{source}/"
        total = Counter(dict(self.dropped)) + Counter(dict(self.refused))
        return {
            topic.split("/")[2]: count for topic, count in total.items() if topic.startswith(prefix)
        }


def _publisher(
    context: "zmq.Context[zmq.Socket[bytes]]",
    named: tuple[str, str],  # the option, and its value
    epoch: str,
    queue: int,
    keys: Path | None,
) -> "tuple[zmq.Socket[bytes], Peers]":
    option, bind = named
    address = _checked_address(option, bind, keys)
    publisher = context.socket(zmq.XPUB)
    publisher.setsockopt(zmq.XPUB_NODROP, 1)
    publisher.setsockopt(zmq.XPUB_VERBOSER, 1)  # report each subscription of each peer, and its end
    publisher.setsockopt(zmq.XPUB_WELCOME_MSG, WELCOME + epoch.encode())
    publisher.setsockopt(zmq.MAXMSGSIZE, LONGEST_REQUEST)
    publisher.setsockopt(zmq.IPV6, int("[" in address))
    publisher.sndhwm = queue
    peers = Peers(context, publisher, keys)
    try:
        publisher.bind(address)
    except zmq.ZMQError as error:
        peers.close()
        publisher.close(linger=0)
        if error.errno == zmq.EADDRINUSE:
            raise _address_in_use(option, bind) from None
        reason = zmq.strerror(error.errno or 0)
        raise ConfigError(f"{option}{bind}: {reason}. {_expected(option)}") from None
    return publisher, peers


def _expected(option: str) -> str:
    return "Expected tcp://127.0.0.1:PORT (* for any port)" + (
        ", ipc://PATH, or none" if option == BIND else " or ipc://PATH"
    )


def _checked_address(option: str, bind: str, keys: Path | None) -> str:
    """The address; ConfigError if other machines could reach it, and there are no keys."""
    scheme, _, rest = bind.partition("://")
    if scheme == "ipc" and rest:
        _check_path(option, bind, rest)
        return bind
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not (port == "*" or _is_port(port)):
        raise ConfigError(f"{option}{bind} is not an address. {_expected(option)}")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        loopback = False  # `*`, an interface or a name
    if not loopback and keys is None:
        made = "Make keys with: streamvis keys new DIR, and set publish.keys=DIR; or bind"
        raise ConfigError(
            f"{option}{bind} can be reached from other machines, and the feed has no "
            f"authentication without keys. {made if option == BIND else 'Bind'} to 127.0.0.1"
        )
    return f"tcp://{host}:{port}"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text[:6]) <= 65535  # libzmq would wrap


def _check_path(option: str, bind: str, path: str) -> None:
    """Refuse an ipc path in use: libzmq removes any file there."""
    if path.startswith("@") or not os.path.exists(path):
        return
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise ConfigError(f"{option}{bind}: {path} is a file, expected a free path or a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise _address_in_use(option, bind)


def _address_in_use(option: str, bind: str) -> RunError:
    other = "tcp://127.0.0.1:PORT"
    choice = f"with {option}{other}"
    if option == BIND:
        choice = f"by the setting {BIND}{other}, or none by {BIND}none"
    return RunError(f"{bind} is in use by another process. Choose another address {choice}")


class Announcement(NamedTuple):
    """Where a run publishes, and where its log can be asked."""

    endpoint: str
    epoch: str
    replay: str | None = None


def write_announcement(out: Path, endpoint: str, epoch: str, replay: str | None = None) -> None:
    """Write the addresses of the feed and of its replay server to the output directory."""
    note = {"endpoint": endpoint, "epoch": epoch} | ({"replay": replay} if replay else {})
    replace(out / ANNOUNCEMENT, f"{json.dumps(note)}\n".encode(), durable=False)


def read_announcement(out: Path) -> Announcement | None:
    """Read the addresses of the run that publishes from this directory; None without one."""
    try:
        note = json.loads((out / ANNOUNCEMENT).read_text())
        replay = note.get("replay")
        return Announcement(str(note["endpoint"]), str(note["epoch"]), replay and str(replay))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def remove_announcement(out: Path, epoch: str) -> None:
    """Remove the announcement, if it is still of this run."""
    note = read_announcement(out)
    if note and note[1] == epoch:
        (out / ANNOUNCEMENT).unlink(missing_ok=True)
