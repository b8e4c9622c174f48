"""The quirks of real cameras, played by a server of our own."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import av
import msgspec
import numpy as np
import pytest
from films import draw, number
from rtsp_server import Camera, StampFault, encode_film, serving

from streamvis.errors import SourceError
from streamvis.sources import Picture, open_source, resolve
from streamvis.sources.probe import probe
from streamvis.sources.video import VideoSource

FPS = 50  # real rate: twice that which the films declare, so that less time passes
FRAME_US = 1_000_000 // FPS
HURRIED = 200  # pictures a second, where no time is looked at
Each = Callable[[VideoSource, Picture], None]


@pytest.fixture(scope="module")
def film():
    """One second; a key frame begins each half."""
    return encode_film([draw(n) for n in range(50)], key_every=25)


class Watched(msgspec.Struct):
    """The pictures of a source, and what it said."""

    source: VideoSource
    pictures: list[Picture]
    arrivals: list[float]  # of each picture, by time.monotonic()
    said: list[str]

    @property
    def numbers(self) -> list[int]:
        return [number(p.pixels[:96, :160]) for p in self.pictures]


def watched(
    camera: Camera, count: int = 1000, settings: str = "read_s=10", each: Each | None = None
) -> Watched:
    """The first pictures of a camera; less when it ends before."""
    with serving(camera) as server:
        (spec,) = resolve([f"{server.url}#{settings}"])
        said: list[str] = []
        source = open_source(spec, 1, said.append)
        assert isinstance(source, VideoSource)
        seen = Watched(source, [], [], said)
        with closing(source):
            for picture in source:
                seen.pictures.append(picture)
                seen.arrivals.append(time.monotonic())
                if each is not None:
                    each(source, picture)
                if len(seen.pictures) == count:
                    break
    assert all(a.media_us < b.media_us and a.n < b.n for a, b in pairwise(seen.pictures))
    return seen


def stays_near_arrival(seen: Watched, within_us: int = 700_000) -> None:
    """Media time grows as fast as pictures arrive, once those that were kept have come.

    On a busy machine they arrive in bursts; by how much counts in addition.
    """
    media_us = np.array([p.media_us for p in seen.pictures[50:]])
    arrival_us = np.array(seen.arrivals[50:]) * 1e6
    n = np.arange(len(arrival_us))
    bursts_us = np.ptp(arrival_us - np.polyval(np.polyfit(n, arrival_us, 1), n))
    assert np.ptp(media_us - arrival_us) < within_us + bursts_us


def test_a_good_camera_gives_every_picture_and_no_suspicion(film):
    seen = watched(Camera(films=[film], close_after=120))
    assert seen.numbers == [n % 50 for n in range(120)]
    assert [p.n for p in seen.pictures] == list(range(120))
    assert {b.media_us - a.media_us for a, b in pairwise(seen.pictures)} == {1_000_000 // 25}
    assert (seen.source.errors, seen.source.ended, seen.source.stats.suspect) == (0, "lost", 0)
    # test_live.py tests the exact rate on a clock of its own; a busy machine is slower
    arrived = (len(seen.arrivals) - 1) / (seen.arrivals[-1] - seen.arrivals[0])
    assert seen.source.stats.fps == pytest.approx(arrived, rel=0.25)


# Time stamps


@pytest.mark.parametrize("seconds", [7200, -7200, 6])
def test_single_stamps_far_off_do_not_move_media_time(film, seconds):
    fault = StampFault(kind="single", at=60, seconds=seconds, every=17)
    seen = watched(Camera(films=[film], fps=FPS, stamps=[fault], close_after=150))
    assert (len(seen.pictures), seen.source.errors) == (150, 0)
    stays_near_arrival(seen)
    assert not any(p.restarted for p in seen.pictures)


def test_pictures_with_one_stamp_are_all_given(film):
    fault = StampFault(kind="repeat", at=60, every=10)
    seen = watched(Camera(films=[film], fps=FPS, stamps=[fault], close_after=150))
    assert (len(seen.pictures), seen.source.errors) == (150, 0)
    stays_near_arrival(seen)


def test_stamps_that_restart_are_another_epoch(film):
    """The third picture with the new stamps is the first of it, since single ones are ignored."""
    fault = StampFault(kind="restart", at=150)
    seen = watched(Camera(films=[film], stamps=[fault], close_after=220))
    assert [p.n for p in seen.pictures if p.restarted] == [152]
    stays_near_arrival(seen)


def test_a_recorder_that_jumps_back_every_second_restarts_once(film):
    fault = StampFault(kind="jump", at=60, seconds=-3600, every=FPS)
    seen = watched(Camera(films=[film], fps=FPS, stamps=[fault], close_after=200))
    assert sum(p.restarted for p in seen.pictures) == 1
    stays_near_arrival(seen)


def test_stamps_that_jump_ahead_for_good_are_no_restart(film):
    fault = StampFault(kind="jump", at=60, seconds=7200)
    seen = watched(Camera(films=[film], fps=FPS, stamps=[fault], close_after=150))
    assert not any(p.restarted for p in seen.pictures)
    stays_near_arrival(seen)
    later = {b.media_us - a.media_us for a, b in pairwise(seen.pictures[70:])}
    assert later == {FRAME_US}


def test_probe_tells_the_declared_and_the_measured_rate_and_the_clock(film):
    camera = Camera(films=[film], fps=10, wall_offset_s=100.0)
    with serving(camera) as server:
        found = probe(*resolve([server.url]))
    assert found.fps == 25
    assert found.measured_fps == pytest.approx(10, rel=0.5)  # not the 25 that it declares
    assert found.clock == "arrival"
    assert found.clock_offset_ms == pytest.approx(-100_000, abs=500)


def test_the_rate_is_measured_whatever_is_declared(film):
    seen = watched(Camera(films=[film], fps=10, declared_fps=30, close_after=60))
    assert seen.source.info.fps in {25, 30}
    assert seen.source.stats.fps == pytest.approx(10, rel=0.5)  # not the 30 that it declares


# Streams


@pytest.mark.parametrize("where", ["no_sprop", "no_inband"])
@pytest.mark.parametrize("codec", ["H264", "H265"])
def test_parameter_sets_may_be_in_the_description_or_in_the_stream_only(where, codec):
    film = encode_film([draw(n) for n in range(20)], codec=codec)
    seen = watched(Camera(films=[film], fps=FPS, **{where: True}), 30)
    assert seen.numbers == [n % 20 for n in range(30)]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_video_among_sound_and_metadata_is_found(film, transport):
    other = encode_film([draw(n)[:48, :80].copy() for n in range(50)])
    camera = Camera(films=[film, other], fps=FPS, audio_first=True, metadata=True)
    seen = watched(camera, 30, f"read_s=10&rtsp_transport={transport}")
    assert seen.numbers == list(range(30))


def test_sound_alone_is_not_life(film):
    camera = Camera(films=[film], fps=FPS, audio_first=True, metadata=True, mute_after=60)
    seen = watched(camera, settings="read_s=1")
    assert len(seen.pictures) >= 59
    assert seen.source.ended == "timeout"
    assert seen.source.silent_s > 1


def test_a_source_without_any_video_packet_says_what_it_sends_instead(film):
    camera = Camera(films=[film], fps=FPS, audio_first=True, mute_after=0)
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"sent no video within \d+ s, only audio") as caught:
        watched(camera, settings="read_s=1")
    waited_s = int(re.search(r"(\d+) s,", str(caught.value))[1])
    assert 1 <= waited_s <= round(time.monotonic() - began)  # opening is part of it


def test_a_key_frame_is_waited_for_and_each_second_is_told():
    long = encode_film([draw(n) for n in range(100)])
    seen = watched(Camera(films=[long], begin=1), 10)
    assert seen.numbers == list(range(10))
    assert seen.source.errors == 0
    assert len(seen.said) >= 2
    assert seen.said[-1].startswith("connected; waiting for a key frame since ")


def test_without_parameter_sets_in_the_description_a_key_frame_is_waited_for_too():
    long = encode_film([draw(n) for n in range(150)])
    camera = Camera(films=[long], begin=1, no_sprop=True)
    seen = watched(camera, 10, "read_s=1&open_s=2")
    assert seen.numbers == list(range(10))
    assert len(seen.said) >= 4


def test_a_camera_without_key_frames_is_given_up_with_what_to_do(monkeypatch):
    monkeypatch.setattr("streamvis.sources.video.KEY_FRAME_S", 1.5)
    long = encode_film([draw(n) for n in range(150)])
    with pytest.raises(SourceError, match=r"sent no key frame within 1\.5 s.*shorter key frame"):
        watched(Camera(films=[long], begin=1))


def test_the_size_may_change_in_the_middle_of_a_stream(film):
    larger = encode_film([np.pad(draw(n), ((0, 96), (0, 160), (0, 0))) for n in range(50)])
    seen = watched(Camera(films=[film + larger], fps=HURRIED, close_after=100))
    assert [p.pixels.shape[:2] for p in seen.pictures] == [(96, 160)] * 50 + [(192, 320)] * 50
    assert seen.numbers == [n % 50 for n in range(100)]
    assert seen.source.errors == 0


def test_a_session_that_times_out_is_kept_alive(film):
    seen = watched(Camera(films=[film], fps=FPS, timeout_s=2, close_after=150))
    assert (len(seen.pictures), seen.source.ended) == (150, "lost")


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_a_password_of_every_sign_is_accepted(film, auth):
    camera = Camera(films=[film], fps=FPS, auth=auth, user="joe@site", password="a:b/c#d%e?f g")
    assert watched(camera, 3).numbers == [0, 1, 2]


@pytest.mark.parametrize(
    ("reply", "to", "message"),
    [
        (401, "DESCRIBE", "wants a user and password"),
        (403, "DESCRIBE", "forbids this address"),
        (404, "DESCRIBE", "does not know this path"),
        (454, "PLAY", "refused the request"),
        (500, "DESCRIBE", "an error of its own"),
        (503, "SETUP", "an error of its own"),
    ],
)
def test_a_refusal_is_told(film, reply, to, message):
    camera = Camera(films=[film], fps=FPS, auth="basic", user="joe", password="sesame")
    camera = msgspec.structs.replace(camera, reply=reply, reply_to=to)
    with pytest.raises(SourceError, match=message) as refused:
        watched(camera)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_stall_is_a_timeout(film, transport):
    camera = Camera(films=[film], fps=FPS, stall_after=60)
    seen = watched(camera, settings=f"read_s=1&rtsp_transport={transport}")
    assert 58 <= len(seen.pictures) <= 60
    assert seen.source.ended == "timeout"


def test_a_camera_may_send_single_pictures_over_http():
    """Without time stamps: media time is that of arrival."""
    with serving_mjpeg([draw(n) for n in range(60)], fps=25) as url:
        (spec,) = resolve([f"{url}#read_s=10"])
        with closing(open_source(spec)) as source:
            pictures = list(source)
            assert (source.info.live, source.ended, source.errors) == (True, "lost", 0)
    assert [number(p.pixels) for p in pictures] == list(range(60))
    assert all(a.media_us < b.media_us for a, b in pairwise(pictures))
    assert pictures[-1].media_us == pytest.approx(59 * 1_000_000 / 25, abs=500_000)
    assert not any(p.suspect for p in pictures)


@contextmanager
def serving_mjpeg(pictures: list, fps: float) -> Iterator[str]:
    """Serve pictures as a multipart stream, then close the connection."""
    parts = [_jpeg(picture) for picture in pictures]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace;boundary=frame")
            self.end_headers()
            with suppress(OSError):  # the reader went away
                for part in parts:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}"
                    self.wfile.write(f"{head}\r\n\r\n".encode() + part + b"\r\n")
                    time.sleep(1 / fps)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/video"
        finally:
            server.shutdown()
            thread.join()


def _jpeg(picture) -> bytes:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.options = "yuvj420p", Fraction(1, 25), {"qmax": "3"}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


# The capture clock


def test_sender_reports_give_the_time_of_capture(film):
    """The server's clock is ours: what is left is the delay of one picture."""
    seen = watched(Camera(films=[film], fps=FPS, wall_offset_s=0.0, close_after=100))
    assert {p.clock for p in seen.pictures} == {"rtcp_sr"}
    steps = [b.capture_us - a.capture_us for a, b in pairwise(seen.pictures)]
    assert max(abs(step - FRAME_US) for step in steps) < 100
    assert seen.source.stats.offset_us == pytest.approx(FRAME_US, abs=60_000)


