"""Open containers with PyAV, with error messages that name the cause."""

import errno
import re
import time
from itertools import islice
from pathlib import Path
from typing import Any, SupportsFloat

import av
import msgspec
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamvis.errors import SourceError
from streamvis.sources.credentials import ENCODE, is_cut
from streamvis.sources.hwaccel import NO_STREAM, accelerator, not_accelerated
from streamvis.sources.options import TLS_FILES
from streamvis.sources.spec import SourceSpec
from streamvis.sources.start import CONTAINER, container_us
from streamvis.sources.transport import Part

KEY_FRAME_S = 60.0  # for how long a live stream may have no key frame after it was opened
MAX_PIXELS = 2**26  # 8192 × 8192: larger sizes come from a damaged header
MOST_FPS = 300.0  # higher rates come from broken time stamps
NOT_VIDEO = frozenset({"tty", "bin", "xbin", "adf", "idf"})  # FFmpeg draws any text file as a video
# TCP: cameras behind switches lose UDP packets; the default 5 s of analysis delay every reconnect
# and time stamps that go back are reported as they are, not as having passed 2^32
RTSP_OPTIONS = {
    "rtsp_transport": "tcp",
    "analyzeduration": "1000000",
    "correct_ts_overflow": "0",
}
PICTURES = {  # by the major brand of their file, which is laid out like an MP4
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1"), "heic"),
}
COLOURS = {0: "RGB", 1: "BT.709", 2: "untagged", 5: "BT.601", 6: "BT.601", 9: "BT.2020"}
RANGES = ("untagged", "limited range", "full range")
INDEX_LAST = (
    "is an MP4 whose index (moov) lies behind its pictures; that takes a server which supports "
    "range requests. Download it first, or rewrite it: ffmpeg -i IN -c copy -movflags faststart OUT"
)
ADVICE: dict[type[Exception], str] = {
    ConnectionRefusedError: "refused the connection: is the server running, is the port right?",
    av.error.HTTPUnauthorizedError: "wants a user and password that were not given or are wrong",
    av.error.HTTPForbiddenError: "forbids this address (403)",
    av.error.HTTPNotFoundError: "does not know this path (404)",
    av.error.HTTPOtherClientError: "refused the request (4xx): perhaps it has too many clients",
    av.error.HTTPServerError: "answered with an error of its own (5xx)",
    av.error.HTTPError: "refused the request",
    av.error.InvalidDataError: "answers, but not with video",
    av.error.ProtocolNotFoundError: "speaks a protocol this FFmpeg was built without",
}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Properties of a container and its first picture; None where they are not stated."""

    container: str
    codec: str
    pixel_format: str
    colours: str  # matrix and range, as tagged
    coded_size: str  # before rotation
    rotation: int  # degrees counter-clockwise that the container asks for
    pixel_aspect: str | None  # reported, not applied: pixels are used as stored
    container_fps: float | None
    duration_s: float | None
    first_pts_s: float | None
    other_streams: list[str]


def describe(container: InputContainer, stream: VideoStream, frame: VideoFrame) -> Facts:
    """The facts about an open stream whose first picture is `frame`."""
    aspect = stream.sample_aspect_ratio
    pts = frame.pts * stream.time_base if frame.pts is not None and stream.time_base else None
    others = [s for s in container.streams if s.index != stream.index]
    return Facts(
        container=container.format.name,
        codec=stream.codec_context.name,
        pixel_format=frame.format.name,
        colours=f"{COLOURS.get(frame.colorspace, frame.colorspace)}, {RANGES[frame.color_range]}",
        coded_size=f"{frame.width}x{frame.height}",
        rotation=frame.rotation,
        pixel_aspect=f"{aspect.numerator}:{aspect.denominator}" if aspect else None,
        container_fps=rate_of(stream) or None,
        duration_s=None if container.duration is None else container.duration / av.time_base,
        first_pts_s=None if pts is None else float(pts),
        other_streams=[_named(s) for s in others],
    )


def open_container(spec: SourceSpec, part: Part | None = None) -> InputContainer:
    """Open a file or a part of it, camera or URL; SourceError in one line, without credentials."""
    if spec.kind == "file":
        _check_file(Path(spec.uri), spec.label)
    device = accelerator(spec.hwaccel or "none", spec.label)
    began = time.monotonic()
    try:
        if spec.kind == "camera":
            options = _camera_options(spec)
            return av.open(
                spec.uri, format="v4l2", options=options, timeout=spec.open_s, hwaccel=device
            )
        if spec.kind == "url":
            options = RTSP_OPTIONS | spec.options if _is_rtsp(spec) else spec.options
            options = _trust(spec) | options | _silence(spec)
            return _open(spec.uri, options=options, timeout=_patience(spec), hwaccel=device)
        if part is not None:
            return _open(part, options=spec.options, hwaccel=device)
        # `file:` keeps names like `concat:a` or `a:b.mp4` from being read as protocols
        address = f"file:{Path(spec.uri).absolute()}"
        return _open(address, options=spec.options, hwaccel=device)
    except RuntimeError as error:
        if str(error) != NO_STREAM:
            raise
    except FFmpegError as error:
        # `from None`: the original names the URL with its credentials
        raise SourceError(_refusal(spec, error, time.monotonic() - began)) from None
    # not while the error is handled, which holds the open file
    raise SourceError(not_accelerated(spec.hwaccel or "none", spec.label))


def _open(file: Any, **how: Any) -> InputContainer:
    """Open with metadata that need not be UTF-8: PyAV before 19 needs an option for it."""
    before_19: dict[str, Any] = {"metadata_errors": "replace"}
    try:
        return av.open(file, "r", **before_19, **how)
    except TypeError:
        return av.open(file, "r", **how)


def video_stream(container: InputContainer, label: str, same_id: int | None = None) -> VideoStream:
    """The video stream of a container, that with `same_id` if there is one.

    SourceError says what it holds instead.
    """
    if container.format.name in NOT_VIDEO:
        raise SourceError(f"source '{label}' is not a video but a text file")
    covers = Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & covers]
    if not streams:
        kinds = sorted({_named(s) for s in container.streams})
        raise SourceError(
            f"source '{label}' has no video stream, only {', '.join(kinds) or 'no streams'}"
        )
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    stream = next((s for s in streams if s.id == same_id), stream)
    if stream.codec_context is None:
        raise SourceError(f"source '{label}' has a codec for which this FFmpeg has no decoder")
    if stream.width * stream.height > MAX_PIXELS:
        raise SourceError(
            f"source '{label}' declares pictures of {stream.width}×{stream.height} pixels; "
            f"at most {MAX_PIXELS} pixels are decoded, so its header is probably damaged"
        )
    return stream


def promised(container: InputContainer, stream: VideoStream, frame: VideoFrame) -> int | None:
    """The number of pictures in the index; None where entries need not be shown pictures.

    MP4 and MOV list their samples before the first is read, without those that an edit list
    hides; fragmented ones list nothing. Samples may be the fields of interlaced pictures.
    """
    if "mov" not in container.format.name or not stream.frames or frame.interlaced_frame:
        return None
    entries = getattr(stream, "index_entries", ())  # PyAV 16 and later
    return sum(not entry.is_discard for entry in entries) or None


def promised_end_s(container: InputContainer, stream: VideoStream) -> float | None:
    """When the video ends by the header of its file, seconds; None where that need not be so.

    Matroska, AVI and FLV say it when a recording is closed. FFmpeg estimates it for others.
    """
    if not {"matroska", "avi", "flv"} & {*container.format.name.split(",")}:
        return None
    if match := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, match.groups())
        return hours * 3600 + minutes * 60 + seconds
    if "avi" in container.format.name:  # its duration is adjusted to the size of the file
        return float(stream.frames * (stream.time_base or 0)) or None
    alone = len(container.streams) == 1  # of several, another one may be longer
    return container.duration / av.time_base if alone and container.duration else None


def is_live(spec: SourceSpec, container: InputContainer) -> bool:
    """Whether a source is live: cameras, RTSP, and HTTP without a duration."""
    if spec.kind == "url" and not _is_rtsp(spec):
        return container.duration is None
    return spec.kind in {"camera", "url"}


def start_us(
    spec: SourceSpec, container: InputContainer, stream: VideoStream, live: bool
) -> int | None:
    """Wall clock of the first picture, µs since 1970; SourceError when it is not available."""
    if spec.start is None:
        return None
    if live:
        raise SourceError(
            f"source '{spec.label}' is live, and its pictures have the time of their arrival: "
            "start_time is for recordings"
        )
    if spec.start != CONTAINER:
        return spec.start
    tag_us = container_us({**stream.metadata, **container.metadata})
    if tag_us is None:
        raise SourceError(
            f"source '{spec.label}': start_time=container, but its container has no creation_time; "
            "give the time, such as start_time=2026-11-29T08:00:00+01:00"
        )
    return tag_us


def rate_of(stream: VideoStream) -> float:
    """Nominal pictures per second, 0 when unknown.

    The average is computed from time stamps; where these are broken, the rate in the codec header
    is better.
    """
    rates = [float(rate or 0) for rate in _rates(stream)]
    return next((rate for rate in rates if 0 < rate <= MOST_FPS), rates[0])


def _rates(stream: VideoStream) -> tuple[SupportsFloat | None, ...]:
    return stream.average_rate, stream.guessed_rate, stream.base_rate


def _is_rtsp(spec: SourceSpec) -> bool:
    return spec.uri.lower().startswith(("rtsp:", "rtsps:"))


def _patience(spec: SourceSpec) -> tuple[float, float]:
    """How long opening and each read may take, seconds.

    When a camera sends parameter sets in band only, FFmpeg has opened it at the next key frame.
    """
    return spec.open_s + (KEY_FRAME_S if _silence(spec) else 0), spec.read_s


def _trust(spec: SourceSpec) -> dict[str, str]:
    """The option by which a certificate is taken as it is, which most cameras have made themselves.

    Newer versions of FFmpeg check it unless this is said, older ones do not.
    """
    encrypted = spec.uri.lower().startswith(("https:", "rtsps:"))
    return {"tls_verify": "0"} if encrypted else {}


def _silence(spec: SourceSpec) -> dict[str, str]:
    """The option that ends an attempt to open an RTSP source that does not answer.

    It holds for reads too, so it is not used where these may take longer.
    """
    if (
        not _is_rtsp(spec)
        or spec.read_s > spec.open_s
        or {"timeout", "rtsp_flags"} & {*spec.options}
    ):
        return {}
    return {"timeout": str(round(spec.open_s * 1e6))}


def _camera_options(spec: SourceSpec) -> dict[str, str]:
    rate = {"framerate": f"{spec.fps:g}"} if spec.fps else {}
    return rate | spec.options


def _check_file(path: Path, label: str) -> None:
    if path.exists() and not path.is_file():  # a pipe: what is read here would be missing there
        return
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise SourceError(f"source '{label}' is empty (0 bytes)")
            head = file.read(12)
            if name := PICTURES.get(head[8:] if head[4:8] == b"ftyp" else b""):
                raise SourceError(
                    f"source '{label}' is not a video but a picture: give it the ending .{name}"
                )
            if _lacks_index(head, path):
                raise SourceError(
                    f"source '{label}' is truncated: an MP4 without its index (moov), as a "
                    "recording or download leaves it that did not finish"
                )
    except OSError as error:
        raise SourceError(f"source '{label}' cannot be read: {error.strerror}") from None


def _lacks_index(head: bytes, path: Path) -> bool:
    """Whether this is an ISO file (MP4, MOV) whose boxes end before a `moov`."""
    if head[4:8] != b"ftyp":
        return False
    end = path.stat().st_size
    at = 0
    with path.open("rb") as file:
        while at + 8 <= end:
            file.seek(at)
            box = file.read(16)
            if box[4:8] == b"moov":
                return at + int.from_bytes(box[:4], "big") > end
            size = int.from_bytes(box[:4], "big")
            if size == 1:
                size = int.from_bytes(box[8:16], "big")
            if size < 8:  # 0: to the end of the file; less: damaged
                return size == 0
            at += size
    return True


def _refusal(spec: SourceSpec, error: FFmpegError, elapsed_s: float) -> str:
    """The error in one line, by source kind, error code and elapsed time."""
    source = f"source '{spec.label}'"
    if error.errno in {errno.EINVAL, errno.ERANGE} and spec.options:
        return f"{source}: FFmpeg refuses a value of its settings {', '.join(spec.options)}"
    if spec.kind == "url":
        return f"{source} {_unreached(spec, error, elapsed_s)}"
    if spec.kind == "camera":
        present = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        return f"{source} cannot be opened: {error.strerror}. Cameras there are: {present}"
    if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
        return f"{source} is not a video, or its beginning is damaged"
    return f"{source} cannot be opened: {error.strerror}"


def index_last(spec: SourceSpec) -> bool:
    """Whether an HTTP address has an MP4 whose index follows its pictures."""
    if spec.kind != "url" or _is_rtsp(spec):
        return False
    patience = (spec.open_s, spec.read_s)
    try:
        with _open(spec.uri, format="data", options=spec.options, timeout=patience) as raw:
            head = b"".join(bytes(packet) for packet in islice(raw.demux(), 4))
    except (FFmpegError, IndexError):
        return False
    at = 0
    while head[4:8] == b"ftyp" and at + 16 <= len(head):
        size, name = int.from_bytes(head[at : at + 4], "big"), head[at + 4 : at + 8]
        if name in {b"moov", b"mdat"}:
            return name == b"mdat"
        at += max(size, 8)
    return False


def _unreached(spec: SourceSpec, error: FFmpegError, elapsed_s: float) -> str:
    if is_cut(spec.uri) != "no":  # then the host may not be the one that was meant
        return f"cannot be reached: {ENCODE}; or check the address"
    if isinstance(error, TimeoutError | av.error.ExitError) or elapsed_s >= 0.9 * spec.open_s:
        return f"did not answer within {elapsed_s:.0f} s"
    damaged = isinstance(error, av.error.InvalidDataError) or error.errno == errno.EIO
    if damaged and index_last(spec):
        return INDEX_LAST
    for kind, advice in ADVICE.items():
        if isinstance(error, kind):
            return advice
    if _is_rtsp(spec) and error.errno == errno.EPROTONOSUPPORT:  # its reply to SETUP was 461
        used = spec.options.get("rtsp_transport", "tcp")
        return f"does not send by {used}: set transport={'udp' if used == 'tcp' else 'tcp'}"
    reason = "" if error.errno == errno.EIO else f" ({error.strerror})"  # EIO: says nothing
    return f"cannot be reached{reason}: check the host name and the network{_tls_advice(spec)}"


def _tls_advice(spec: SourceSpec) -> str:
    """What else may be wrong where a connection is encrypted: FFmpeg does not say."""
    if not spec.uri.lower().startswith(("https:", "rtsps:")):
        return ""
    for name in TLS_FILES:
        if not Path(spec.options.get(name, "/")).exists():
            return f", and {name}: there is no such file"
    return ", the port, which must be one of TLS, and with ca_file the certificate and its name"


def _named(stream: Stream) -> str:
    codec = getattr(stream, "name", None)  # streams of an unknown type have none
    return f"{stream.type} ({codec or 'unknown'})"
