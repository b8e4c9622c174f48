"""What a picture of any source promises to those that read it."""

import numpy as np
import pytest
from factories import source as source_of

from streamvis.errors import SourceError
from streamvis.sources import open_source, resolve, whole
from streamvis.sources.picture import Picture, Source, ending_of


def test_a_picture_without_a_clock_is_one_of_a_file_of_unknown_time():
    picture = Picture(pixels=np.zeros((2, 3, 3), np.uint8), n=0, media_us=0)
    assert (picture.capture_us, picture.clock) == (0, "file")


def test_every_kind_of_source_is_read_in_the_same_way(encode, tmp_path):
    """Time stamps begin at 0 and rise, numbers rise, pixels are RGB of the announced size."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(3):
        Image.new("RGB", (64, 48), (n, 0, 0)).save(folder / f"{n}.png")
    video = encode("a.mp4", frames=3)
    for text in (str(video), str(folder), "synthetic:walkers?size=64x48&seconds=0.3&fps=10"):
        (spec,) = resolve([text])
        source: Source = open_source(spec)
        assert source.ended is None
        pictures = list(source)
        assert [p.n for p in pictures] == [0, 1, 2]
        times = [p.media_us for p in pictures]
        assert times[0] == 0
        assert times == sorted(set(times))
        for picture in pictures:
            assert picture.pixels.dtype == np.uint8
            assert picture.pixels.shape == (source.info.height, source.info.width, 3)
        assert (source.ended, source.errors) == ("eof", 0)
        source.close()
        source.close()


class Film:
    """A source of two pictures that ends in a way of its own."""

    info = source_of(label="gate")

    def __init__(self, ends):
        self.ended, self._ends = None, ends

    def __iter__(self):
        yield from "ab"
        self.ended = self._ends


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("eof", ("eof", "")),
        (None, ("eof", "")),
        ("lost", ("failed", "source 'gate' was lost")),
        ("timeout", ("failed", "source 'gate' sent nothing until the read timeout")),
    ],
)
def test_the_end_of_the_pictures_says_whether_the_source_failed(why, expected):
    film = Film(why)
    assert list(film) == ["a", "b"]
    assert ending_of(film) == expected


def test_a_part_of_a_source_is_not_taken_for_the_whole():
    assert list(whole(Film("eof"))) == ["a", "b"]
    read = whole(Film("lost"))
    assert [next(read), next(read)] == ["a", "b"]
    with pytest.raises(SourceError, match="source 'gate' was lost after 2 pictures, before its"):
        next(read)
