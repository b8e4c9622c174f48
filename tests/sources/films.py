"""Small films of every kind, with the number of each picture drawn into it.

What must be seen of them follows from what was written here; nothing is decoded to find it.
"""

from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import msgspec
import numpy as np

from streamvis.messages import Array

WIDTH, HEIGHT = 160, 96  # as shown
BLOCK = 16  # pixels of one bit; 5 × 2 of them in the upper left corner
HERTZ = 48_000
VARIABLE = (40, 7, 93, 20, 250, 33, 34, 60)  # ms from picture to picture

ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "yuv420p", {"preset": "superfast", "bf": "0", "g": "12"}),
    "hevc": ("libx265", "yuv420p", {"preset": "ultrafast"}),
    "mpeg4": ("mpeg4", "yuv420p", {"g": "12", "qscale": "3"}),
    "mpeg1": ("mpeg1video", "yuv420p", {"g": "12", "qscale": "3"}),
    "mpeg2": ("mpeg2video", "yuv420p", {"g": "12", "qscale": "3"}),
    "vp8": ("libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "1000000"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8", "b": "1000000"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "12", "crf": "20"}),
    "mjpeg": ("mjpeg", "yuvj420p", {"qscale": "2"}),
    "flv1": ("flv", "yuv420p", {"g": "12", "qscale": "3"}),
    "msmpeg4": ("msmpeg4", "yuv420p", {"g": "12", "qscale": "3"}),
    "ffv1": ("ffv1", "yuv420p", {}),
    "prores": ("prores_ks", "yuv422p10le", {}),
    "gif": ("gif", "rgb8", {}),
    "png": ("png", "rgb24", {}),
}
REORDERED = {  # what makes a codec send pictures out of order, or pictures that are not shown
    "h264": {"bf": "3", "b-pyramid": "normal", "b_strategy": "0"},
    "hevc": {},
    "mpeg4": {"bf": "2"},
    "mpeg1": {"bf": "2"},
    "mpeg2": {"bf": "2"},
    "vp8": {"auto-alt-ref": "1", "lag-in-frames": "10", "deadline": "good"},
    "vp9": {"auto-alt-ref": "1", "lag-in-frames": "10", "deadline": "good"},
    "av1": {},
}
SOUND = {
    "mp4": "aac", "mov": "pcm_s16le", "mkv": "aac", "webm": "libopus", "avi": "libmp3lame",
    "ts": "mp2", "mpeg": "mp2", "flv": "libmp3lame", "asf": "libmp3lame",
    "nut": "libmp3lame", "3gp": "aac",
}  # fmt: skip


class Film(msgspec.Struct, frozen=True):
    """One combination of the factors."""

    container: str  # as its name ends
    codec: str
    reorder: bool = False
    fps: str = "25"  # or "variable"
    before: int = 0  # sound streams before the video
    after: int = 0
    turn: tuple[int, bool, bool] = (0, False, False)  # degrees counter-clockwise, hflip, vflip
    start_ms: int = 0  # stamp of the first picture that is shown
    cut: int = 0  # pictures at the beginning that an edit list hides: their stamps are negative
    stamped: int = 1  # one picture of so many has time stamps (MPEG-TS)
    frames: int = 24
    options: dict[str, str] = {}  # of the muxer

    @property
    def name(self) -> str:
        words = [self.codec, *(["reordered"] if self.reorder else []), self.fps.replace("/", ":")]
        words += [f"stream{self.before}", *(["sound"] if self.before + self.after else [])]
        words += [str(v) for v in (*self.turn, self.start_ms, self.cut, self.stamped - 1) if v]
        return "_".join([*words, *self.options.values()]) + f".{self.container}"

    def times(self) -> list[Fraction]:
        """When each picture that is shown is shown: seconds since the first."""
        if self.fps == "variable":
            steps = [Fraction(VARIABLE[n % len(VARIABLE)], 1000) for n in range(self.frames)]
        else:
            steps = [1 / Fraction(self.fps)] * self.frames
        at = [sum(steps[:n], Fraction(0)) for n in range(self.frames)]
        return [t - at[self.cut] for t in at[self.cut :]]


