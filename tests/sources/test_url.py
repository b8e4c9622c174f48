"""URLs: what servers do to their readers, tried on the loopback."""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE_S

from streamvis.errors import SourceError
from streamvis.sources import Picture, Source, open_source, resolve

WAITS = "#open_s=6&read_s=1"


def watched_url(url: str) -> tuple[list[Picture], Source]:
    (spec,) = resolve([url])
    source = open_source(spec)
    try:
        return list(source), source
    finally:
        source.close()


@contextmanager
def serving(
    data: bytes,
    *,
    stop_at: int | None = None,
    then: str = "close",
    length: bool = True,
    ranges: bool = False,
):
    """An HTTP server; /a.mp4 gives `data`, perhaps only up to `stop_at`, then closes or hangs."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = {"/a.mp4": 200, "/a.ts": 200, "/secret": 401}.get(self.path, 404)
            wanted = re.match(r"bytes=(\d+)-$", self.headers.get("Range", "")) if ranges else None
            first = int(wanted[1]) if wanted and status == 200 else 0
            self.send_response(206 if wanted and status == 200 else status)
            if wanted:
                self.send_header("Accept-Ranges", "bytes")
                whole = len(data)
                self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
            if length:
                self.send_header("Content-Length", str(len(data) - first if status == 200 else 0))
            self.end_headers()
            if status == 200:
                self.wfile.write(data[first:stop_at])
                self.wfile.flush()
                if then == "hang":
                    ended.wait(PATIENCE_S)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = False

        def handle_error(self, *_: object) -> None:  # the reader went away
            pass

    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            ended.set()
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_file_on_a_web_server_is_a_file(encode):
    path = encode("a.mp4", frames=20, container_options={"movflags": "faststart"})
    with serving(path.read_bytes()) as server:
        pictures, source = watched_url(f"{server}/a.mp4{WAITS}")
    assert (len(pictures), source.ended, source.info.live) == (20, "eof", False)
    assert pictures[0].clock == "file"


def test_http_without_an_end_is_live(encode):
    path = encode("a.ts", frames=40, codec="mpeg4")
    with serving(path.read_bytes(), length=False) as server:
        pictures, source = watched_url(f"{server}/a.ts{WAITS}")
    assert (source.info.live, source.ended) == (True, "lost")
    assert len(pictures) == 40
    assert pictures[0].clock == "arrival"


def test_stamps_of_a_camera_that_leap_do_not_make_time_leap(encode):
    """All pictures arrive at once; from the thirtieth on, stamps are half a minute ahead."""
    stamps = [40 * n + 30_000 * (n >= 30) for n in range(60)]
    path = encode("a.ts", frames=60, codec="mpeg4", pts=stamps)
    with serving(path.read_bytes(), length=False) as server:
        pictures, source = watched_url(f"{server}/a.ts{WAITS}")
    times = [picture.media_us for picture in pictures]
    assert (source.info.live, len(times)) == (True, 60)
    assert all(a < b for a, b in pairwise(times))
    assert times[:30] == [40_000 * n for n in range(30)]
    assert times[-1] < 60 * 40_000 + 5_000_000


def test_a_server_that_hangs_up_midway_is_a_loss(encode, big):
    with serving(big, stop_at=len(big) // 2) as server:
        pictures, source = watched_url(f"{server}/a.mp4{WAITS}")
    assert 10 < len(pictures) < 100
    assert source.ended == "lost"


def test_a_server_that_falls_silent_is_a_timeout(encode, big):
    with serving(big, stop_at=len(big) // 2, then="hang") as server:
        pictures, source = watched_url(f"{server}/a.mp4{WAITS}")
    assert 10 < len(pictures) < 100
    assert source.ended == "timeout"


@pytest.mark.parametrize("ranges", [True, False])
def test_an_index_behind_the_pictures_takes_range_requests(encode, ranges):
    data = noise(encode, 12)
    assert len(data) > 2**16  # what is read at once needs no going back
    with serving(data, ranges=ranges) as server:
        if ranges:
            pictures, source = watched_url(f"{server}/a.mp4{WAITS}")
            assert (len(pictures), source.ended, source.info.live) == (12, "eof", False)
            assert (source.errors, source.info.frames) == (0, 12)
        else:
            with pytest.raises(SourceError, match=r"index \(moov\) lies behind .* range requests"):
                watched_url(f"{server}/a.mp4{WAITS}")


@pytest.fixture
def big(encode) -> bytes:
    """100 pictures in about 1 MB, its index first."""
    return noise(encode, 100, container_options={"movflags": "faststart"})


def noise(encode, frames: int, **how) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 96, 128, 3), dtype=np.uint8)
    path = encode("big.mp4", pictures=pixels, size=(128, 96), options={"crf": "12"}, **how)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("path", "message"),
    [("/none.mp4", r"does not know this path \(404\)"), ("/secret", "wants a user and password")],
)
def test_what_a_web_server_refuses_is_told_without_the_password(path, message):
    with serving(b"") as server:
        url = server.replace("//", "//joe:sesame@") + path
        with pytest.raises(SourceError, match=message) as refused:
            watched_url(url + WAITS)
    assert "sesame" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_a_web_page_is_no_video():
    with (
        serving(b"<html>hello</html>" * 100) as server,
        pytest.raises(SourceError, match="answers, but not with video"),
    ):
        watched_url(f"{server}/a.mp4{WAITS}")


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_closed_port_refuses(scheme):
    url = f"{scheme}://joe:sesame@127.0.0.1:{free_port()}/main"
    with pytest.raises(SourceError, match="refused the connection") as refused:
        watched_url(url)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("password", ["5/a", "554?a", "5/a?c"])
def test_a_password_that_may_have_cut_the_address_is_suspected(password):
    """`joe:5` could be a host and its port, so it is tried; the host is not to blame then."""
    with pytest.raises(SourceError, match=r"cannot be reached: in a user name .* %23 for #") as no:
        watched_url(f"rtsp://joe:{password}@127.0.0.1:{free_port()}/main{WAITS}")
    assert password not in str(no.value)
    assert "host name" not in str(no.value)


def test_a_value_that_ffmpeg_does_not_take_is_told(encode):
    path = encode("a.mp4")
    with pytest.raises(SourceError, match=r"FFmpeg refuses a value of its settings probesize"):
        watched_url(f"{path}#probesize=1")


def test_a_host_nobody_knows_is_told():
    with pytest.raises(
        SourceError, match=r"nohost\.invalid/main' cannot be reached: check the host"
    ):
        watched_url("rtsp://joe:sesame@nohost.invalid/main")


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_never_answers_is_given_up(scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SourceError, match="did not answer within 1 s"):
            watched_url(f"{scheme}://127.0.0.1:{port}/main#open_s=1")


PUBLISHER = """
import os, sys, time
import av, numpy as np
url, then = sys.argv[1:]
for attempt in range(100):
    time.sleep(0.1)
    try:
        out = av.open(url, "w", format="rtsp", options={"rtsp_transport": "tcp"})
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "5"}
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()
        break
    except av.error.FFmpegError:
        pass