@pytest.mark.parametrize("wrong_s", [3600.0, -1e9])
def test_a_camera_clock_that_is_wrong_is_reported_and_not_used(film, wrong_s):
    before = time.time()
    seen = watched(Camera(films=[film], fps=FPS, wall_offset_s=wrong_s, close_after=100))
    assert {p.clock for p in seen.pictures} == {"arrival"}
    assert all(before * 1e6 < p.capture_us < time.time() * 1e6 for p in seen.pictures)
    assert seen.source.stats.offset_us == pytest.approx(-wrong_s * 1e6, abs=2e6)


def test_a_faulty_stamp_does_not_give_a_wrong_capture_time(film):
    fault = StampFault(kind="single", at=60, seconds=7200, every=20)
    camera = Camera(films=[film], fps=FPS, wall_offset_s=0.0, stamps=[fault], close_after=120)
    before = time.time()
    for picture in watched(camera).pictures:
        assert before * 1e6 < picture.capture_us < time.time() * 1e6


def test_two_cameras_of_one_scene_agree_on_the_time_of_each_moment(film):
    """The second joins later, and its pictures come 200 ms later over its network."""
    began_us = time.time_ns() // 1000
    here = Camera(films=[film], fps=FPS, wall_offset_s=0.0, scene_us=began_us, close_after=110)
    there = msgspec.structs.replace(here, latency_s=0.2)
    moments = []
    for camera in (here, there):
        with serving(camera) as server:
            (spec,) = resolve([f"{server.url}#read_s=10"])
            with closing(open_source(spec)) as source:
                moments.append([(p.capture_us, number(p.pixels)) for p in source])
    for seen in moments:
        for capture_us, shown in seen:
            off_us = (capture_us - began_us) % 1_000_000 - shown * FRAME_US
            assert min(abs(off_us), 1_000_000 - abs(off_us)) < 40_000


