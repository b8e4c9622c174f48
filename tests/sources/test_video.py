import os
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamvis.errors import SourceError
from streamvis.messages import Array
from streamvis.sources import Picture, SourceSpec, open_source, resolve
from streamvis.sources.video import VideoSource, _us


def opened(path: Path, **changes) -> VideoSource:
    return VideoSource(SourceSpec(id="a", uri=str(path), kind="file", **changes))


def watched(path: Path, **changes) -> tuple[list[Picture], VideoSource]:
    source = opened(path, **changes)
    try:
        return list(source), source
    finally:
        source.close()


def level(picture: Picture) -> int:
    """The number that `grey` wrote into a picture."""
    return round((float(np.median(picture.pixels[-4:, -4:])) - 30) / 8)


KINDS = [
    ("a.mp4", {}),
    ("a.mp4", {"options": {"bf": "3"}, "frames": 23}),  # pictures come out of order
    ("a.avi", {"codec": "mpeg4"}),
    ("a.mkv", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ("odd.mp4", {"size": (63, 47), "pix_fmt": "yuv444p"}),
    ("odd.mkv", {"size": (33, 35), "codec": "mjpeg", "pix_fmt": "yuvj444p"}),
    ("deep.mp4", {"pix_fmt": "yuv420p10le"}),
    ("a.webm", {"codec": "libvpx-vp9"}),
    ("lossless.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
    ("one.mp4", {"frames": 1}),
]


@pytest.mark.parametrize(("name", "how"), KINDS, ids=lambda value: str(value))
def test_every_picture_comes_out_once_in_order(encode, name, how):
    pictures, source = watched(encode(name, **how))
    count = how.get("frames", 10)
    assert [p.n for p in pictures] == list(range(count))
    assert [level(p) for p in pictures] == list(range(count))
    assert [p.media_us for p in pictures] == pytest.approx(
        [n * 40_000 for n in range(count)], abs=999
    )
    assert (source.ended, source.errors) == ("eof", 0)
    assert (source.info.width, source.info.height) == how.get("size", (64, 48))
    assert source.info.fps == pytest.approx(25)
    assert {(p.clock, p.capture_us) for p in pictures} == {("file", 0)}


def test_pixels_outlive_the_source(encode):
    source = opened(encode("a.mp4", frames=30))
    first = next(iter(source)).pixels
    before = first.copy()
    list(source)
    source.close()
    np.testing.assert_array_equal(first, before)


def test_a_variable_rate_keeps_its_times(encode):
    stamps = [0, 10, 50, 60, 200, 201, 900]
    pictures, _ = watched(encode("a.mkv", frames=7, pts=stamps, options={"bf": "0"}))
    assert [p.media_us for p in pictures] == [1000 * ms for ms in stamps]


def test_negative_stamps_start_at_zero(encode):
    stamps = [-480 + 40 * n for n in range(8)]
    keep = {"avoid_negative_ts": "disabled"}
    path = encode("a.ts", frames=8, codec="mpeg4", pts=stamps, container_options=keep)
    pictures, source = watched(path)
    assert source.facts.first_pts_s < 0
    assert [p.media_us for p in pictures] == [40_000 * n for n in range(8)]


def test_a_stream_without_stamps_counts_pictures(encode):
    pictures, source = watched(encode("a.h264", format="h264", frames=12))
    assert [p.media_us for p in pictures] == [40_000 * n for n in range(12)]
    assert source.info.frames is None


def test_a_given_rate_goes_before_the_container(encode):
    pictures, source = watched(encode("a.mp4"), fps=7.0)
    assert [p.media_us for p in pictures] == [round(n * 1e6 / 7) for n in range(10)]
    assert source.info.fps == 7.0


def test_the_size_may_change_mid_stream(encode, tmp_path):
    parts = [encode(f"{w}.h264", format="h264", size=(w, 48), frames=5) for w in (64, 96)]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    pictures, source = watched(both)
    assert [p.pixels.shape[1] for p in pictures] == [64] * 5 + [96] * 5
    assert source.info.width == 64
    assert all(a.media_us < b.media_us for a, b in pairwise(pictures))


def test_the_index_at_the_end_of_a_truncated_mp4_is_missed(encode):
    path = encode("a.mp4", frames=60)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError, match=r"a\.mp4' is truncated: an MP4 without its index"):
        opened(path)


def noise(count: int) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.flv", "a.ts"])
def test_what_is_left_of_a_truncated_video_is_shown(encode, name, capfd):
    """By its header, if it has one, the video goes on."""
    codec = {"codec": "flv"} if name == "a.flv" else {"codec": "mpeg4"}
    path = encode(name, pictures=noise(100), options={"g": "5"}, **codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pictures, source = watched(path)
    assert 10 <= len(pictures) < 60
    assert source.ended == "eof"
    if name == "a.ts":
        assert source.info.promised is None
    else:
        assert source.info.promised == pytest.approx(100, abs=2)
        assert "by which it ends at 4.0 s and not at" in capfd.readouterr().err


@pytest.mark.parametrize("share", [0.6, 0.85])
def test_a_late_last_picture_is_no_truncation(encode, share, capfd):
    """The last of three pictures lasts long; and a video may be a little shorter than it says."""
    stamps = [0, 40, round(4000 * share)]
    pictures, source = watched(encode("a.mkv", frames=3, pts=stamps, options={"bf": "0"}))
    assert (len(pictures), source.info.promised) == (3, None)
    assert "truncated" not in capfd.readouterr().err


def test_a_faststart_mp4_that_was_truncated_is_shown_as_far_as_it_goes(encode, capfd):
    path = encode("a.mp4", pictures=noise(60), container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pictures, source = watched(path)
    assert 10 <= len(pictures) < 60
    assert (source.info.frames, source.info.promised, source.ended) == (60, 60, "eof")
    assert "fewer frames than the index of its file" in capfd.readouterr().err


def test_what_an_edit_list_hides_is_not_promised(encode, capfd):
    stamps = [40 * n for n in range(-4, 8)]
    keep = {"avoid_negative_ts": "disabled"}
    path = encode("a.mp4", frames=12, codec="mpeg4", pts=stamps, container_options=keep)
    pictures, source = watched(path)
    assert [level(p) for p in pictures] == list(range(4, 12))
    assert (source.info.promised, source.errors) == (8, 0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.ts", "a.flv"])
def test_a_container_that_estimates_promises_nothing(encode, name):
    codec = "libx264" if name == "a.flv" else "mpeg4"
    assert watched(encode(name, codec=codec))[1].info.promised is None


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_are_survived_and_nothing_is_printed(encode, capfd, name, seed):
    rng = np.random.default_rng(seed)
    path = encode(name, pictures=noise(40), codec="mpeg4", options={"g": "8"})
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    middle = slice(len(data) // 4, 3 * len(data) // 4)
    hits = rng.random(len(data[middle])) < 0.002
    data[middle] ^= np.where(hits, rng.integers(1, 256, hits.shape), 0).astype(np.uint8)
    path.write_bytes(data.tobytes())
    with capture_logs():  # by us, of pictures that are missing
        pictures, source = watched(path)
    assert len(pictures) >= 10
    assert all(a.media_us < b.media_us and a.n < b.n for a, b in pairwise(pictures))
    assert source.ended is not None
    assert capfd.readouterr() == ("", "")


def test_packets_that_cannot_be_decoded_are_counted_and_skipped(encode):
    path = encode("a.avi", codec="mjpeg", pix_fmt="yuvj420p", frames=20)
    data = bytearray(path.read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 3] == b"\xff\xd8\xff"]
    for picture in (5, 6, 11):
        size = int.from_bytes(data[at[picture] - 4 : at[picture]], "little")
        data[at[picture] : at[picture] + size] = bytes(size)
    path.write_bytes(bytes(data))
    pictures, source = watched(path)
    assert [p.n for p in pictures] == [n for n in range(20) if n not in {5, 6, 11}]
    assert [level(p) for p in pictures] == [p.n for p in pictures]
    assert source.errors == 3


def test_names_that_look_like_protocols_are_files(encode, tmp_path):
    (tmp_path / "concat:a%03d.mp4").write_bytes(encode("a.mp4").read_bytes())
    (spec,) = resolve([str(tmp_path / "concat:a%03d.mp4")])
    source = open_source(spec)
    assert len(list(source)) == 10
    source.close()


def test_a_pipe_is_read_from_its_first_byte(encode, tmp_path):
    path = encode("a.ts", codec="mpeg4", frames=12)
    pipe = tmp_path / "pipe.ts"
    os.mkfifo(pipe)
    with subprocess.Popen(["dd", f"if={path}", f"of={pipe}", "status=none"]):
        pictures, _ = watched(pipe)
    assert len(pictures) == 12


def test_opening_and_leaving_midway_leaks_nothing(encode):
    path = encode("a.mp4", frames=30)

    def leave_midway() -> None:
        source = opened(path)
        pictures = iter(source)
        next(pictures)
        next(pictures)
        source.close()
        source.close()

    leave_midway()
    before = len(os.listdir("/proc/self/task"))
    for _ in range(10):
        leave_midway()
    assert len(os.listdir("/proc/self/task")) <= before


def test_a_closed_source_gives_no_more(encode):
    source = opened(encode("a.mp4"))
    pictures = iter(source)
    next(pictures)
    source.close()
    assert list(pictures) == []


def test_the_pets_sequence_is_read_to_its_last_picture(real_data):
    (spec,) = resolve([str(real_data / "mot" / "pets09-s2l1")])
    source = open_source(spec)
    times = [picture.media_us for picture in source]
    source.close()
    assert (len(times), source.info.frames, source.errors, source.ended) == (795, 795, 0, "eof")
    assert (source.info.id, source.info.fps, times[-1]) == ("pets09-s2l1", 7.0, round(794e6 / 7))
    assert source.info.ground_plane is not None


CONTAINERS = {
    "a.mp4": {},
    "a.mkv": {},
    "a.avi": {"codec": "mpeg4"},
    "a.ts": {"codec": "mpeg4"},
    "a.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "a.flv": {},
    "a.h264": {"format": "h264"},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_damaged_file_is_shown_or_refused(encode, name):
    """Headers scrambled, pieces cut out, bytes flipped: nothing but SourceError comes of it."""
    path = encode(name, pictures=noise(12), **CONTAINERS[name])
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(7)
    for attempt in range(24):
        data = whole.copy()
        if attempt % 3 == 0:
            data[rng.integers(0, 600, 4)] = rng.integers(0, 256, 4)
        elif attempt % 3 == 1:
            start, stop = sorted(rng.integers(0, len(data), 2))
            data = np.delete(data, slice(start, stop))
        else:
            hits = rng.random(len(data)) < 0.01
            data[hits] = rng.integers(0, 256, hits.sum())
        path.write_bytes(data.tobytes())
        try:
            pictures, source = watched(path)
        except SourceError:
            continue
        assert all(a.media_us < b.media_us and a.n < b.n for a, b in pairwise(pictures))
        assert source.ended is not None


@pytest.mark.parametrize("base", [None, Fraction(0)])  # of PyAV before 19, and since
def test_without_a_time_base_no_stamp_is_known(base):
    assert _us(5, SimpleNamespace(time_base=base)) is None
