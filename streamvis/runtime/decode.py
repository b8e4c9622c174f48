"""A decode process: it writes the pictures of one source into the slots that the hub grants.

    python -m streamvis.runtime.decode <endpoint> <identity> <pid of the hub>

A file waits for a slot and drops nothing. A live source is read by a thread that keeps only the
newest picture while there is no slot, and counts the pictures that it replaced.
"""

import os
import time
from collections import deque
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

import zmq

from streamvis.errors import RunError, SourceError, StreamvisError
from streamvis.installation import imports_of_packages
from streamvis.messages import Array, Ending
from streamvis.runtime import protocol
from streamvis.runtime.gaps import Gap, GapCounter
from streamvis.runtime.latest_frame import LatestFrame
from streamvis.runtime.media_time import MediaTime
from streamvis.runtime.processes import load, serve
from streamvis.sources.picture import LiveSource, Picture, RecordedSource, Source, ending_of
from streamvis.sources.privacy import masked
from streamvis.sources.spec import SourceSpec
from streamvis.transport.slots import SlotWriter
from streamvis.transport.sockets import Client

if TYPE_CHECKING:
    from streamvis.transport.node_pixels import SlotHost

REPORT_S = 0.2  # at most, between two looks at what is to be reported
MEASURED_S = 1.0  # between two reports of what was measured
LONGEST_SIDE_PX = 960  # of a picture that was asked for
QUALITY = (1, 80)  # of its JPEG: cv2.IMWRITE_JPEG_QUALITY, percent


def work(client: Client, host: "SlotHost | None" = None) -> None:
    """Serve the hub: hello, open the source, send its pictures, then its end.

    `host` keeps the slots on a node that is not the hub's.
    """
    client.send([protocol.encode(protocol.Hello(host.node if host is not None else ""))])
    order = _receive(client)
    if not isinstance(order, protocol.Open):  # Stop: the run ended before this source began
        return
    try:
        with imports_of_packages():
            open_source = load(order.opener)
            source: Source = open_source(order.spec, order.epoch, partial(_wait, client))
    except StreamvisError as error:
        client.send([protocol.encode(protocol.Refused(type(error).__name__, str(error)))])
        return
    with closing(SlotWriter()) as write:
        decode = Decode(client, source, write, order.spec)
        decode.host = host
        if not source.info.live:
            with closing(source):
                decode.file(order.after_n)
            return
        newest = LatestFrame(source)
        decode.live(newest, order)
        if not newest.close():  # its thread is blocked in the source, which cannot be closed then
            client.close()
            os._exit(0)


def _wait(client: Client, reason: str) -> None:
    client.send([protocol.encode(protocol.Waiting(reason))])


class Stopped(Exception):  # noqa: N818 - not an error
    """Raised when the hub has sent `Stop`."""


