"""Video files, cameras and URLs through PyAV.

One `VideoSource` is one stream epoch: it never reconnects. When its pictures stop, `ended` says
whether that was the end (`eof`), a connection or disk that failed (`lost`) or one that fell silent
(`timeout`); whoever holds it decides about the next epoch. The end of a live source is always a
loss: PyAV reports a lost RTSP server as a normal end of file.
"""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from streamvis.errors import SourceError
from streamvis.messages import Array, SourceInfo
from streamvis.sources.clock import MediaClock
from streamvis.sources.container import (
    MAX_PIXELS,
    Facts,
    describe,
    is_live,
    open_container,
    rate_of,
    video_stream,
)
from streamvis.sources.picture import Ended, Picture
from streamvis.sources.spec import SourceSpec

MAX_FAULTS = 100  # read errors in a row before a damaged file is given up
DEFAULT_FPS = 25.0


class VideoSource:
    """Decodes one video stream into upright RGB pictures with strictly increasing media times."""

    def __init__(self, spec: SourceSpec, epoch: int = 1) -> None:
        self.errors = 0
        self.ended: Ended | None = None
        self._spec = spec
        self.facts: Facts | None = None
        self._n = 0  # number of the next picture
        self._clock = MediaClock()
        self._reformatter = VideoReformatter()
        self._container = open_container(spec)
        try:
            stream = video_stream(self._container, spec.label)
            self._live = is_live(spec, self._container)
            self._fps = spec.fps or rate_of(stream)
            # frame threads delay each picture by some others: worth it for files alone
            stream.thread_type = "SLICE" if self._live else "AUTO"
            self._pictures = self._decode(stream)
            self._first = next(self._pictures, None)
            if self._first is None:
                raise SourceError(self._nothing_decoded())
        except BaseException:
            self._container.close()
            raise
        height, width = self._first.pixels.shape[:2]
        self.info = SourceInfo(
            id=spec.id,
            label=spec.label,
            width=width,
            height=height,
            fps=self._fps,
            live=self._live,
            epoch=epoch,
            frames=stream.frames or None,
            ground_plane=spec.ground_plane,
        )

    def __iter__(self) -> Iterator[Picture]:
        if self._first is not None:
            yield self._first
            self._first = None
        yield from self._pictures

    def close(self) -> None:
        """Give back the file or connection and, with the generator, the decoder's threads."""
        self._pictures.close()
        self._container.close()

    def _decode(self, stream: VideoStream) -> Generator[Picture]:
        opened = time.monotonic()
        for packet in self._packets(stream):
            for frame in self._frames(stream, packet):
                pixels = self._pixels(frame)
                if self.facts is None:
                    self.facts = describe(self._container, stream, frame)
                if pixels is not None:
                    yield self._picture(frame, pixels, stream)
            if self._live and self._n == 0 and time.monotonic() - opened > self._spec.open_s:
                self.ended = "timeout"  # packets, but no picture: a stream without key frames
                return

    def _packets(self, stream: VideoStream) -> "Iterator[Packet[VideoStream] | None]":
        """The packets of one stream; the last are empty and flush the decoder."""
        # all streams are read, so that sound alone does not pass for a living picture
        demuxed = self._container.demux()
        faults = 0
        asked = time.monotonic()
        while True:
            try:
                packet = next(demuxed, None)
            except FFmpegError as error:
                self.ended = self._failure(error, time.monotonic() - asked)
                faults += 1
                if self.ended is None and faults <= MAX_FAULTS:
                    self._fault()
                    demuxed = self._container.demux()  # a generator that raised is spent
                    continue
                self.ended = self.ended or "lost"
                yield None
                return
            if packet is None:
                self.ended = "lost" if self._live else "eof"
                return
            if packet.stream_index == stream.index:
                faults = 0
                yield cast("Packet[VideoStream]", packet)
                asked = time.monotonic()
            elif self._live and time.monotonic() - asked > self._spec.read_s:
                self.ended = "timeout"
                return

    def _failure(self, error: FFmpegError, waited_s: float) -> Ended | None:
        """Why reading failed, from the state and the time it took; None: read on."""
        if self._spec.kind == "file":
            return "lost" if isinstance(error, OSError) else None
        timed_out = isinstance(error, TimeoutError | av.error.ExitError)
        return "timeout" if timed_out or waited_s >= 0.9 * self._spec.read_s else "lost"

    def _frames(
        self, stream: VideoStream, packet: "Packet[VideoStream] | None"
    ) -> Sequence[VideoFrame]:
        try:
            frames = stream.decode(packet)
        except av.error.EOFError:  # flushed already
            return []
        except FFmpegError:
            self._fault()
            return []
        self.errors += sum(frame.is_corrupt for frame in frames)
        return frames

    def _fault(self) -> None:
        """Count a picture that could not be decoded.

        A live stream is joined between two key frames: what comes before its first picture is
        no fault.
        """
        if not self._live or self._n > 0:
            self.errors += 1
            self._n += 1

    def _pixels(self, frame: VideoFrame) -> Array | None:
        """The frame (H, W, 3) uint8 RGB, upright: a view on memory that the array keeps alive."""
        try:
            if frame.width * frame.height > MAX_PIXELS:
                raise av.error.InvalidDataError(0, "too large")
            rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        except FFmpegError:
            self._fault()
            return None
        plane = rgb.planes[0]
        shape, strides = (rgb.height, rgb.width, 3), (plane.line_size, 3, 1)
        pixels = np.ndarray(shape, np.uint8, memoryview(plane), strides=strides)
        return upright(pixels, display_matrix(frame))

    def _picture(self, frame: VideoFrame, pixels: Array, stream: VideoStream) -> Picture:
        nominal_us = _us(frame.duration, stream) or round(1e6 / (self._fps or DEFAULT_FPS))
        if self._spec.fps and not self._live:
            media_us = round(self._n * 1_000_000 / self._spec.fps)
        else:
            stamp = frame.pts if frame.pts is not None else frame.dts
            media_us = self._clock.tell(_us(stamp, stream), nominal_us)
        self._n += 1
        return Picture(
            pixels=pixels,
            n=self._n - 1,
            media_us=media_us,
            capture_us=time.time_ns() // 1000 if self._live else 0,
            clock="arrival" if self._live else "file",
        )

    def _nothing_decoded(self) -> str:
        source = f"source '{self._spec.label}'"
        if self.ended == "timeout":
            return f"{source} is connected, but gave no picture within {self._spec.read_s:g} s"
        if self._live:
            return f"{source} closed the connection before its first picture"
        return f"{source} holds no picture that can be decoded ({self.errors} errors)"


def display_matrix(frame: VideoFrame) -> Array | None:
    """The turning and mirroring part (2, 2) of the frame's display matrix, None without one."""
    try:
        data = cast(Mapping[str, Any], frame.side_data)["DISPLAYMATRIX"]
    except KeyError:
        return None
    return np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2] / 65536  # 16.16 fixed point


def upright(pixels: Array, matrix: Array | None) -> Array:
    """Apply a display matrix (2, 2), as rows [x y] @ matrix, if it keeps pixels on the grid.

    Quarter turns and mirrors are applied; a slanted matrix is left alone.
    """
    if matrix is None or not np.isin(np.abs(matrix), (0, 1)).all():
        return pixels
    flip_x, flip_y = matrix.sum(axis=0) < 0  # whether x' and y' run backwards
    if matrix[0, 0] == 0:
        pixels = pixels.transpose(1, 0, 2)
    return pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def _us(stamp: int | None, stream: VideoStream) -> int | None:
    if stamp is None or stream.time_base is None:
        return None
    return round(stamp * stream.time_base * 1_000_000)
