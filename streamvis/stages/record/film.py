"""Write pictures as an MP4 that stays playable when the writing process is killed."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from streamvis.messages import Array

FRAGMENT_S = 1.0  # at most this much is lost with the process
TICK = {"libx264": Fraction(1, 1_000_000), "mpeg4": Fraction(1, 60_000)}  # s, its finest
SLOWEST = Fraction(1, 1001)  # pictures/s, nominal: those of one an hour keep their times
BT601 = 6  # SMPTE 170M: what OpenCV's RGB -> YUV is
LONGEST = 2**30  # ticks from a picture to the next: FFmpeg takes twice as many for a mistake
OPTIONS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}


class Film:
    """H.264 in fragmented MP4, encoded by one thread (MPEG-4 where FFmpeg has no libx264).

    Pictures keep their distances in media time; the first is at 0. Odd sides gain a row or a
    column, pictures of another size are letterboxed. Raises OSError when it cannot be written.
    """

    def __init__(
        self, path: Path, width: int, height: int, fps: float, crf: int = 23, codec: str = ""
    ) -> None:
        self.codec = codec or ("libx264" if "libx264" in av.codecs_available else "mpeg4")
        self.tick = TICK[self.codec]
        self.path = path
        self.width = width + width % 2
        self.height = height + height % 2
        rate = max(Fraction(fps if fps > 0 else 25).limit_denominator(1001), SLOWEST)
        self.interval = max(1, round(1 / rate / self.tick))
        self.last = -1  # ticks
        self.shown: Array | None = None  # the last picture, YUV
        # Opened here: PyAV leaves its descriptor open when the disk is full.
        self.file = path.open("wb", buffering=0)
        self.container = av.open(self.file, "w", format="mp4", options=OPTIONS)
        self.stream = self._stream(rate, crf)

    def _stream(self, rate: Fraction, crf: int) -> VideoStream:
        stream = self.container.add_stream(self.codec, rate=rate)
        if not isinstance(stream, VideoStream):
            raise TypeError(f"{self.codec} makes no video")
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        stream.time_base = self.tick
        context = stream.codec_context
        context.time_base = self.tick
        context.thread_count = 1
        context.gop_size = max(1, round(FRAGMENT_S * rate))
        context.colorspace = context.color_primaries = context.color_trc = BT601
        context.color_range = 1  # 16..235
        if self.codec == "libx264":
            context.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": str(crf)}
        else:
            context.bit_rate = max(200_000, round(self.width * self.height * rate / 5))
        return stream

    def write(self, picture: Array, media_us: int) -> None:
        """Add an RGB picture (H, W, 3); a time that does not advance is moved on by a tick.

        In a pause of more than `LONGEST`, 18 minutes, the picture before it is repeated.
        """
        at = max(round(Fraction(media_us, 1_000_000) / self.tick), self.last + 1)
        while self.shown is not None and at - self.last > LONGEST:
            self._put(self.shown, self.last + LONGEST)
        yuv = cv2.cvtColor(self._fitted(picture), cv2.COLOR_RGB2YUV_I420)  # (3H/2, W)
        self._put(np.asarray(yuv, np.uint8), at)

    def _put(self, yuv: Array, at: int) -> None:
        """Encode a picture (3H/2, W) at a time in ticks."""
        frame = av.VideoFrame.from_ndarray(yuv, format="yuv420p")
        frame.pts, frame.time_base = at, self.tick
        self.shown, self.last = yuv, at
        self._mux(frame)

    def close(self) -> None:
        """Write what the encoder still holds, and the end of the file."""
        try:
            self._mux(None)
        finally:
            with self.file:
                self.container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self.stream.encode(frame):
            packet.duration = packet.duration or self.interval
            self.container.mux(packet)

    def _fitted(self, picture: Array) -> Array:
        """Return the picture at the size of the video."""
        h, w = picture.shape[:2]
        below, right = self.height - h, self.width - w
        if (below, right) == (0, 0):
            return picture
        if below in (0, 1) and right in (0, 1):
            return cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_REPLICATE)
        scale = min(self.height / h, self.width / w)
        h, w = max(1, int(h * scale)), max(1, int(w * scale))
        top, left = (self.height - h) // 2, (self.width - w) // 2
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        canvas[top : top + h, left : left + w] = cv2.resize(
            picture, (w, h), interpolation=cv2.INTER_AREA
        )
        return canvas
