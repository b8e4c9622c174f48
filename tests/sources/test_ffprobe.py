"""As many pictures as `ffprobe -count_frames` counts, in films of every kind and in real videos."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from films import write
from structlog.testing import capture_logs
from test_decoding_matrix import CODECS, FILMS

from streamvis.errors import SourceError
from streamvis.sources import SourceSpec
from streamvis.sources.video import VideoSource

FFPROBE = shutil.which("ffprobe")
EVERY = 8  # one film of so many of a container; test_decoding_matrix has all of them
EVERY_REAL = 12
pytestmark = pytest.mark.skipif(FFPROBE is None, reason="no ffprobe: apt-get install ffmpeg")


def counted(path: Path) -> int | None:
    """How many frames ffprobe decodes; None where it finds no video, or has no decoder for it."""
    command = [FFPROBE, "-v", "error", "-threads", "1", "-count_frames", "-select_streams", "v:0"]
    command += ["-show_entries", "stream=nb_read_frames", "-of", "json", str(path)]
    redacted = subprocess.run(command, capture_output=True, check=False).stdout
    streams = json.loads(redacted).get("streams") or [{}]
    return int(streams[0]["nb_read_frames"]) if "nb_read_frames" in streams[0] else None


def decoded(path: Path) -> int | None:
    try:
        source = VideoSource(SourceSpec(id="a", uri=str(path), kind="file"))
    except SourceError:
        return None
    try:
        return sum(1 for _ in source)
    finally:
        source.close()


@pytest.mark.parametrize("container", CODECS)
def test_ffprobe_counts_as_many_frames_in_films(container, tmp_path, monkeypatch):
    monkeypatch.setenv("SVT_LOG", "1")  # errors only
    found = {}
    for film in [film for film in FILMS if film.container == container][::EVERY]:
        write(film, path := tmp_path / film.name)
        found[film.name] = counted(path), decoded(path)
        if container == "flv" and found[film.name][0] is None:
            del found[film.name]  # FFmpeg before 6.1 knows H.264 and FLV1 in FLV alone
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize("container", ["mkv", "avi", "ts", "mpeg", "webm"])
def test_ffprobe_counts_as_many_frames_in_damaged_films(container, tmp_path):
    """Cut short, or with something behind: what can be decoded is."""
    for film in [film for film in FILMS if film.container == container][::24]:
        write(film, path := tmp_path / film.name)
        whole = path.read_bytes()
        for data in (whole[: len(whole) * 2 // 3], whole + bytes(1000), whole + whole):
            path.write_bytes(data)
            with capture_logs():
                assert decoded(path) == counted(path), film.name


def test_ffprobe_counts_as_many_frames_in_real_videos(data):
    paths = sorted(p for p in data.rglob("*") if p.suffix in {".mp4", ".avi"})
    pairs = {path.name: (counted(path), decoded(path)) for path in paths[::EVERY_REAL]}
    assert {name: pair for name, pair in pairs.items() if pair[0] != pair[1]} == {}