@cache
def draw(n: int) -> Array:
    """Picture n, (HEIGHT, WIDTH, 3) uint8 RGB, read-only."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([60 + x // 2, 90 + y // 2, np.full_like(x, 100)], axis=2).astype(np.uint8)
    left = 40 + 5 * n % 100
    picture[56:80, left : left + 20] = (200, 60, 40)
    for bit in range(10):
        row, column = divmod(bit, 5)
        value = 235 if n >> bit & 1 else 20
        picture[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = value
    picture.setflags(write=False)
    return picture


def number(pixels: Array) -> int:
    """The number that `draw` drew into a picture."""
    found = 0
    for bit in range(10):
        row, column = divmod(bit, 5)
        y, x = row * BLOCK + 4, column * BLOCK + 4
        found |= int(pixels[y : y + BLOCK - 8, x : x + BLOCK - 8].mean() > 128) << bit
    return found


def lying(pixels: Array, turn: tuple[int, bool, bool]) -> Array:
    """The picture as it must be stored so that `turn` brings it upright."""
    degrees, hflip, vflip = turn
    pixels = pixels[::-1] if vflip else pixels
    pixels = pixels[:, ::-1] if hflip else pixels
    return np.ascontiguousarray(np.rot90(pixels, -degrees // 90))


def write(film: Film, path: Path) -> list[Fraction]:
    """Write a film, and return the decoding times of its packets in seconds."""
    decoding = []
    with av.open(str(path), "w", options=film.options) as container:
        sounds = [_sound(container, film.container) for _ in range(film.before)]
        stream = _video(container, film)
        sounds += [_sound(container, film.container) for _ in range(film.after)]
        base = stream.codec_context.time_base
        whole = msgspec.structs.replace(film, cut=0).times()
        zero = whole[film.cut] - Fraction(film.start_ms, 1000)
        heard = 0  # samples
        for n, time in [*enumerate(whole), (-1, None)]:
            frame = None
            if time is not None:
                frame = av.VideoFrame.from_ndarray(lying(draw(n), film.turn), format="rgb24")
                frame.pts, frame.time_base = round((time - zero) / base), base
                for sound in sounds:
                    _hum(container, sound, heard, int(time * HERTZ), film.container)
                heard = int(time * HERTZ)
            for packet in stream.encode(frame):
                decoding.append(packet.dts * packet.time_base)
                container.mux(packet)
        for sound in sounds:
            container.mux(sound.encode(None))
    if film.stamped > 1:
        _unstamp(path, film.stamped)
    return decoding


def _unstamp(path: Path, keep: int) -> None:
    """Take the time stamps from the video packets of an MPEG-TS file but each `keep`th."""
    data = bytearray(path.read_bytes())
    count = 0
    for at in range(0, len(data), 188):
        if not data[at + 1] & 0x40:
            continue
        start = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        if data[start : start + 4] == b"\0\0\1\xe0":
            if count % keep:
                data[start + 7] &= 0x3F  # flags: neither PTS nor DTS
                size = data[start + 8]
                data[start + 9 : start + 9 + size] = b"\xff" * size  # stuffing
            count += 1
    path.write_bytes(data)


def _video(container, film: Film):
    encoder, pix_fmt, options = ENCODERS[film.codec]
    options = options | (REORDERED[film.codec] if film.reorder else {})
    if film.codec == "hevc":
        params = f"log-level=none:pools=none:frame-threads=1:keyint=12:bframes={3 * film.reorder}"
        options = options | {"x265-params": params}
    if film.codec == "av1":
        params = "lp=1:keyint=12" + ("" if film.reorder else ":pred-struct=1")
        options = options | {"svtav1-params": params}
    rate = Fraction(25 if film.fps == "variable" else film.fps)
    base = Fraction(1, 1000) if film.fps == "variable" else 1 / rate
    stream = container.add_stream(encoder, rate=rate, options=options)
    lies = film.turn[0] % 180 != 0
    stream.width, stream.height = (HEIGHT, WIDTH) if lies else (WIDTH, HEIGHT)
    stream.pix_fmt, stream.thread_count = pix_fmt, 1
    stream.time_base = stream.codec_context.time_base = base
    if film.turn != (0, False, False):
        degrees, hflip, vflip = film.turn
        stream.set_display_rotation(degrees, hflip=hflip, vflip=vflip)
    return stream


def _sound(container, kind: str):
    stream = container.add_stream(SOUND[kind], rate=HERTZ)
    stream.codec_context.layout = "mono"
    return stream


def _hum(container, stream, first: int, last: int, kind: str) -> None:
    """Encode silence from one sample to another, in whole frames."""
    size = stream.codec_context.frame_size or 1024
    # its encoder's delay makes stamps negative; AVI would move the video for that, in whole
    # pictures, and mark those that are missing then
    later = HERTZ // 10 if kind == "avi" else 0
    for at in range(-(-first // size) * size, last, size):
        frame = av.AudioFrame(stream.codec_context.format.name, layout="mono", samples=size)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = HERTZ, at + later, Fraction(1, HERTZ)
        container.mux(stream.encode(frame))
