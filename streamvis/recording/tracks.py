"""Streams and packets as recordings keep them: apart from the container that they came from."""

import io
from fractions import Fraction
from typing import Any

import av
import msgspec
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream

from streamvis.recording.parameter_sets import ParameterSets, jpeg_size

MAX_PIXELS = 2**26  # as in sources: larger sizes come from a damaged header
NEEDS_EXTRADATA = frozenset({"aac", "opus", "flac", "vorbis", "alac"})  # in an MP4


class Track:
    """A stream of video or audio that an MP4 can hold. ValueError when it cannot.

    The parameters of the stream are copied, into a container that is never written: a file may be
    opened when the camera's container has been closed.
    """

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        if context is None:
            raise ValueError("its codec is not known")
        self.is_video = stream.type == "video"
        self.codec: str = context.codec.canonical_name
        base = stream.time_base or Fraction(1, 90_000)
        # that of PyAV from 19 on rounds to 32 bits where two of them are divided
        self.time_base = Fraction(base.numerator, base.denominator)
        self.extradata: bytes = context.extradata or b""
        self.size = (context.width, context.height) if self.is_video else (0, 0)
        if self.codec in NEEDS_EXTRADATA and not self.extradata:
            raise ValueError(f"{self.codec} without its configuration")
        self.fits = True  # as far as is known, into an MP4
        self._holder = av.open(io.BytesIO(), "w", format="mp4")
        self.template: Stream = self._holder.add_stream_from_template(stream, opaque=True)


class TimedPacket(msgspec.Struct, frozen=True, gc=False):
    """A packet as it was received, with times that only go forward."""

    track: Track
    data: bytes
    dts: int  # ticks of the track, since recording began
    pts: int
    duration: int
    key: bool  # a key frame of the video
    media_us: int  # media time when it was received: that of its picture, or a little less

    @property
    def seconds(self) -> float:
        """Time of decoding, since recording began."""
        return float(self.dts * self.track.time_base)


class VideoFormat(msgspec.Struct, frozen=True):
    """What stays the same within a file; compared by identity."""

    extradata: bytes
    width: int
    height: int


class FormatDetector:
    """Finds the format of each key frame of a video, from its parameter sets or header."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._sets = ParameterSets(track.codec, track.extradata)
        self._seen: tuple[object, ...] | None = None
        self._format: VideoFormat | None = None

    def __call__(self, data: bytes, *, key: bool) -> VideoFormat | None:
        """Return the format of this packet; None until a key frame has shown it."""
        self._sets.add(data)
        if not key:
            return self._format
        seen = self._sets.extradata, jpeg_size(data) if self._track.codec == "mjpeg" else None
        if self._format is None or seen != self._seen:
            self._seen, self._format = seen, self._detect(data)
        return self._format

    def _detect(self, data: bytes) -> VideoFormat | None:
        extradata = self._sets.extradata
        width, height = _decoded_size(self._track.codec, extradata, data) or self._track.size
        if self._sets.missing or width <= 0 or height <= 0:
            return None
        return VideoFormat(extradata, width, height)


def _decoded_size(codec: str, extradata: bytes, data: bytes) -> tuple[int, int] | None:
    """Return the size of a key frame, None if it cannot be decoded."""
    try:
        decoder: Any = CodecContext.create(codec, "r")
        decoder.options = {"max_pixels": str(MAX_PIXELS)}
        decoder.thread_count = 1
        if extradata:
            decoder.extradata = extradata
        frames = [*decoder.decode(Packet(data)), *decoder.decode(None)]
    except (FFmpegError, ValueError):
        return None
    return (frames[0].width, frames[0].height) if frames else None
