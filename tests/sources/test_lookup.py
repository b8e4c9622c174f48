"""Pictures of recordings by media time: pixel for pixel those that a run has seen at that time."""

import time
from bisect import bisect_right
from contextlib import closing
from fractions import Fraction
from itertools import pairwise

import av
import films
import msgspec
import numpy as np
import pytest
from films import Film, number, write
from hypothesis import given
from hypothesis import strategies as st
from test_rare_streams import remux

from streamvis.errors import SourceError
from streamvis.sources import SourceSpec, open_source
from streamvis.sources.index import DisorderError, VideoIndex
from streamvis.sources.lookup import FileLookup, LookupTimeoutError, SequentialLookup, open_lookup

FILMS = [
    Film("mp4", "h264", frames=60),
    Film("mp4", "h264", reorder=True, frames=60),
    Film("mp4", "h264", reorder=True, fps="variable", frames=60),
    Film("mkv", "h264", reorder=True, fps="variable", before=1),
    Film("mov", "hevc", reorder=True, frames=60),  # with open groups of pictures
    Film("mp4", "h264", turn=(90, False, False)),
    Film("mp4", "h264", turn=(-90, True, False), fps="30000/1001"),
    Film("mp4", "h264", reorder=True, cut=5, options={"avoid_negative_ts": "disabled"}),
    Film("mkv", "h264", start_ms=5000, reorder=True),
    Film("webm", "vp9", reorder=True),
    Film("mp4", "av1"),
    Film("avi", "mpeg4"),
    Film("ts", "h264", reorder=True, before=1, stamped=5),
    Film("h264", "h264", reorder=True),
]
SOUGHT = {"mp4", "mov"}  # what is not read from its beginning


def spec_of(path, **fields):
    return SourceSpec(id="a", uri=str(path), kind="file", **fields)


def watched(spec):
    """What a run gets: media times and pixels."""
    with closing(open_source(spec)) as source:
        return [(one.media_us, np.array(one.pixels)) for one in source]


def soon():
    return time.monotonic() + 60


