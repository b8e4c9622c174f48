"""Cameras in the inline engine: they come back there, too. Real servers on the loopback."""

import threading
import time
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
import toys
from rtsp_server import Camera, encode_film, serving
from structlog.testing import capture_logs

import streamvis
from streamvis.config import CameraMotion, MaskRcnn, Pipeline, StageSpec
from streamvis.errors import SourceError
from streamvis.runtime import inline
from streamvis.sources import open_source
from streamvis.sources.picture import Picture
from streamvis.sources.spec import SourceSpec

DETECT = Pipeline(stages=[StageSpec("detect", MaskRcnn())])


class Blind(toys.ToyDetect):
    """Finds the same person in every picture, whatever it shows."""

    def __call__(self, packets):
        for _ in packets:
            yield streamvis.Detections.of(boxes=[[1, 1, 9, 9]], scores=[0.9])


@pytest.fixture(scope="module")
def film():
    return encode_film([np.full((48, 64, 3), 20 + 4 * n, np.uint8) for n in range(50)], fps=25)


def camera(name, url, **settings):
    settings = {"open_s": 3.0, "read_s": 1.0, "retry_s": 1.0, **settings}
    return SourceSpec(id=name, uri=url, kind="url", **settings)


def opener(spec, epoch=1):
    return open_source(spec, epoch) if spec.kind == "url" else toys.open_toy(spec, epoch)


def frames(*sources, **settings):
    return inline.frames(DETECT, sources, build=Blind, **settings)


def test_a_camera_that_is_lost_comes_back_in_the_next_epoch(film):
    with (
        capture_logs() as logged,
        serving(Camera(films=[film])) as server,
        closing(frames(camera("a", server.url))) as running,
    ):
        before = [next(running).packet.frame for _ in range(10)]
        server.kill()
        back = threading.Timer(1.5, server.restart)
        back.start()
        after = []
        for done in running:
            (before if done.packet.frame.epoch == 1 else after).append(done.packet.frame)
            if len(after) == 10:
                break
        back.join()
    every = before + after
    assert [frame.epoch for frame in every] == [1] * len(before) + [2] * 10
    assert [frame.seq for frame in every] == list(range(len(every)))
    # media time grows over both epochs, and goes on near real time
    assert all(a.media_us < b.media_us for a, b in pairwise(every))
    media_s = (after[-1].media_us - every[0].media_us) / 1e6
    assert media_s == pytest.approx((after[-1].capture_us - every[0].capture_us) / 1e6, abs=1.0)
    assert [entry["event"] for entry in logged][:2] == ["source online", "source offline"]


def test_an_absent_camera_leaves_room_for_a_file_and_is_given_up(film):
    with serving(Camera(films=[film])) as server:
        gone = server.url
    scene = SourceSpec(id="scene", uri="toy:5", kind="synthetic")
    run = inline.run(
        DETECT,
        [camera("gone", gone), scene],
        build=Blind,
        open_source=opener,
        give_up_s=2.0,
    )
    absent, there = run.sources
    assert (absent.ending, there.ending) == ("failed", "eof")
    assert "refused the connection" in absent.error
    assert "given up after" in absent.error
    assert absent.attempts >= 2
    assert there.admitted == 5


def test_with_retry_s_0_a_camera_that_is_lost_ends_the_loop(film):
    with serving(Camera(films=[film], close_after=20)) as server:
        with pytest.raises(SourceError, match="was lost"):
            list(frames(camera("a", server.url, retry_s=0.0)))
        assert server.requests().count("PLAY") == 1


def test_closing_while_a_camera_is_silent_takes_no_longer_than_read_s(film):
    with serving(Camera(films=[film])) as server:
        running = frames(camera("a", server.url, read_s=30.0))
        next(running)
        server.pause()
        began = time.monotonic()
        running.close()
        assert time.monotonic() - began < 30.0
        server.resume()


def test_a_silent_camera_is_lost_and_comes_back(film):
    with (
        serving(Camera(films=[film])) as server,
        closing(frames(camera("a", server.url))) as running,
    ):
        next(running)
        server.pause()
        back = threading.Timer(3.0, server.resume)
        back.start()
        epochs = (done.packet.frame.epoch for done in running)
        assert next(epoch for epoch in epochs if epoch > 1) >= 2
        back.join()


def test_stream_goes_on_over_a_restart(film):
    only = Pipeline(stages=[StageSpec("camera", CameraMotion())])
    with (
        serving(Camera(films=[film], close_after=25)) as server,
        closing(streamvis.stream(f"{server.url}#retry_s=1&read_s=2", only)) as packets,
    ):
        seen = []
        for packet in packets:
            seen.append(packet.frame.epoch)
            if seen[-1] == 3:
                break
    assert seen == sorted(seen)
    assert {*seen} == {1, 2, 3}


class Restarting(toys.ToySource):
    """A live toy whose time stamps begin anew at picture 3, and whose picture 4 is damaged."""

    def __iter__(self):
        for picture in super().__iter__():
            yield Picture(
                pixels=picture.pixels,
                n=picture.n,
                media_us=picture.media_us,
                restarted=picture.n == 3,
                suspect=picture.n == 4,
            )


def test_time_stamps_that_begin_anew_are_a_new_epoch_and_damage_is_suspect():
    live = SourceSpec(id="a", uri="toy:6", kind="file", options={"live": "1"})
    summary = inline.run(
        Pipeline(stages=[StageSpec("detect", MaskRcnn(), skip_suspect=True)]),
        [live],
        build=Blind,
        open_source=lambda spec, epoch: Restarting(spec, epoch),
    )
    (source,) = summary.sources
    assert (source.admitted, source.epoch, source.suspect) == (6, 2, 1)