class Decode:
    """Writes each picture into a granted slot and reports it to the hub."""

    def __init__(self, client: Client, source: Source, write: SlotWriter, spec: SourceSpec) -> None:
        self._client = client
        self._source = source
        self._write = write
        self._size = source.info.width * source.info.height * 3  # bytes of a slot
        self._slots: deque[str] = deque()
        self._gaps: list[Gap] = []  # sent with the next picture, or with the end
        self._time = MediaTime()
        self._stall_s = spec.read_s / 2 if spec.stall_s is None else spec.stall_s
        self._stalled = False
        self._masks = spec.privacy_masks
        self._pictures_wanted = 0
        self._recorder = source.recorder if isinstance(source, RecordedSource) else None
        self._live = source if isinstance(source, LiveSource) else None
        self._measured_due = 0.0
        self.host: SlotHost | None = None
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

    def live(self, newest: LatestFrame, order: protocol.Open | None = None) -> None:
        """Send the newest picture whenever there is a slot; media time continues as ordered."""
        if order is not None:
            self._time = MediaTime(order.last_us, order.zero_s)
        try:
            while True:
                ended = newest.ended  # read first: the last picture may come just before the end
                if self._slots:
                    picture, gaps = newest.take()
                    self._gaps += gaps
                    if picture is not None:
                        arrived_s = newest.arrived_s
                        picture = self._time.continued(picture, arrived_s)
                        if self._recorder is not None:
                            self._recorder.shift(self._time.shift_us)
                        self._send_picture(picture, arrived_s)
                    elif ended:
                        break
                self._wait(newest)
        except Stopped:
            self._close(newest)
            picture, gaps = newest.take()
            self._gaps += gaps
            if picture is not None:
                self._gaps.append(Gap("drained", 1, picture.n, picture.n))
            self._end("drained")
        except SourceError as error:
            self._close(newest)
            self._end("failed", str(error))
        else:
            self._close(newest)
            self._end(*ending_of(self._source))

    def _close(self, newest: LatestFrame) -> None:
        """Close the source; of one whose thread is blocked in it, the recordings only."""
        if newest.close():
            self._source.close()
        elif self._recorder is not None:
            self._recorder.close()

    def _send_picture(self, picture: Picture, arrived_s: float | None = None) -> None:
        height, width = picture.pixels.shape[:2]
        try:
            slot = self._slot(width, height)
        except Stopped:
            self._gaps.append(Gap("drained", 1, picture.n, picture.n))
            raise
        pixels = masked(picture.pixels, self._masks) if self._masks else picture.pixels
        self._write(slot, pixels)
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
            suspect=picture.suspect,
            restarted=picture.restarted,
            arrived_s=arrived_s,
        )
        self._send(decoded)
        self._gaps = []
        if self._pictures_wanted:
            self._pictures_wanted -= 1
            self._send(taken(picture, pixels))

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
        if not self._source.info.live:
            self._source.close()
        self._report_clips()
        source, gaps = self._source, self._gaps
        promised = source.info.promised
        self._send(protocol.SourceEnded(ending, source.errors, gaps, message, promised=promised))
        if ending != "drained":
            with suppress(Stopped):
                while True:
                    self._receive_messages(None)

    def _wait(self, newest: LatestFrame) -> None:
        """Wait for a message from the hub or, with a slot, for a picture; and report."""
        self._receive_messages(0)
        poller = zmq.Poller()
        poller.register(self._client.socket, zmq.POLLIN)
        if self._slots:
            poller.register(newest.fd, zmq.POLLIN)
        poller.poll(round(REPORT_S * 1000))
        self._receive_messages(0)
        self._report(newest)

    def _report(self, newest: LatestFrame) -> None:
        """Report silence, its end, and what is measured of the source."""
        if newest.ended:
            return
        silent_s = newest.silent_s
        stalled = silent_s >= self._stall_s
        if stalled != self._stalled:
            self._stalled = stalled
            self._send(protocol.Silence(not stalled, silent_s))
        self._report_clips()
        now = time.monotonic()
        if self._live is not None and now >= self._measured_due:
            self._measured_due = now + MEASURED_S
            self._send(protocol.Measured(self._live.stats))

    def _report_clips(self) -> None:
        for event, path in self._recorder.saved() if self._recorder is not None else ():
            self._send(protocol.ClipSaved(event, path))

    def _receive_messages(self, timeout_s: float | None) -> None:
        """Process the messages from the hub; `timeout_s` applies to the first one only."""
        while (frames := self._client.receive(timeout_s)) is not None:
            match protocol.decode_to_process(frames[0]):
                case protocol.Stop():
                    raise Stopped
                case protocol.CutClip(event, kind, media_us):
                    if self._recorder is not None:
                        self._recorder.cut(event, kind, media_us - self._time.shift_us)
                case protocol.TakePicture(count):
                    self._pictures_wanted = max(self._pictures_wanted, count)
                case protocol.MakeSlots(count, size, what) if self.host is not None:
                    self._make_slots(self.host, count, size, what)
                case protocol.SlotGrant(slots, size) if size >= self._size:
                    self._slots.extend(slots)
            timeout_s = 0

    def _make_slots(self, host: "SlotHost", count: int, size: int, what: str) -> None:
        try:
            slots = host.make(count, size, what)
        except RunError as error:
            self._send(protocol.SourceEnded("failed", error="RunError", message=str(error)))
        else:
            self._send(protocol.SlotsMade(slots, size))

    def _send(self, message: protocol.FromProcess) -> None:
        self._client.send([protocol.encode(message)])


def taken(picture: Picture, pixels: Array) -> protocol.PictureTaken:
    """Return a picture, whose pixels are masked now, as it is sent to those who asked for it."""
    height, width = pixels.shape[:2]
    return protocol.PictureTaken(
        jpeg=jpeg(pixels),
        n=picture.n,
        media_us=picture.media_us,
        capture_us=picture.capture_us,
        width=width,
        height=height,
    )


def jpeg(pixels: Array) -> bytes:
    """Return the picture (H, W, 3) uint8 RGB as a JPEG of at most LONGEST_SIDE_PX."""
    import cv2

    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE_PX / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), QUALITY)
    assert encoded  # of any picture of 8 bits
    return data.tobytes()


def _receive(client: Client) -> protocol.ToProcess:
    frames = client.receive()
    assert frames is not None  # without a timeout
    return protocol.decode_to_process(frames[0])


if __name__ == "__main__":
    serve(work)
