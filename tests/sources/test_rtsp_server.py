"""The simulated camera that other tests use: it serves its film and does as it is told."""

import signal
import subprocess
import sys
from itertools import islice

import av
import pytest
import rtsp_server
from films import draw, number
from rtsp_server import Camera, encode_film, serving

WAITS = {"rtsp_transport": "tcp"}


@pytest.fixture(scope="module")
def film():
    return encode_film([draw(n) for n in range(50)], key_every=25)


def watched(url: str, count: int, transport: str = "tcp") -> list[int]:
    """The numbers of the first pictures."""
    with av.open(url, options={"rtsp_transport": transport}, timeout=(10, 5)) as container:
        frames = islice(container.decode(video=0), count)
        return [number(frame.to_ndarray(format="rgb24")) for frame in frames]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("auth", ["none", "basic", "digest"])
def test_its_film_is_decoded_picture_by_picture(film, transport, auth):
    access = {} if auth == "none" else {"auth": auth, "user": "joe@site", "password": "a/b:c#%"}
    with serving(Camera(films=[film], fps=100, **access)) as server:
        assert watched(server.url, 60, transport) == [n % 50 for n in range(60)]


@pytest.mark.parametrize("codec", ["H264", "H265"])
def test_large_pictures_are_sent_in_fragments(codec):
    pictures = [draw(n).repeat(8, 0).repeat(8, 1) for n in range(10)]
    film = encode_film(pictures, codec=codec)
    assert max(len(nal) for unit in film.units for nal in unit.nals) > 1200
    with serving(Camera(films=[film])) as server, av.open(server.url, options=WAITS) as container:
        frames = islice(container.decode(video=0), 10)
        found = [number(frame.to_ndarray(format="rgb24")[::8, ::8]) for frame in frames]
    assert found == list(range(10))


def test_many_clients_come_and_go(film):
    with serving(Camera(films=[film], fps=100)) as server:
        for _ in range(10):
            assert watched(server.url, 3) == [0, 1, 2]
        came = [entry["client"] for entry in server.entries() if "came" in entry]
        assert came == list(range(10))
        assert server.requests().count("PLAY") == 10


def test_it_is_killed_and_serves_again_on_its_port(film):
    with serving(Camera(films=[film], fps=100)) as server:
        url = server.url
        assert watched(url, 1) == [0]
        server.kill()
        with pytest.raises(ConnectionRefusedError):
            watched(url, 1)
        server.restart()
        assert watched(url, 1) == [0]


def test_it_runs_by_hand_with_options_as_arguments(encode):
    path = encode("a.mp4", frames=10)
    command = [sys.executable, rtsp_server.__file__, str(path), "port=0", "auth=basic", "user=joe"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with av.open(f"rtsp://joe:@127.0.0.1:{port}/main", options=WAITS) as container:
            assert container.streams.video[0].codec_context.name == "h264"
        process.terminate()
        assert process.wait() == -signal.SIGTERM
