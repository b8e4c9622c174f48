"""A rendered scene as a source: the same pictures and times at each opening."""

import numpy as np
import pytest

from streamvis.sources import open_source, resolve

SCENE = "synthetic:walkers?seed=3&people=2&size=64x48&seconds=0.5&fps=8"


def opened(text=SCENE, **changes):
    (spec,) = resolve([text])
    return open_source(spec, **changes)


def test_pictures_are_those_of_the_scene_at_its_rate():
    source = opened()
    assert source.ended is None
    pictures = list(source)
    assert [p.n for p in pictures] == [0, 1, 2, 3]
    assert [p.media_us for p in pictures] == [0, 125_000, 250_000, 375_000]
    assert {(p.capture_us, p.clock) for p in pictures} == {(0, "file")}
    for n, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture.pixels, source.scene.picture(n))
    assert (source.ended, source.errors) == ("eof", 0)
    source.close()
    source.close()  # may be called twice


def test_what_is_announced_is_what_comes():
    source = opened()
    info, pictures = source.info, list(source)
    assert info.frames == info.promised == len(pictures)
    assert pictures[0].pixels.shape == (info.height, info.width, 3) == (48, 64, 3)
    assert (info.fps, info.live) == (8.0, False)
    np.testing.assert_array_equal(info.ground_plane, source.scene.homography)


def test_the_rate_of_the_source_goes_before_that_of_the_scene():
    source = opened(f"{SCENE}#fps=4")
    assert source.info.fps == 4
    assert [p.media_us for p in source] == [0, 250_000]


def test_a_live_scene_has_the_clock_of_arrival():
    source = opened(f"{SCENE}&live=1")
    pictures = list(source)
    assert source.info.live
    assert {p.clock for p in pictures} == {"arrival"}
    captured = np.array([p.capture_us for p in pictures])
    assert (captured - captured[0] >= [p.media_us - 125_000 for p in pictures]).all()


def test_the_given_start_is_announced():
    (spec,) = resolve([f"{SCENE}#start_time=2026-11-29T08:00:00+01:00"])
    assert open_source(spec).info.wall_us(0) == pytest.approx(1_795_935_600_000_000)
