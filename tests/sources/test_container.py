import os
import wave
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

from streamvis.errors import SourceError
from streamvis.sources import Picture, SourceSpec
from streamvis.sources.container import rate_of
from streamvis.sources.video import VideoSource


def opened(path: Path, **changes) -> VideoSource:
    return VideoSource(SourceSpec(id="a", uri=str(path), kind="file", **changes))


def watched(path: Path, **changes) -> tuple[list[Picture], VideoSource]:
    source = opened(path, **changes)
    try:
        return list(source), source
    finally:
        source.close()


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 8000, "NONE", ""))
        sound.writeframes(bytes(16000))
    with pytest.raises(SourceError, match=r"a\.wav' has no video stream, only audio \(pcm_s16le\)"):
        opened(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mp4", b"", "is empty"),
        ("a.mp4", b"these are words, not pictures\n" * 50, "is not a video"),
        ("a.txt", b"these are words, not pictures\n" * 50, "is not a video"),
        ("a.avi", bytes(range(256)) * 40, "is not a video"),
        ("a.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "is truncated"),
    ],
)
def test_what_is_not_a_video_is_refused(tmp_path, capfd, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"source '.*{name}' {message}"):
        opened(path)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        opened(tmp_path / "a.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_refused(encode):
    path = encode("a.mp4")
    path.chmod(0)
    with pytest.raises(SourceError, match="cannot be read: Permission denied"):
        opened(path)


@pytest.mark.parametrize("side", [0, 10**9, 40_000])
def test_sizes_that_cannot_be_are_refused(encode, side):
    path = encode("a.avi", codec="rawvideo", pix_fmt="bgr24")
    data = bytearray(path.read_bytes())
    strf = data.index(b"strf") + 8  # BITMAPINFOHEADER: size, width, height
    data[strf + 4 : strf + 12] = side.to_bytes(4, "little") * 2
    path.write_bytes(bytes(data))
    with pytest.raises(SourceError, match=r"a\.avi'"):
        opened(path)


def test_a_codec_nobody_knows_is_named(encode):
    path = encode("a.avi", codec="mpeg4")
    data = path.read_bytes().replace(b"FMP4", b"ZZZZ")
    path.write_bytes(data)
    with pytest.raises(SourceError, match="has a codec for which this FFmpeg has no decoder"):
        opened(path)


def test_pyav_19_takes_no_word_about_metadata(encode, monkeypatch):
    before = av.open

    def later(address, mode="r", **how):
        if "metadata_errors" in how:
            raise TypeError("open() got an unexpected keyword argument 'metadata_errors'")
        return before(address, mode, **how)

    monkeypatch.setattr(av, "open", later)
    assert len(watched(encode("a.mp4"))[0]) == 10


def test_metadata_need_not_be_text(encode):
    path = encode("a.mkv", codec="mpeg4", metadata={"title": "caf_"})
    path.write_bytes(path.read_bytes().replace(b"caf_", b"caf\xe9"))
    assert len(watched(path)[0]) == 10


def test_a_rate_that_nobody_knows_is_0_with_any_pyav():
    class Rational:  # of PyAV 19: 0/0 rather than None
        def __bool__(self):
            return False

        def __float__(self):
            raise ZeroDivisionError

    assert rate_of(SimpleNamespace(average_rate=Rational(), guessed_rate=None, base_rate=None)) == 0