for n in range(50):
    grey = np.full((48, 64, 3), 30 + 8 * (n % 25), np.uint8)
    out.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
    time.sleep(0.02)
if then == "stall":
    time.sleep(30)
if then == "bye":
    out.close()
os._exit(0)
"""


@contextmanager
def publishing(then: str) -> Iterator[str]:
    """A source text that waits for the publisher, who sends 50 pictures and then …"""
    url = f"rtsp://127.0.0.1:{free_port()}/main"
    command = [sys.executable, "-c", PUBLISHER, url, then]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as publisher:
        try:
            yield f"{url}#rtsp_flags=listen&listen_timeout=15&open_s=20&read_s=1"
        finally:
            publisher.kill()


@pytest.mark.parametrize(
    ("then", "ended"), [("bye", "lost"), ("die", "lost"), ("stall", "timeout")]
)
def test_an_rtsp_stream_never_just_ends(then, ended):
    with publishing(then) as text:
        pictures, source = watched_url(text)
    assert source.info.live
    assert source.ended == ended
    assert 40 <= len(pictures) <= 50
    assert pictures[0].media_us == 0
    assert all(a.media_us < b.media_us and a.n < b.n for a, b in pairwise(pictures))
    assert {p.clock for p in pictures} <= {"arrival", "rtcp_sr"}
    assert all(abs(p.capture_us - time.time_ns() // 1000) < 60_000_000 for p in pictures)
    assert source.errors == 0


def test_a_camera_that_is_not_there_is_told_with_those_that_are():
    assert not Path("/dev/video63").exists()
    with pytest.raises(SourceError, match=r"video63' cannot be opened: .* Cameras there are: "):
        watched_url("63")
