"""Films: written here, read back by PyAV."""

import shutil

import av
import numpy as np
import pytest

from streamvis.stages.record.film import Film


def picture(width, height, level=120):
    image = np.full((height, width, 3), 30, np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = (level, 60, 200)
    return image


def read(path):
    """Times in µs and RGB pictures."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (f.pts * stream.time_base, f.to_ndarray(format="rgb24"))
            for f in container.decode(stream)
        ]
    return [round(float(time * 1_000_000)) for time, _ in frames], [image for _, image in frames]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_pictures_and_times_come_back(tmp_path, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    times = [0, 40_000, 41_000, 900_000, 3_000_000]  # a variable frame rate
    film = Film(tmp_path / "film.mp4", 64, 48, 25, codec=codec)
    for time in times:
        film.write(picture(64, 48), time)
    film.close()
    found, images = read(film.path)
    np.testing.assert_allclose(found, times, atol=20)
    assert images[0].shape == (48, 64, 3)
    error = np.abs(images[-1].astype(int) - picture(64, 48))
    assert error[2:10, 2:14].mean() < 4
    assert error[14:22, 18:30].mean() < 12  # the coloured square: right matrix, right range


def test_times_count_from_the_first_picture(tmp_path):
    film = Film(tmp_path / "film.mp4", 64, 48, 10)
    for time in (50_000_000, 50_100_000, 50_300_000):
        film.write(picture(64, 48), time)
    film.close()
    assert read(film.path)[0] == [0, 100_000, 300_000]


@pytest.mark.parametrize(("fps", "pause_s"), [(25, 1073), (25, 2148), (1 / 3600, 3600), (5, 86400)])
def test_pictures_keep_their_times_after_a_pause_of_hours(tmp_path, fps, pause_s):
    film = Film(tmp_path / "film.mp4", 64, 48, fps)
    after = pause_s * 1_000_000
    for time in (0, after, after + 40_000):
        film.write(picture(64, 48), time)
    film.close()
    times, _ = read(film.path)
    assert [times[0], *times[-2:]] == [0, after, after + 40_000]
    assert len(times) == 3 + after // 2**30


def test_times_that_stand_still_still_make_a_film(tmp_path):
    film = Film(tmp_path / "film.mp4", 64, 48, 10)
    for time in (0, 0, -5, 100_000):
        film.write(picture(64, 48), time)
    film.close()
    times, _ = read(film.path)
    assert len(times) == 4
    assert times == sorted(set(times))


@pytest.mark.parametrize("size", [(63, 47), (64, 47), (63, 48), (1, 1)])
def test_odd_sizes_gain_a_line(tmp_path, size):
    film = Film(tmp_path / "film.mp4", *size, 10)
    film.write(picture(*size), 0)
    film.close()
    (image,) = read(film.path)[1]
    assert image.shape[:2] == (size[1] + size[1] % 2, size[0] + size[0] % 2)


def test_another_size_is_letterboxed(tmp_path):
    film = Film(tmp_path / "film.mp4", 64, 48, 10)
    film.write(picture(64, 48), 0)
    film.write(np.full((100, 50, 3), 200, np.uint8), 100_000)  # twice as tall as wide
    film.close()
    image = read(film.path)[1][1]
    assert image.shape == (48, 64, 3)
    assert image[24, 32].min() > 180
    assert image[24, :16].max() < 40
    assert image[24, -16:].max() < 40


def test_a_film_whose_writer_was_killed_plays(tmp_path):
    """What is on disk at any moment is what a killed process leaves."""
    film = Film(tmp_path / "film.mp4", 64, 48, 10)
    for i in range(35):
        film.write(picture(64, 48, i), i * 100_000)
    killed = tmp_path / "killed.mp4"
    shutil.copy(film.path, killed)
    film.close()
    assert len(read(killed)[0]) >= 24  # all but the last second or so
    assert len(read(film.path)[0]) == 35


def test_a_place_that_cannot_be_written_is_an_oserror(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Film(tmp_path / "absent/film.mp4", 64, 48, 10)
