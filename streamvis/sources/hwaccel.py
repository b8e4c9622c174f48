"""Devices that decode video: which of them this machine can use, and why not the others."""

import io
from typing import cast, get_args

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.error import FFmpegError
from av.video.stream import VideoStream

from streamvis.errors import SourceError
from streamvis.parsing import quoted
from streamvis.sources.spec import Hwaccel

DEVICES = tuple(name for name in get_args(Hwaccel) if name not in {"auto", "none"})
NO_STREAM = "Hardware accelerated decode requested but no stream is compatible"
SIDE = 256  # pixels: decoders of devices refuse smaller pictures


def faults() -> dict[str, str | None]:
    """Why each device cannot decode H.264, by name; None for one that can."""
    film = _film()
    built_in = hwdevices_available()
    return {
        name: _fault(film, name)
        if name in built_in
        else f"this PyAV, {av.__version__}, is built without it"
        for name in DEVICES
    }


def accelerator(setting: Hwaccel, label: str) -> HWAccel | None:
    """The device for `av.open`, or None for the CPU; SourceError where the one given is absent.

    With `auto`, FFmpeg decodes on the CPU what the device cannot; with a name that is an error.
    """
    if setting == "none":
        return None
    found = faults()
    if setting == "auto":
        usable = next((name for name, fault in found.items() if fault is None), None)
        return HWAccel(usable, allow_software_fallback=True) if usable else None
    if fault := found[setting]:
        usable_text = quoted(name for name, other in found.items() if other is None)
        raise SourceError(
            f"source '{label}': hwaccel={setting} cannot decode here: {fault}. Usable: "
            f"{usable_text}; hwaccel=auto takes one of them, or else the CPU"
        )
    return HWAccel(setting, allow_software_fallback=False)


def not_accelerated(setting: Hwaccel, label: str) -> str:
    """The error of a device that cannot decode this codec."""
    return (
        f"source '{label}': hwaccel={setting} cannot decode its codec; set hwaccel=auto, which "
        "takes the CPU then, or have the camera send H.264"
    )


def _film() -> bytes:
    """A short video in H.264, or in MPEG-4 where the encoder is missing."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        encoder = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = cast("VideoStream", container.add_stream(encoder, rate=5))
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _fault(film: bytes, device: str) -> str | None:
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)  # an exception brings FFmpeg's last words, if there are
    words: list[tuple[int, str, str]] = []
    try:
        with av.logging.Capture(local=False) as words:
            return _decoding_fault(film, device) or None
    except (FFmpegError, RuntimeError, NotImplementedError, ValueError) as error:
        said = [text.strip() for level, _, text in words if level <= av.logging.ERROR]
        text = said[0] if said else " ".join(str(error).split())
        return text.replace(NO_STREAM, "FFmpeg's decoder of H.264 cannot use it")
    finally:
        av.logging.set_level(before)


def _decoding_fault(film: bytes, device: str) -> str:
    """Decode the film on the device; raises an error of PyAV where there is none."""
    hwaccel = HWAccel(device, allow_software_fallback=False)
    with av.open(io.BytesIO(film), "r", hwaccel=hwaccel) as container:
        codec = container.streams.video[0].codec_context
        next(container.decode(video=0))
        return "" if codec.is_hwaccel else "FFmpeg decodes on the CPU instead"