def places(count):
    """On from the beginning, from end to end, back in steps, on in strides."""
    around = [place for n in range(6) for place in (n, count - 1 - n)]
    return [0, 1, 2, *around, *range(count - 1, count // 2, -1), *range(0, count, 7)]


def assert_exact(pictures, seen):
    times = [media_us for media_us, _ in seen]
    for place in places(len(seen)):
        for off_us in (0, -1, 1):
            wanted_us = times[place] + off_us
            media_us, pixels = seen[max(0, bisect_right(times, wanted_us) - 1)]
            found = pictures.at(wanted_us, soon())
            assert found.media_us == media_us, (place, off_us)
            assert np.array_equal(found.pixels, pixels), (place, off_us)


@pytest.mark.parametrize("fps", [None, 12.5])
@pytest.mark.parametrize("film", FILMS, ids=lambda film: film.name)
def test_each_media_time_has_the_picture_of_the_run(tmp_path, film, fps):
    write(film, tmp_path / film.name)
    spec = spec_of(tmp_path / film.name, fps=fps)
    seen = watched(spec)
    assert [number(pixels) for _, pixels in seen] == list(range(film.cut, film.frames))
    with closing(open_lookup(spec)) as pictures:
        if film.container in SOUGHT and film.codec in {"h264", "hevc"}:
            assert isinstance(pictures, FileLookup)
        assert_exact(pictures, seen)


@pytest.mark.parametrize("film", FILMS[:3], ids=lambda film: film.name)
def test_against_the_times_that_were_written(tmp_path, film):
    write(film, tmp_path / film.name)
    with closing(open_lookup(spec_of(tmp_path / film.name))) as pictures:
        for n, at_s in reversed(list(enumerate(film.times()))):
            found = pictures.at(round(at_s * 1_000_000) + 1, soon())
            assert number(found.pixels) == n
            assert abs(Fraction(found.media_us, 1_000_000) - at_s) <= Fraction(1, 1000)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_groups_that_need_the_one_before(tmp_path, monkeypatch, codec):
    """Pictures that are decoded after a key frame and shown before it."""
    monkeypatch.setitem(films.REORDERED["h264"], "x264-params", "open-gop=1")
    write(Film("mp4", codec, reorder=True, frames=96), tmp_path / "a.mp4")
    seen = watched(spec_of(tmp_path / "a.mp4"))
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [one for one in container.demux(video=0) if one.size]
    keys = [one.pts for one in packets if one.is_keyframe]
    assert len(keys) > 3
    open_groups = [b for a, b in pairwise(packets) if a.is_keyframe]
    assert any(one.pts < keys[1] for one in open_groups[1:2])
    with closing(open_lookup(spec_of(tmp_path / "a.mp4"))) as pictures:
        assert isinstance(pictures, FileLookup)
        for media_us, pixels in reversed(seen):
            found = pictures.at(media_us, soon())
            assert (found.media_us, np.array_equal(found.pixels, pixels)) == (media_us, True)


def scrambled(packets):
    first = packets[0].dts
    for packet in packets:
        packet.pts = packet.dts = packet.dts - first
    return packets


def repeated(packets):
    for packet in packets[20:30]:
        packet.pts = packet.dts = packets[20].dts
    return packets


def leaping(packets):
    for packet in packets[24:]:
        ticks = round(7200 / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
    return packets


def damaged(packets):
    return [one for n, one in enumerate(packets) if n not in (14, 15)]


@pytest.mark.parametrize(
    ("film", "change", "to"),
    [
        (Film("mp4", "h264", reorder=True), scrambled, "b.mp4"),
        (Film("mp4", "h264", frames=48), repeated, "b.flv"),
        (Film("mp4", "h264", frames=48), leaping, "b.mkv"),
        (Film("mp4", "h264", frames=48), damaged, "b.mkv"),
    ],
    ids=["stamps of decoding", "repeated stamps", "stamps that leap", "pictures are missing"],
)
@pytest.mark.filterwarnings("ignore")
def test_stamps_that_are_wrong(tmp_path, film, change, to):
    write(film, tmp_path / "a.mp4")
    remux(tmp_path / "a.mp4", tmp_path / to, change)
    spec = spec_of(tmp_path / to)
    with closing(open_lookup(spec)) as pictures:
        assert_exact(pictures, watched(spec))


def test_bits_that_are_wrong(tmp_path):
    write(Film("mp4", "h264", reorder=True, frames=60), tmp_path / "a.mp4")
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    (tmp_path / "a.mp4").write_bytes(data)
    spec = spec_of(tmp_path / "a.mp4")
    seen = watched(spec)
    with closing(open_lookup(spec)) as pictures:
        for media_us, _ in reversed(seen):
            assert pictures.at(media_us, soon()).media_us == media_us


def test_a_lookup_that_takes_too_long_goes_on_the_next_time(tmp_path):
    write(Film("mp4", "h264", frames=60), tmp_path / "a.mp4")
    spec = spec_of(tmp_path / "a.mp4")
    seen = watched(spec)
    for open_one in (open_lookup, SequentialLookup):
        with closing(open_one(spec)) as pictures:
            attempts = 0
            while True:
                try:
                    found = pictures.at(seen[9][0], 0.0)
                except LookupTimeoutError:
                    attempts += 1
                    assert attempts < 100
                else:
                    break
            assert attempts > 0
            assert np.array_equal(found.pixels, seen[9][1])


def test_images_and_scenes(tmp_path):
    scene = SourceSpec(id="s", uri="synthetic:?seconds=2&fps=7&size=96x64", kind="synthetic")
    folder = tmp_path / "img"
    folder.mkdir()
    for n in range(9):
        av.VideoFrame.from_ndarray(films.draw(n)).to_image().save(folder / f"{n}.png")
    images = SourceSpec(id="i", uri=str(folder), kind="images", fps=7.0)
    for spec in (scene, images):
        with closing(open_lookup(spec)) as pictures:
            assert_exact(pictures, watched(spec))
    live = msgspec.structs.replace(scene, uri=f"{scene.uri}&live=1")
    with closing(open_lookup(live)) as pictures:
        assert_exact(pictures, watched(scene))


def test_what_is_no_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    for path in (tmp_path / "a.mp4", tmp_path / "absent.mp4"):
        with pytest.raises(SourceError):
            open_lookup(spec_of(path))


class Stamped:
    """As much of a packet as an index looks at."""

    def __init__(self, pts, key):
        self.pts = self.dts = pts
        self.is_keyframe, self.is_corrupt, self.is_discard = key, False, False


@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=300),
    st.integers(-500, 500),
    st.integers(1, 300),
)
def test_an_index_that_is_read_in_parts_finds_what_a_list_has(steps, first, part):
    stamps = [first + sum(steps[:n]) for n in range(len(steps))]
    index = VideoIndex(Fraction(1, 1000), first, None)
    for start in range(0, len(stamps), part):
        index.add(Stamped(pts, key=n % 10 == 0) for n, pts in enumerate(stamps[start:][:part]))
        for media_us in range(0, 1000 * (stamps[-1] - first), 50_000):
            if index.knows(media_us):
                place = bisect_right(stamps, first + media_us // 1000) - 1
                assert index.stamps[index.at(media_us)] == stamps[place]
    index.end()
    assert index.stamps == stamps
    assert [index.place_of(stamp) for stamp in stamps] == list(range(len(stamps)))
    assert index.media_us(len(stamps) - 1) == 1000 * (stamps[-1] - first)


@pytest.mark.parametrize("stamps", [[0, 40, 40], [0, 40, None], [0, 4_000_000]])
def test_stamps_that_an_index_does_not_take(stamps):
    index = VideoIndex(Fraction(1, 1000), 0, None)
    packets = [Stamped(pts, key=True) for pts in stamps]
    with pytest.raises(DisorderError):
        index.add(packets) or index.end()
