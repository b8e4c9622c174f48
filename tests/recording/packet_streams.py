"""Streams for the tests: encoded here, demuxed, and given to a recorder packet by packet."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

from streamvis.recording.recorder import Recorder
from streamvis.recording.settings import Clips, Recording, Segments

FPS = 10
SIZE = (96, 64)
ENCODERS = {"h264": "libx264", "hevc": "libx265", "mjpeg": "mjpeg", "mpeg4": "mpeg4"}
MIDDLE_S = 1_800_000_000.0  # a time of day for names: 2027-01-15 08:00:00 UTC


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def encoded(
    path: Path,
    codec: str = "h264",
    *,
    pictures: int = 50,
    gop: int = 10,
    size: tuple[int, int] = SIZE,
    audio: str | None = None,
    b_frames: int = 0,
    format: str | None = None,
) -> Path:
    """Write pictures, each of its own grey, at 10 a second with a key frame every `gop`."""
    with av.open(str(path), "w", format=format) as container:
        quiet = {"x265-params": "log-level=none:open-gop=0"} if codec == "hevc" else {}
        video = container.add_stream(ENCODERS[codec], rate=FPS, options=quiet)
        video.width, video.height = size
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.gop_size = gop
        video.codec_context.max_b_frames = b_frames
        video.codec_context.options |= {"sc_threshold": "0"}
        sound = None if audio is None else container.add_stream(audio, rate=8000, layout="mono")
        for number in range(pictures):
            container.mux(video.encode(_picture(number, size)))
            if sound is not None:
                container.mux(sound.encode(_silence(number)))
        for stream in container.streams:
            container.mux(stream.encode(None))
    return path


def _picture(number: int, size: tuple[int, int]) -> av.VideoFrame:
    """Grey with a corner of noise, so that no two packets have the same bytes."""
    pixels = np.full((size[1], size[0], 3), 20 + number * 7 % 200, np.uint8)
    pixels[:16, :16] = np.random.default_rng(number).integers(0, 255, (16, 16, 3))
    frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
    frame.pts = number
    return frame


def _silence(number: int) -> av.AudioFrame:
    samples = 8000 // FPS
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.int16), "s16", "mono")
    frame.sample_rate = 8000
    frame.pts = number * samples
    return frame


def recorder_of(
    out: Path,
    *,
    segments: float | None = None,
    clips: tuple[float, float] | None = None,
    clock: Clock | None = None,
    epoch: int = 1,
    **more: float,
) -> Recorder:
    """A recorder with segments of so many seconds, or clips of so many before and after."""
    settings = Recording(
        segments=None if segments is None else Segments(segments),
        clips=None if clips is None else Clips(["track.begin"], *clips, **more),
    )
    return Recorder(
        settings,
        str(out),
        "cam1",
        epoch,
        live=clock is not None,
        now=clock or Clock(),
        wall=lambda: MIDDLE_S + (clock.now if clock else 0.0),
    )


Change = Callable[[int, Packet], Packet | None]


def feed(recorder: Recorder, path: Path, change: Change = lambda number, packet: packet) -> None:
    """Give all packets to the recorder, with the media time of a file at 10 pictures a second.

    `change` may replace a video packet, given its number, or leave it out.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        recorder.follow(stream)
        for _, packet, media_us in changed(container, change):
            recorder.add(packet, media_us)


def changed(container: av.container.InputContainer, change: Change) -> Iterator:
    """Number of the video packet, the packet, and the media time of the picture before it."""
    number = 0
    for packet in container.demux():
        if packet.stream.type != "video":
            yield number, packet, None if number == 0 else (number - 1) * 1_000_000 // FPS
            continue
        shown = change(number, packet) if packet.size else packet
        if shown is not None:
            yield number, shown, None if number == 0 else (number - 1) * 1_000_000 // FPS
        number += bool(packet.size)


def like(packet: Packet, data: bytes | None = None, **stamps: int | None) -> Packet:
    """A copy of a packet with other bytes or stamps."""
    copy = Packet(bytes(packet) if data is None else data)
    copy.stream, copy.time_base = packet.stream, packet.time_base
    copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
    copy.is_keyframe = packet.is_keyframe
    for name, value in stamps.items():
        setattr(copy, name, value)
    return copy


def packets_of(path: Path, kind: str = "video") -> list[Packet]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [packet for packet in container.demux(stream) if packet.size]


def greys(paths: Iterable[Path]) -> list[int]:
    """Mean of each decoded picture; raises if anything is damaged."""
    found = []
    for path in paths:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                assert not frame.is_corrupt
                found.append(round(frame.to_ndarray(format="rgb24").mean()))
    return found


def units(data: bytes, *, in_mp4: bool = False) -> list[bytes]:
    """NAL units of a packet, with start codes or, in an MP4, behind their lengths."""
    if not in_mp4:
        return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size].rstrip(b"\0"))
        at += 4 + size
    return found


def recordings(out: Path) -> list[Path]:
    return sorted((out / "recordings").rglob("*.mp4"))