# Damage


KINDS = {
    "one reference": {"options": {"slices": "1"}},
    "slices": {"options": {"slices": "4"}},
    "reordered": {"options": {"bf": "3", "b-pyramid": "normal", "b_strategy": "0", "refs": "4"}},
    "open groups": {"options": {"bf": "2", "b_strategy": "0", "x264-params": "open-gop=1"}},
    "intra refresh": {"options": {"intra-refresh": "1"}},
    "H.265": {"codec": "H265"},
}


def noisy(n: int):
    """A picture of several packets, whose motion carries damage on."""
    noise = np.random.default_rng(5).integers(0, 256, (216, 280, 3), dtype=np.uint8)
    return noise[n % 100 : n % 100 + 96, n % 100 : n % 100 + 160].copy() // 4 + 90


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    """A film of one kind, and its pictures when nothing is damaged: by capture time in ms."""
    film = encode_film([noisy(n) for n in range(100)], key_every=25, **KINDS[request.param])
    clean = watched(Camera(films=[film], fps=HURRIED, close_after=100))
    return request.param, film, clean


def test_a_clean_stream_has_no_suspect_pictures(kind):
    _, _, clean = kind
    assert clean.source.stats.suspect == 0
    assert (clean.source.errors, len(clean.pictures)) == (0, 100)
    assert not any(p.suspect for p in clean.pictures)


