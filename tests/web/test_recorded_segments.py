"""Looking back at a camera: logged tracks lie on the recorded picture that they were made from."""

import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from live_runs import running
from rtsp_server import Camera, encode_film
from rtsp_server import serving as camera_serving
from web_servers import serving

from streamvis.recording.settings import Recording, Segments
from streamvis.runtime.opened import OPENED, OpenedSources, read
from streamvis.sources import SourceSpec

sys.path.append(str(Path(__file__).parents[1]))

CORNER = ((0.0, 0.0), (0.2, 0.0), (0.2, 0.2), (0.0, 0.2))
LEAST = 10  # tracks of each connection that are looked at


def shades():
    """Each picture is brighter than the one before: the walker's score tells how bright."""
    return [np.full((96, 128, 3), 20 + n, np.uint8) for n in range(200)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run of a camera that was lost and came back, over several segments."""
    out = tmp_path_factory.mktemp("run")
    film = encode_film(shades(), fps=10, key_every=5)
    record = Recording(segments=Segments(1), unmasked=True)
    with camera_serving(Camera(films=[film], fps=10)) as server:
        spec = SourceSpec(
            id="gate",
            uri=server.url,
            kind="url",
            record=record,
            privacy_masks=(CORNER,),
            retry_s=1.0,
            read_s=2.0,
        )
        with running(out, spec, detect="shade") as run:
            run.wait(lambda: len(updates(run.events("gate"), 1)) > 2 * LEAST)
            server.restart()
            run.wait(lambda: len(updates(run.events("gate"), 2)) > 2 * LEAST)
            run.end()
            events = run.events("gate")
    return out, events


def updates(events, stream_epoch):
    return [
        one
        for one in events
        if one.type == "track.update" and one.frame.stream_epoch == stream_epoch
    ]


def shade_of(pixels):
    """The brightness that the walker saw, mask included."""
    return float(pixels.mean())


@pytest.mark.parametrize("stream_epoch", [1, 2])
def test_tracks_lie_on_their_picture(out, stream_epoch):
    out, events = out
    exact = []
    with serving(out) as client:
        for one in updates(events, stream_epoch)[-2 * LEAST :]:
            address = f"/api/picture/gate?media_us={one.time.media_us}"
            reply = client.get(f"{address}&stream_epoch={stream_epoch}")
            assert reply.status == 200, reply.body
            media_us = int(reply.headers["x-streamvis-media-us"])
            assert media_us <= one.time.media_us
            if media_us == one.time.media_us:
                pixels = cv2.imdecode(np.frombuffer(reply.body, np.uint8), cv2.IMREAD_COLOR)
                exact.append((512 * (one.what.track.score - 0.5), shade_of(pixels)))
    assert len(exact) >= LEAST
    told, shown = np.array(exact).T
    assert np.ptp(told) > 10  # they are different pictures
    assert np.abs(told - shown).max() < 0.9  # and one of 1 would be the neighbour


def test_masks_are_those_of_the_connection(out):
    out, events = out
    one = updates(events, 2)[-LEAST]
    with serving(out) as client:
        reply = client.get(f"/api/picture/gate?media_us={one.time.media_us}")
        pixels = cv2.imdecode(np.frombuffer(reply.body, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(pixels[:15, :22].astype(int) - 128).max() < 8
        (entry,) = read(out)
        later = msgspec.structs.replace(entry, stream_epoch=3)
        path, before = out / OPENED, (out / OPENED).read_bytes()
        path.write_bytes(msgspec.json.encode(OpenedSources(sources=[later])))
        assert client.get(f"/api/picture/gate?media_us={one.time.media_us}").status == 409
        path.unlink()
        assert client.get(f"/api/picture/gate?media_us={one.time.media_us}").status == 409
        path.write_bytes(before)


def test_what_is_no_longer_there(out):
    out, events = out
    first = updates(events, 1)[0]
    with serving(out) as client:
        for path in sorted((out / "recordings").rglob("*-e1*")):
            path.unlink()
        reply = client.get(f"/api/picture/gate?media_us={first.time.media_us}")
        assert reply.status == 404
        assert "no segment of source 'gate'" in reply.error["found"]
        assert "record" in reply.error["to_do"]
