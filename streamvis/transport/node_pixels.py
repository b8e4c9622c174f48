"""Pictures between nodes: who decodes them serves them, and workers of other nodes fetch them.

A slot that is not the hub's names its node and who serves it,
`<node>@<address>/<segment>:<byte offset>`. On the same node it is mapped as always.

Request:  [format: b"raw" or b"jpeg", slot, height, width]
Reply:    [slot, pixels], or [slot] when there is no such slot
"""

import struct
import threading
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from typing import Literal

import msgspec
import numpy as np
import zmq

from streamvis.errors import DataError, RunError
from streamvis.messages import Array, Frame
from streamvis.transport.keys import ClientKeys, Key, ServerKeys
from streamvis.transport.slots import Segment, SlotReader
from streamvis.transport.sockets import serve_keys, use_server_keys

FETCH_S = 5.0  # for the pixels of a batch
TRIES = 2
LOOK_MS = 200  # at most, until the server sees that it is over
QUALITY = (1, 95)  # of JPEG: cv2.IMWRITE_JPEG_QUALITY, percent
SIZE = struct.Struct("!II")  # height, width
MOST_BYTES = 2**28  # of a picture

Encoding = Literal["raw", "jpeg"]


class PixelKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The key pairs with which the processes of one run exchange pixels."""

    server: ServerKeys
    client: ClientKeys

    @property
    def served(self) -> frozenset[Key]:
        return frozenset([self.client.public])


class SlotHost:
    """The slots of a decode process on a node of its own, and their server.

    It outlives the decoding, until the frames in flight need them no more.
    """

    def __init__(self, node: str, address: str, keys: PixelKeys) -> None:
        """Serve at a free port of `address`, an IP address of this machine."""
        self.node = node
        self._segments: dict[str, Segment] = {}  # by name
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = serve_keys(self._context, keys.served)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.MAXMSGSIZE, 2**16)
        use_server_keys(self._socket, keys.server)
        self._socket.bind(f"tcp://{address}:*")
        endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._prefix = f"{node}@{endpoint}/"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="pixels", daemon=True)
        self._thread.start()

    def make(self, count: int, size: int, what: str) -> list[str]:
        """Make slots and return their names; RunError when there is no room for them."""
        segment = Segment(count, size, what)
        self._segments[segment.name] = segment
        return [self._prefix + slot for slot in segment.slots]

    def drop(self, segment: str) -> None:
        """Free a segment that `make` has made, by its name or that in its slots."""
        made = self._segments.pop(segment.rpartition("/")[2], None)
        if made is not None:
            made.close()

    def close(self) -> None:
        """Free everything, and serve no more."""
        for name in list(self._segments):
            self.drop(name)
        self._over.set()
        self._thread.join()
        self._authenticator.stop()
        self._socket.close(linger=0)
        self._context.term()

    def _serve(self) -> None:
        with closing(SlotReader()) as reader:
            while not self._over.is_set():
                if not self._socket.poll(LOOK_MS):
                    continue
                peer, *request = self._socket.recv_multipart()
                with suppress(zmq.ZMQError):
                    self._socket.send_multipart([peer, *_answer(reader, request)])


def _answer(reader: SlotReader, request: Sequence[bytes]) -> list[bytes]:
    try:
        encoding, slot, size = request
        height, width = SIZE.unpack(size)
        pixels = reader.view(slot.decode(), (height, width, 3))
    except (ValueError, struct.error, DataError, RunError):
        return list(request[1:2])
    return [slot, _jpeg(pixels) if encoding == b"jpeg" else pixels.tobytes()]


class NodePixels:
    """Reads the pixels of frames from this node's memory, or from the node that has them."""

    def __init__(self, node: str, keys: PixelKeys, encoding: Encoding = "raw") -> None:
        self.node = node
        self.received = (0, 0)  # frames and bytes that have come from other nodes
        self._keys = keys
        self._encoding = encoding
        self._local = SlotReader()
        self._held: dict[str, Array] = {}  # by slot
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._servers: dict[str, zmq.Socket[bytes]] = {}  # by address

    def __call__(self, frame: Frame) -> Array:
        """Return the picture (H, W, 3) uint8 RGB of a frame that is held."""
        held = self._held.get(frame.slot)
        return self._local(frame) if held is None else held

    def hold(self, frames: Iterable[Frame]) -> list[str]:
        """Map or fetch these frames, and forget others; return the slots that cannot be read."""
        self._held.clear()
        missing: list[str] = []
        remote: dict[str, list[Frame]] = {}  # by address
        for frame in frames:
            node, named, rest = frame.slot.partition("@")
            if not named or node == self.node:
                try:
                    self._local(frame)
                except RunError:
                    missing.append(frame.slot)
            else:
                remote.setdefault(rest.rpartition("/")[0], []).append(frame)
        for address, wanted in remote.items():
            missing += self._fetch(address, wanted)
        return missing

    def close(self) -> None:
        self._local.close()
        for socket in self._servers.values():
            socket.close(linger=0)
        self._context.term()

    def _fetch(self, address: str, frames: Sequence[Frame]) -> list[str]:
        wanted = {frame.slot: frame for frame in frames}
        missing: list[str] = []
        for _ in range(TRIES):
            socket = self._server(address)
            for frame in wanted.values():
                size = SIZE.pack(frame.height, frame.width)
                socket.send_multipart([self._encoding.encode(), frame.slot.encode(), size])
            while wanted and socket.poll(round(1000 * FETCH_S)):
                slot, *pixels = socket.recv_multipart()
                found = wanted.pop(slot.decode(errors="replace"), None)
                if found is None:
                    continue
                if not pixels:
                    missing.append(found.slot)
                    continue
                self._held[found.slot] = _decoded(pixels[0], found, self._encoding)
                frames_, size_ = self.received
                self.received = frames_ + 1, size_ + len(pixels[0])
            if not wanted:
                return missing
            self._servers.pop(address).close(linger=0)
        return [*missing, *wanted]

    def _server(self, address: str) -> "zmq.Socket[bytes]":
        if address not in self._servers:
            socket = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
            self._keys.client.use(socket)
            socket.connect(address)
            self._servers[address] = socket
        return self._servers[address]


def _jpeg(pixels: Array) -> bytes:
    import cv2

    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), QUALITY)
    assert encoded  # of any picture of 8 bits
    return data.tobytes()


def _decoded(data: bytes, frame: Frame, encoding: Encoding) -> Array:
    shape = (frame.height, frame.width, 3)
    if encoding == "raw":
        return np.frombuffer(data, np.uint8).reshape(shape)
    import cv2

    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != shape:
        raise DataError(f"what came as the picture of slot {frame.slot} is no JPEG of {shape}")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
