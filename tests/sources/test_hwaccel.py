"""What the machine's devices can decode: the same answer as opening a video with them gives."""

import gc
import io
from contextlib import closing

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError

from streamvis.errors import SourceError
from streamvis.sources import hwaccel, open_source, resolve


def test_every_device_of_the_setting_is_tried_and_nothing_is_printed(capfd):
    found = hwaccel.faults()
    assert set(found) == {"cuda", "qsv", "drm"} == set(hwaccel.DEVICES)
    assert all(fault is None or ("\n" not in fault and fault) for fault in found.values())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", hwaccel.DEVICES)
def test_a_device_is_usable_where_a_video_can_be_decoded_with_it(device):
    film = io.BytesIO(hwaccel._film())
    try:
        with av.open(film, hwaccel=HWAccel(device, allow_software_fallback=False)) as video:
            pictures = sum(1 for _ in video.decode(video=0))
            usable = pictures == 1 and video.streams.video[0].codec_context.is_hwaccel
    except (FFmpegError, RuntimeError):
        usable = False
    assert (hwaccel.faults()[device] is None) == usable


def test_the_logging_of_pyav_is_as_before():
    before = av.logging.get_level()
    hwaccel.faults()
    assert av.logging.get_level() == before


def test_a_device_that_pyav_is_built_without_is_told(monkeypatch):
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["cuda"])
    assert "is built without it" in hwaccel.faults()["qsv"]


@pytest.mark.parametrize(
    ("faults", "setting", "device", "falls_back"),
    [
        ({"cuda": "no", "qsv": None, "drm": None}, "auto", "qsv", True),
        ({"cuda": None, "qsv": None, "drm": None}, "drm", "drm", False),
    ],
)
def test_auto_takes_the_first_usable_device_and_a_name_that_one_alone(
    monkeypatch, faults, setting, device, falls_back
):
    monkeypatch.setattr(hwaccel, "faults", lambda: faults)
    monkeypatch.setattr(hwaccel, "HWAccel", lambda name, **how: (name, how))
    found = hwaccel.accelerator(setting, "a.mp4")
    assert found == (device, {"allow_software_fallback": falls_back})


def test_without_a_device_auto_is_the_cpu_and_a_name_is_an_error(monkeypatch):
    monkeypatch.setattr(hwaccel, "faults", lambda: {"cuda": "no driver", "qsv": "x", "drm": "y"})
    assert hwaccel.accelerator("none", "a.mp4") is None
    assert hwaccel.accelerator("auto", "a.mp4") is None
    with pytest.raises(SourceError, match=r"'a\.mp4': hwaccel=cuda .* no driver\. Usable: none"):
        hwaccel.accelerator("cuda", "a.mp4")


@pytest.mark.parametrize("setting", ["auto", *hwaccel.DEVICES])
def test_a_source_is_decoded_by_the_device_given_or_refused(encode, setting):
    """Pictures of a device are those of the CPU; without it, the error names it."""
    path = encode("a.mp4", frames=5, size=(256, 256))
    (spec,) = resolve([f"{path}#hwaccel={setting}"])
    (plain,) = resolve([str(path)])
    if setting != "auto" and hwaccel.faults()[setting] is not None:
        with pytest.raises(SourceError, match=f"hwaccel={setting} cannot decode here"):
            open_source(spec)
        return
    with closing(open_source(spec)) as source, closing(open_source(plain)) as cpu:
        for ours, wanted in zip(source, cpu, strict=True):
            assert np.abs(ours.pixels.astype(int) - wanted.pixels).max() <= 3


def test_a_codec_that_the_device_cannot_decode_is_told(encode, monkeypatch):
    """Whatever the device: a film that FFmpeg has no decoder on it for."""
    path = encode("a.avi", codec="ffv1", size=(256, 256))
    device = HWAccel("cuda", allow_software_fallback=False)
    monkeypatch.setattr("streamvis.sources.container.accelerator", lambda *_: device)
    (spec,) = resolve([f"{path}#hwaccel=cuda"])
    with pytest.raises(SourceError, match="hwaccel=cuda cannot decode its codec; set hwaccel=auto"):
        open_source(spec)
    gc.collect()  # PyAV closes the file of what it refuses when it is collected
