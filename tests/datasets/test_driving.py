"""Driving video: views of one size, moments of media time, cuts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.datasets.driving import (
    DriveSampling,
    VideoShot,
    nearest_pictures,
    read_drives,
    sample_drive,
    shots_of,
    thumbnail,
    views,
)
from streamvis.errors import DataError
from streamvis.sources import Picture


def grey(level: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


def texture(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    cells = np.random.default_rng(seed).integers(0, 255, (6, 8, 1), np.uint8)
    return np.kron(cells, np.ones((size[0] // 6, size[1] // 8, 3), np.uint8))


def told(times_us: list[int], every_s: float) -> list[int]:
    pixels = grey(0, (2, 2))
    pictures = [Picture(pixels=pixels, n=n, media_us=t) for n, t in enumerate(times_us)]
    return [picture.n for picture in nearest_pictures(pictures, every_s)]


@pytest.mark.parametrize("fps", [10, 15, 23.976, 25, 29.97, 30])
def test_moments_are_told_by_the_nearest_picture(fps):
    times = [round(n / fps * 1e6) for n in range(100)]
    chosen = told(times, 0.1)
    assert len(chosen) == int((times[-1] + 1000) // 100_000) + 1
    for k, n in enumerate(chosen):
        off = np.abs(np.array(times) - k * 100_000)
        assert off[n] <= off.min() + 2000


@pytest.mark.parametrize(("fps", "pictures"), [(10, 2), (15, 3), (25, 5), (30, 6)])
def test_moments_two_steps_apart_are_equally_far_apart_in_pictures(fps, pictures):
    chosen = told([round(n / fps * 1e6) for n in range(100)], 0.1)
    assert {b - a for a, b in zip(chosen, chosen[2:], strict=False)} == {pictures}


def test_a_picture_stands_for_all_moments_of_a_gap():
    assert told([0, 100_000, 600_000], 0.1) == [0, 1, 1, 1, 2, 2, 2]


@given(st.integers(20, 400), st.integers(20, 400))
def test_views_have_one_size_and_overlap_by_half_at_most(height, width):
    found = views(np.zeros((height, width, 3), np.uint8), (36, 48))
    assert {view.shape for view in found} == {(36, 48, 3)}
    scale = max(36 / height, 48 / width)
    slack = max(round(width * scale), 48) - 48
    assert len(found) == 1 or slack / (len(found) - 1) >= 24
    assert slack / len(found) < 24


def test_views_of_a_wide_picture_are_its_left_middle_and_right():
    ramp = np.broadcast_to(np.arange(119, dtype=np.uint8)[None, :, None], (36, 119, 3))
    found = views(ramp, (36, 48))
    assert [view[0, 0, 0] for view in found] == [0, 36, 71]
    assert found[-1][0, -1, 0] == 118
    (middle,) = views(ramp[:, :64], (36, 48))
    assert middle[0, 0, 0] == 8


def test_runs_lie_between_cuts():
    seen = [thumbnail(texture(seed)) for seed in (0, 0, 0, 1, 1, 2)]
    assert shots_of(seen, 0.6) == [VideoShot(0, 3), VideoShot(3, 2), VideoShot(5, 1)]
    assert shots_of(seen, -1) == [VideoShot(0, 6)]


def test_what_has_no_texture_is_cut_nowhere_but_from_what_has():
    seen = [thumbnail(picture) for picture in (grey(9), texture(0), texture(0))]
    assert shots_of(seen, 0.5) == [VideoShot(0, 1), VideoShot(1, 2)]


def test_a_video_as_views_at_moments(tmp_path, filmed):
    filmed(tmp_path / "a.mp4", [grey(n * 10) for n in range(20)], fps=20)
    (spec,) = read_drives([tmp_path])
    found = [
        moment.views[0].mean()
        for moment in sample_drive(spec, DriveSampling(size=(48, 64), every_s=0.1))
    ]
    np.testing.assert_allclose(found, np.arange(10) * 20, atol=4)


def test_folders_hold_videos_of_different_names(tmp_path, filmed):
    with pytest.raises(DataError, match="is not a directory"):
        read_drives([tmp_path / "absent"])
    with pytest.raises(DataError, match="holds no videos"):
        read_drives([tmp_path])
    for folder in ("x", "y"):
        filmed(tmp_path / folder / "a.mp4", [grey(0)] * 2, fps=10)
    with pytest.raises(DataError, match="two videos have the name a"):
        read_drives([tmp_path / "x", tmp_path / "y"])
