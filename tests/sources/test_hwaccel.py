"""What the machine's devices can decode: the same answer as opening a video with them gives."""

import io

import av
import pytest
from av.codec.hwaccel import HWAccel
from av.error import FFmpegError

from streamvis.sources import hwaccel


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