@pytest.mark.parametrize("lost", [{"drop": 0.04, "seed": 3}, {"lost_units": [30, 31, 60]}])
def test_pictures_after_lost_data_are_suspect_until_the_next_key_frame(kind, lost):
    name, film, clean = kind
    if name == "H.265" and "drop" in lost:
        pytest.skip("FFmpeg's decoder of H.265 does not notice a hole in the data of a picture")
    seen = watched(Camera(films=[film], fps=HURRIED, spare=26, close_after=100, **lost))
    good = {p.media_us: p.pixels for p in clean.pictures}
    damaged = [
        p
        for p in seen.pictures
        if p.media_us in good and np.abs(p.pixels.astype(int) - good[p.media_us]).mean() > 2
    ]
    assert all(p.suspect for p in damaged)
    assert not any(p.suspect for p in seen.pictures[:20])
    assert seen.source.errors > 0
    if name != "H.265":  # whose pictures without references are not given at all
        assert any(p.suspect for p in seen.pictures)
    if name not in {"H.265", "intra refresh"} and "lost_units" in lost:
        assert not seen.pictures[-1].suspect


# Skipping


def test_only_key_frames_are_decoded_until_the_next_one_after(film):
    def overload(source: VideoSource, picture: Picture) -> None:
        source.skip = "nonkey" if 30 <= picture.n < 110 else "none"

    seen = watched(Camera(films=[film], fps=HURRIED, close_after=200), each=overload)
    given = [p.n for p in seen.pictures]
    assert given == [*range(31), 50, 75, 100, 125, *range(150, 200)]
    assert seen.numbers == [n % 50 for n in given]
    assert seen.source.stats.skipped == 200 - len(given)
    assert (seen.source.errors, seen.source.stats.suspect) == (0, 0)


def test_pictures_that_none_refers_to_are_skipped():
    options = {"bf": "2", "b_strategy": "0"}
    film = encode_film([draw(n) for n in range(50)], key_every=25, options=options)

    def overload(source: VideoSource, picture: Picture) -> None:
        source.skip = "nonref" if 30 <= picture.n < 110 else "none"

    seen = watched(Camera(films=[film], fps=HURRIED, close_after=200), each=overload)
    assert seen.numbers == [p.n % 50 for p in seen.pictures]
    assert 20 < seen.source.stats.skipped < 60
    assert len(seen.pictures) + seen.source.stats.skipped == 200
    assert (seen.source.errors, seen.source.stats.suspect) == (0, 0)
