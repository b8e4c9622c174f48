"""What a picture of any source promises to those that read it."""

import numpy as np

from streamvis.sources import open_source, resolve
from streamvis.sources.picture import Picture, Source


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
