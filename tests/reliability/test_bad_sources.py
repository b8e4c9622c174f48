"""Sources that cannot be watched: each is named with its reason, and the run ends with code 3."""

import json
import socket
import struct
import wave
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from commands import CAMERA, streamvis

from streamvis.sources import open_source, resolve

WORDS = b"these are words, not pictures\n" * 50
REASONS = {  # file -> the end of its line
    "words.mp4": "is not a video",
    "empty.mp4": "is empty (0 bytes)",
    "cut.mp4": "is truncated: an MP4 without its index (moov)",
    "sound.wav": "has no video stream, only audio",
    "zero.avi": "",
    "huge.avi": "",
    "huge.png": "none of its 1 images can be read",
    "codec.avi": "has a codec for which this FFmpeg has no decoder",
}


def film(path: Path, codec: str = "libx264", pix_fmt: str = "yuv420p") -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = pix_fmt
        for level in range(0, 200, 40):
            pixels = np.full((64, 64, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture
def bad(tmp_path):
    """A folder with all of them."""
    folder = tmp_path / "bad"
    folder.mkdir()
    whole = film(folder / "cut.mp4")
    (folder / "cut.mp4").write_bytes(whole[: whole.index(b"moov") + 100])
    raw = bytearray(film(folder / "zero.avi", "rawvideo", "bgr24"))
    header = raw.index(b"strf") + 8  # BITMAPINFOHEADER: size, width, height
    for name, side in [("zero", 0), ("huge", 10**9)]:
        raw[header + 4 : header + 12] = struct.pack("<II", side, side)
        (folder / f"{name}.avi").write_bytes(raw)
    (folder / "codec.avi").write_bytes(
        film(folder / "codec.avi", "mpeg4").replace(b"FMP4", b"ZZZZ")
    )
    (folder / "words.mp4").write_bytes(WORDS)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "huge.png").write_bytes(png(10**9))
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 8000, "NONE", ""))
        sound.writeframes(bytes(16000))
    assert {path.name for path in folder.iterdir()} == set(REASONS)
    return folder


def test_a_run_has_a_reason_for_each_of_them_and_ends_with_code_3(bad, tmp_path):
    (tmp_path / "camera.yaml").write_text(CAMERA)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]  # closed when the run begins
    sources = [*map(str, sorted(bad.iterdir())), f"rtsp://joe:sesame@127.0.0.1:{port}/a#retry_s=0"]
    given = [word for source in sources for word in ("--source", source)]
    done = streamvis("run", "camera.yaml", *given, "--out", "out", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "sesame" not in done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    errors = {source["label"]: source["error"] for source in summary["sources"]}
    for name, reason in REASONS.items():
        assert errors[str(bad / name)].startswith(f"source '{bad / name}'")
        assert reason in errors[str(bad / name)]
    assert "refused the connection" in errors[f"rtsp://127.0.0.1:{port}/a"]
    assert any(error in done.stderr for error in errors.values())
    assert b"sesame" not in b"".join(p.read_bytes() for p in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["words.mp4", "cut.mp4", "huge.avi"])
def test_probe_ends_with_code_3_and_one_line(bad, name):
    done = streamvis("probe", bad / name)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("streamvis: source '")
    assert REASONS[name] in line


@pytest.mark.parametrize("side", [0, 1, 65535])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "mark", "offset"),
    [
        ("a.mp4", "libx264", "yuv420p", b"avc1\0\0\0\0\0\0\0\1", 28),  # VisualSampleEntry
        ("a.mjpeg", "mjpeg", "yuvj420p", b"\xff\xc0", 5),  # of the first picture alone
    ],
)
def test_a_wrong_size_in_the_header_of_good_pictures_does_no_harm(
    tmp_path, name, codec, pix_fmt, mark, offset, side
):
    path = tmp_path / name
    data = bytearray(film(path, codec, pix_fmt))
    at = data.index(mark) + offset
    data[at : at + 4] = struct.pack(">HH", side, side)
    path.write_bytes(data)
    (spec,) = resolve([str(path)])
    source = open_source(spec)
    pictures = list(source)
    source.close()
    assert {picture.pixels.shape for picture in pictures} <= {(64, 64, 3), (1, 1, 3)}
    assert len(pictures) + source.errors == 5
