"""A decode process: it writes the pictures of one source into the slots that the hub grants.

    python -m streamvis.runtime.decode <endpoint> <identity> <pid of the hub>

A file waits for a slot and drops nothing. A live source is read by a thread that keeps only the
newest picture while there is no slot, and counts the pictures that it replaced.
"""

import os
from collections import deque
from contextlib import closing, suppress

import zmq

from streamvis.errors import SourceError, StreamvisError
from streamvis.installation import imports_of_packages
from streamvis.messages import Ending
from streamvis.runtime import protocol
from streamvis.runtime.errors import ending_of
from streamvis.runtime.gaps import Gap, GapCounter
from streamvis.runtime.latest_frame import LatestFrame
from streamvis.runtime.processes import load, serve
from streamvis.sources.picture import Picture, Source
from streamvis.transport.slots import SlotWriter
from streamvis.transport.sockets import Client


def work(client: Client) -> None:
    """Serve the hub: hello, open the source, send its pictures, then its end."""
    client.send([protocol.encode(protocol.Hello())])
    order = _receive(client)
    if not isinstance(order, protocol.Open):  # Stop: the run ended before this source began
        return
    try:
        with imports_of_packages():
            source: Source = load(order.opener)(order.spec, order.epoch)
    except StreamvisError as error:
        client.send([protocol.encode(protocol.Refused(type(error).__name__, str(error)))])
        return
    with closing(SlotWriter()) as write:
        decode = Decode(client, source, write)
        if not source.info.live:
            with closing(source):
                decode.file(order.after_n)
            return
        newest = LatestFrame(source)
        decode.live(newest)
        if not newest.close():  # its thread is blocked in the source, which cannot be closed then
            client.close()
            os._exit(0)
        source.close()


class Stopped(Exception):  # noqa: N818 - not an error
    """Raised when the hub has sent `Stop`."""


class Decode:
    """Writes each picture into a granted slot and reports it to the hub."""

    def __init__(self, client: Client, source: Source, write: SlotWriter) -> None:
        self._client = client
        self._source = source
        self._write = write
        self._size = source.info.width * source.info.height * 3  # bytes of a slot
        self._slots: deque[str] = deque()
        self._gaps: list[Gap] = []  # sent with the next picture, or with the end
        self._send(protocol.Opened(source.info))

    def file(self, after_n: int) -> None:
        """Send every picture after number `after_n`."""
        counter = GapCounter(after_n + 1)
        try:
            for picture in self._source:
                if picture.n > after_n:
                    counter.note(picture)
                    self._gaps += counter.take()
                    self._send_picture(picture)
                self._receive_messages(0)
        except Stopped:
            self._end("drained")
        except SourceError as error:
            self._end("failed", str(error))
        else:
            self._end(*ending_of(self._source))

    def live(self, newest: LatestFrame) -> None:
        """Send the newest picture whenever there is a slot."""
        try:
            while True:
                while not self._slots:
                    self._receive_messages(None)
                ended = newest.ended  # read first: the last picture may come just before the end
                picture, gaps = newest.take()
                self._gaps += gaps
                if picture is not None:
                    self._send_picture(picture)
                elif ended:
                    break
                else:
                    self._wait(newest.fd)
        except Stopped:
            picture, gaps = newest.take()
            self._gaps += gaps
            if picture is not None:
                self._gaps.append(Gap("drained", 1, picture.n, picture.n))
            self._end("drained")
        except SourceError as error:
            self._end("failed", str(error))
        else:
            self._end(*ending_of(self._source))

    def _send_picture(self, picture: Picture) -> None:
        height, width = picture.pixels.shape[:2]
        try:
            slot = self._slot(width, height)
        except Stopped:
            self._gaps.append(Gap("drained", 1, picture.n, picture.n))
            raise
        self._write(slot, picture.pixels)
        decoded = protocol.DecodedFrame(
            slot=slot,
            n=picture.n,
            media_us=picture.media_us,
            capture_us=picture.capture_us,
            clock=picture.clock,
            width=width,
            height=height,
            errors=self._source.errors,
            gaps=self._gaps,
        )
        self._send(decoded)
        self._gaps = []

    def _slot(self, width: int, height: int) -> str:
        """Wait for a granted slot that is large enough."""
        if width * height * 3 > self._size:
            self._size = width * height * 3
            self._slots.clear()
            self._send(protocol.SizeChanged(width, height))
        self._receive_messages(0)
        while not self._slots:
            self._receive_messages(None)
        return self._slots.popleft()

    def _end(self, ending: Ending, message: str = "") -> None:
        self._send(protocol.SourceEnded(ending, self._source.errors, self._gaps, message))
        if ending != "drained":
            with suppress(Stopped):
                while True:
                    self._receive_messages(None)

    def _wait(self, fd: int) -> None:
        """Wait until there is a picture or a message from the hub."""
        poller = zmq.Poller()
        poller.register(self._client.socket, zmq.POLLIN)
        poller.register(fd, zmq.POLLIN)
        poller.poll()
        self._receive_messages(0)

    def _receive_messages(self, timeout_s: float | None) -> None:
        """Process the messages from the hub; `timeout_s` applies to the first one only."""
        while (frames := self._client.receive(timeout_s)) is not None:
            match protocol.decode_to_process(frames[0]):
                case protocol.Stop():
                    raise Stopped
                case protocol.SlotGrant(slots, size) if size >= self._size:
                    self._slots.extend(slots)
            timeout_s = 0

    def _send(self, message: protocol.FromProcess) -> None:
        self._client.send([protocol.encode(message)])


def _receive(client: Client) -> protocol.ToProcess:
    frames = client.receive()
    assert frames is not None  # without a timeout
    return protocol.decode_to_process(frames[0])


if __name__ == "__main__":
    serve(work)
