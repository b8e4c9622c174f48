"""Films that the simulated camera of `rtsp_server` serves: coded pictures, not yet packets."""

import re
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import msgspec

PAYLOAD = 1200  # bytes of an RTP packet


class Unit(msgspec.Struct, frozen=True, array_like=True):
    """One coded picture."""

    nals: list[bytes]  # without start codes, parameter sets among them
    shown: int  # its place in the order of presentation
    key: bool


class Film(msgspec.Struct, frozen=True):
    """Coded pictures in decoding order; the first is a key frame."""

    codec: Literal["H264", "H265"]
    units: list[Unit]

    def __add__(self, other: "Film") -> "Film":
        """Return one film after the other: the size may change with it."""
        later = [msgspec.structs.replace(u, shown=u.shown + len(self.units)) for u in other.units]
        return Film(self.codec, self.units + later)

    @property
    def parameter_sets(self) -> list[bytes]:
        """The first ones: SPS and PPS, in H.265 a VPS before them."""
        found: dict[int, bytes] = {}
        for nal in self.units[0].nals:
            if self.is_parameter_set(nal):
                found.setdefault(self.nal_type(nal), nal)
        return list(found.values())

    def nal_type(self, nal: bytes) -> int:
        return nal[0] & 31 if self.codec == "H264" else nal[0] >> 1 & 63

    def is_parameter_set(self, nal: bytes) -> bool:
        return self.nal_type(nal) in ((7, 8) if self.codec == "H264" else (32, 33, 34))


def encode_film(
    pictures: Iterable[Any],  # (H, W, 3) uint8 RGB
    *,
    fps: float = 25,  # as the parameter sets declare it
    key_every: int = 10_000,  # pictures; the first is always a key frame
    codec: Literal["H264", "H265"] = "H264",
    options: dict[str, str] | None = None,
) -> Film:
    """Encode pictures with x264 or x265 of PyAV; the test is skipped where PyAV lacks it."""
    import av
    import pytest

    name = {"H264": "libx264", "H265": "libx265"}[codec]
    try:
        encoder: Any = av.CodecContext.create(name, "w")
    except (ValueError, av.error.FFmpegError):
        pytest.skip(f"this PyAV has no {name}; install its wheel: pip install av")
    encoder.pix_fmt, encoder.framerate = "yuv420p", Fraction(fps).limit_denominator(1000)
    encoder.time_base, encoder.thread_count = 1 / encoder.framerate, 1
    encoder.options = _encoder_options(codec, key_every) | (options or {})
    packets = []
    for number, picture in enumerate(pictures):
        if number == 0:
            encoder.height, encoder.width = picture.shape[:2]
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = number, encoder.time_base
        packets += encoder.encode(frame)
    return _film(codec, packets + encoder.encode(None))


def _encoder_options(codec: str, key_every: int) -> dict[str, str]:
    common = {"preset": "ultrafast"}
    if codec == "H264":
        return common | {"bf": "0", "g": str(key_every), "sc_threshold": "0"}
    params = f"log-level=none:pools=none:frame-threads=1:bframes=0:scenecut=0:keyint={key_every}"
    return common | {"x265-params": f"{params}:repeat-headers=1"}


def read_film(path: Path) -> Film:
    """Read the film of an H.264 or H.265 file."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec: Any = {"h264": "H264", "hevc": "H265"}[stream.codec_context.name]
        convert = av.BitStreamFilterContext(
            f"{stream.codec_context.name}_mp4toannexb", in_stream=stream
        )
        packets = [p for packet in container.demux(stream) for p in convert.filter(packet)]
        return _film(codec, packets)


def _film(codec: Literal["H264", "H265"], packets: Iterable[Any]) -> Film:
    """The film of packets with start codes."""
    kept = [packet for packet in packets if packet.size]
    order = sorted(packet.pts for packet in kept)
    return Film(
        codec,
        [
            Unit(
                [nal for nal in re.split(b"\0\0\0?\1", bytes(packet)) if nal],
                order.index(packet.pts),
                bool(packet.is_keyframe),
            )
            for packet in kept
        ],
    )


def fragments(film: Film, nal: bytes) -> list[bytes]:
    """The payloads of a NAL unit: fragments when it is large (RFC 6184, RFC 7798)."""
    if len(nal) <= PAYLOAD:
        return [nal]
    if film.codec == "H264":
        head, kind, body = bytes([nal[0] & 0xE0 | 28]), nal[0] & 31, nal[1:]
    else:
        head = bytes([nal[0] & 0x81 | 49 << 1, nal[1]])
        kind, body = film.nal_type(nal), nal[2:]
    parts = [body[at : at + PAYLOAD] for at in range(0, len(body), PAYLOAD)]
    last = len(parts) - 1
    return [
        head + bytes([kind | (i == 0) << 7 | (i == last) << 6]) + part
        for i, part in enumerate(parts)
    ]
