"""The identity of a recording is its content, not its name, place or time."""

import os
import shutil
from pathlib import Path

import pytest

from streamvis.errors import SourceError
from streamvis.sources import resolve
from streamvis.sources.identity import EDGE, content_of, settings_of


def identity(path: Path | str):
    (spec,) = resolve([str(path)])
    return content_of(spec)


def noise(size: int, seed: int = 0) -> bytes:
    return bytes((i * 7 + seed + (i >> 8)) % 256 for i in range(1024)) * (size // 1024) + bytes(
        size % 1024
    )


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "gate.mp4"
    path.write_bytes(noise(3 * EDGE))
    return path


def test_a_name_a_place_and_a_touch_change_nothing(clip, tmp_path):
    before = identity(clip)
    os.utime(clip, (1, 1))
    assert identity(clip).digest == before.digest
    assert identity(clip).mtime_ns == 10**9
    (tmp_path / "archive").mkdir()
    moved = shutil.move(clip, tmp_path / "archive" / "other name.avi")
    assert identity(moved).digest == before.digest


@pytest.mark.parametrize("at", [0, EDGE - 1, 2 * EDGE, 3 * EDGE - 1])
def test_another_byte_at_head_or_tail_is_another_recording(at, clip):
    before = identity(clip)
    data = bytearray(clip.read_bytes())
    data[at] ^= 1
    clip.write_bytes(data)
    assert identity(clip).digest != before.digest


def test_what_lies_between_is_not_read(clip):
    """As the module says: not the whole content."""
    before = identity(clip)
    data = bytearray(clip.read_bytes())
    data[EDGE + EDGE // 2] ^= 1
    clip.write_bytes(data)
    assert identity(clip).digest == before.digest


@pytest.mark.parametrize("size", [1, EDGE - 1, EDGE, EDGE + 1, 2 * EDGE])
def test_of_short_files_each_byte_counts(size, tmp_path):
    path = tmp_path / "short.mp4"
    data = bytearray(noise(size))
    path.write_bytes(data)
    before = identity(path)
    for at in {0, size // 2, size - 1}:
        path.write_bytes(bytes([*data[:at], data[at] ^ 1]) + bytes(data[at + 1 :]))
        assert identity(path).digest != before.digest
    path.write_bytes(bytes(data) + b"\0")
    assert identity(path).digest != before.digest


def test_pictures_are_their_names_and_contents(tmp_path):
    folder = tmp_path / "drive"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(noise(100, number))
    before = identity(folder)
    folder = folder.rename(tmp_path / "moved")
    assert identity(folder).digest == before.digest
    assert identity(folder).size == 300
    (folder / "2.jpg").rename(folder / "3.jpg")
    assert identity(folder).digest != before.digest


def test_what_is_no_file_is_what_it_is_called():
    one = identity("https://host/clip.mp4?camera=1")
    assert one != identity("https://host/clip.mp4?camera=2")
    assert one == identity("https://user:password@host/clip.mp4?camera=1")
    assert identity("synthetic:walkers?seed=1") != identity("synthetic:walkers?seed=2")


def test_what_cannot_be_read_says_why(tmp_path):
    path = tmp_path / "gone.mp4"
    path.write_bytes(b"video")
    (spec,) = resolve([str(path)])
    path.unlink()
    with pytest.raises(SourceError, match=r"gone.mp4' cannot be read: No such file"):
        content_of(spec)


def test_a_pipe_is_not_read_by_looking_at_it(tmp_path):
    os.mkfifo(tmp_path / "live.mp4")
    assert identity(tmp_path / "live.mp4").size == 0


def test_settings_that_change_results_are_listed_and_no_others(clip):
    (spec,) = resolve([f"{clip}#fps=5&probesize=5M&decryption_key=geheim&hwaccel=auto"])
    assert settings_of(spec) == {
        "fps": "5.0",
        "options": '{"probesize":"5M"}',
        "hwaccel": '"auto"',
    }
    for tail in ("open_s=3&read_s=4&stall_s=1&retry_s=0", "open_s=10&read_s=5&retry_s=30"):
        (camera,) = resolve([f"rtsp://h/a#{tail}"])
        assert settings_of(camera) == {}
