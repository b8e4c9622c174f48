"""A clip that is replayed live: each picture in its time, again and again, until told to end."""

import time

import numpy as np
import pytest

from streamvis.benchmarks.live_replay import Replay, Schedule, fitted, make_clip, without_people
from streamvis.sources.spec import SourceSpec

FPS = 100.0


@pytest.fixture
def clip(tmp_path):
    """Four pictures, of which each is brighter than the one before."""
    path = tmp_path / "clip.mp4"
    pictures = [np.full((64, 96, 3), 50 * n, np.uint8) for n in range(1, 5)]
    assert make_clip(iter(pictures), path, FPS) == 4
    return path


def replay(clip, first=0, phase_s=0.0, slow=1.0):
    until = clip.with_suffix(".end")
    plan = Schedule(fps=FPS, slow=slow, first=first, phase_s=phase_s, until=str(until))
    options = {name: str(getattr(plan, name)) for name in plan.__struct_fields__}
    return Replay(SourceSpec(id="a", uri=str(clip), kind="url", options=options)), until


def test_pictures_come_in_their_time_until_the_end_is_asked_for(clip):
    source, until = replay(clip, phase_s=0.004)
    assert source.info.live
    shown, came_us = [], []
    for picture in source:
        came_us.append(time.time_ns() // 1000)
        shown.append(picture)
        if len(shown) == 10:
            until.touch()
    source.close()
    assert [one.n for one in shown] == list(range(10))
    due = [one.capture_us for one in shown]
    assert all(came >= at for came, at in zip(came_us, due, strict=True))  # none before its time
    assert np.abs(np.diff(due) - 1e6 / FPS).max() <= 1
    assert due[0] % 10_000 == pytest.approx(4000, abs=2)
    assert source.ended == "eof"


def test_a_slow_clip_takes_longer_for_the_same_media_time(clip):
    source, until = replay(clip, slow=3.0)
    shown = []
    for picture in source:
        shown.append(picture)
        if len(shown) == 5:
            until.touch()
    source.close()
    assert [one.media_us for one in shown] == [10_000 * n for n in range(5)]
    assert np.abs(np.diff([one.capture_us for one in shown]) - 30_000).max() <= 1


@pytest.mark.parametrize("first", [0, 3])
def test_a_clip_begins_anywhere_and_is_shown_again(clip, first):
    source, until = replay(clip, first)
    levels = []
    for picture in source:
        levels.append(round(picture.pixels.mean() / 50))
        if len(levels) == 9:
            until.touch()
    source.close()
    assert levels == [1 + (first + n) % 4 for n in range(9)]


def test_pictures_are_scaled_without_distortion():
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[20:40, 30:50] = 255  # a square in the middle
    found = fitted(picture, (160, 90))[..., 0] > 127
    assert found.shape == (90, 160)
    assert found.any(axis=0).sum() == found.any(axis=1).sum() == 40
    assert fitted(picture, (80, 60)) is not None


def test_an_empty_place_is_what_most_pictures_agree_on():
    rng = np.random.default_rng(3)
    place = rng.integers(40, 200, (32, 48, 3)).astype(np.uint8)
    pictures = []
    for n in range(12):  # somebody walks through
        pictures.append(place.copy())
        pictures[-1][:, 4 * n : 4 * n + 4] = 0
    found = np.stack(list(without_people(pictures))).astype(float)
    assert found.shape == (12, 32, 48, 3)
    assert np.abs(found.mean(axis=0) - place).max() < 5
    assert 1 < found.std(axis=0).mean() < 3  # the noise of a camera
