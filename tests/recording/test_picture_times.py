"""Media times beside segments: each picture is found again at the time that a run gave it."""

import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_streams import recordings

sys.path.append(str(Path(__file__).parents[1]))
from rtsp_server import Camera, encode_film, serving

from streamvis.errors import SourceError
from streamvis.recording.finding import FoundSegment, SegmentList, segment_at
from streamvis.recording.picture_times import (
    ENDING,
    MOST_HELD,
    RECORD,
    SHIFT,
    PictureTimes,
    first_time,
    read_times,
)
from streamvis.recording.room import RoomKeeper
from streamvis.recording.settings import Recording, Segments
from streamvis.runtime.media_time import MediaTime
from streamvis.sources import SourceSpec, open_source
from streamvis.sources.segment_lookup import SegmentLookup

ORDERS = {"in order": {}, "reordered": {"bf": "2", "b_strategy": "0", "x264-params": "open-gop=1"}}


def picture(number):
    """Its bars tell its number."""
    bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8)
    return np.repeat(np.repeat(bits[None, :], 64, 0), 16, 1)[..., None].repeat(3, 2) * 200 + 20


def number_of(pixels):
    bars = pixels[20:40].mean(axis=(0, 2)).reshape(8, 16)[:, 4:12].mean(axis=1)
    return sum(int(bar > 120) << bit for bit, bar in enumerate(bars))


def watched(url, out, epoch, last_us, count):
    """What a run sees of one connection, which is recorded: media times and pixels."""
    record = Recording(segments=Segments(1))
    spec = SourceSpec(id="gate", uri=url, kind="url", record=record, record_to=str(out))
    seen, continued = [], MediaTime(last_us, None)
    with closing(open_source(spec, epoch)) as source:
        for one in source:
            one = continued.continued(one)
            source.recorder.shift(continued.shift_us)
            seen.append((one.media_us, np.array(one.pixels)))
            if len(seen) == count:
                break
    return seen


@pytest.mark.parametrize("order", ORDERS)
def test_pictures_of_a_camera_that_was_connected_twice(tmp_path, order):
    film = encode_film(
        [picture(n) for n in range(200)], fps=50, key_every=20, options=ORDERS[order]
    )
    with serving(Camera(films=[film], fps=50)) as server:
        first = watched(server.url, tmp_path, 1, -1, 130)
        second = watched(server.url, tmp_path, 2, first[-1][0], 110)
    found = SegmentList(tmp_path)("gate", 0.0)
    assert [one.path for one in found] == recordings(tmp_path)
    assert {one.stream_epoch for one in found} == {1, 2}
    exact, open_ones = 0, {}
    for media_us, pixels in first + second:
        segment = segment_at(found, media_us)
        if segment.path not in open_ones:
            open_ones[segment.path] = SegmentLookup(segment.path)
        seen = open_ones[segment.path].at(media_us, time.monotonic() + 60)
        if seen.media_us == media_us:
            assert np.array_equal(seen.pixels, pixels)
            assert number_of(seen.pixels) == number_of(pixels)
            exact += 1
        else:  # a picture that needs the segment before, or that came after the last record
            assert seen.media_us < media_us or order == "reordered"
    for one in open_ones.values():
        one.close()
    assert exact >= 0.9 * len(first + second)
    if order == "in order":
        assert exact == len(first + second)


def test_of_the_connection_before_if_that_is_wanted(tmp_path):
    found = []
    for epoch, media_us in ((1, 0), (2, 5_000_000)):
        path = tmp_path / f"08000{epoch}-e{epoch}.mp4"
        path.with_suffix(ENDING).write_bytes(RECORD.pack(SHIFT, 0) + RECORD.pack(0, media_us))
        found.append(FoundSegment(float(epoch), epoch, 0, path))
    assert segment_at(found, 6_000_000).stream_epoch == 2
    assert segment_at(found, 6_000_000, 1).stream_epoch == 1
    assert segment_at(found, 4_999_999).stream_epoch == 1
    assert segment_at(found, 6_000_000, 0) is None
    assert segment_at(found, -1) is None


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(-5, 130), st.data())
def test_the_segment_of_a_time_is_the_last_that_begins_before(tmp_path_factory, steps, at, data):
    """Some have no times: from a run of an earlier version, or the disk was full."""
    folder = tmp_path_factory.mktemp("s")
    found, begins, media_us = [], {}, 0
    for number, step in enumerate(steps):
        media_us += step
        path = folder / f"{number:06}-e1.mp4"
        if data.draw(st.booleans()):
            path.with_suffix(ENDING).write_bytes(RECORD.pack(SHIFT, 3) + RECORD.pack(0, media_us))
            begins[path] = media_us + 3
        found.append(FoundSegment(float(number), 1, 0, path))
    expected = [path for path, begun in begins.items() if begun <= at]
    chosen = segment_at(found, at)
    assert (chosen.path if chosen else None) == (expected[-1] if expected else None)


def test_times_without_the_one_of_the_source_are_not_known(tmp_path):
    path = tmp_path / "080000-e1.mp4"
    path.touch()
    times = PictureTimes()
    times.written(7, path, 0)
    times.written(8, path, 1)
    times.decoded(7, 100)
    times.flush()
    assert (read_times(path), first_time(path)) == ({}, None)
    times.shift(1000)
    times.decoded(8, 200)
    times.decoded(9, 300)  # a packet that was not written
    times.decoded(None, 300)
    times.flush()
    assert (read_times(path), first_time(path)) == ({0: 1100, 1: 1200}, 1100)
    with path.with_suffix(ENDING).open("ab") as file:
        file.write(b"torn")
    assert read_times(path) == {0: 1100, 1: 1200}
    path.unlink()
    path.with_suffix(ENDING).unlink()
    times.written(10, path, 2)
    times.decoded(10, 400)
    times.flush()
    assert list(tmp_path.iterdir()) == []


def test_segments_that_ended_before_a_stage_took_a_picture_have_times(tmp_path):
    times, paths = PictureTimes(), [tmp_path / f"08000{n}-e1.mp4" for n in range(3)]
    for n in range(300):
        path = paths[n // 100]
        path.touch()
        times.written(n, path, n % 100)
        times.decoded(n, 40_000 * n)
        if n == 250:
            times.shift(7)
    times.flush()
    assert [first_time(path) for path in paths] == [7, 4_000_007, 8_000_007]
    assert [us for path in paths for us in read_times(path).values()] == [
        40_000 * n + 7 for n in range(300)
    ]


def test_the_times_of_an_hour_without_stages_are_kept_and_no_more(tmp_path):
    times, paths = PictureTimes(), [tmp_path / f"08000{n}-e1.mp4" for n in range(2)]
    for n in range(MOST_HELD + 1):
        path = paths[n // MOST_HELD]
        times.written(n, path, n)
        times.decoded(n, n)
    for path in paths:
        path.touch()
    times.shift(0)
    times.flush()
    assert [len(read_times(path)) for path in paths] == [0, 1]


def test_they_are_deleted_with_their_segment(tmp_path):
    folder = tmp_path / "recordings/gate/2026-11-29"
    folder.mkdir(parents=True)
    for name in ("080000-e1.mp4", "080000-e1.times"):
        (folder / name).write_bytes(b"x")
    keeper = RoomKeeper(tmp_path, usage=lambda _: (10**12, 10**12), now=lambda: 1e11)
    room = keeper.make_room({"gate": Recording(segments=Segments(60, keep_days=1.0))})
    assert len(room.deleted) == 1
    assert not folder.exists()


def test_what_is_no_segment_is_not_listed(tmp_path):
    folder = tmp_path / "recordings/gate/2026-11-29"
    folder.mkdir(parents=True)
    for name in ("080000-e1.mp4", "080000-e1_2.mp4", "090000-e12.mp4", "mine.mp4", "8-e1.mp4"):
        (folder / name).touch()
    (folder / "100000-e1.mp4").symlink_to("/etc/passwd")
    (tmp_path / "recordings/gate/2026-11-30").symlink_to(folder)
    (tmp_path / "recordings/other").symlink_to(tmp_path / "recordings/gate")
    listed = SegmentList(tmp_path)
    assert [one.path.name for one in listed("gate", 0.0)] == [
        *("080000-e1.mp4", "080000-e1_2.mp4", "090000-e12.mp4")
    ]
    assert listed("other", 0.0) == listed("nobody", 0.0) == []
    later = listed("gate", 0.0)[-1].began_s
    assert [one.stream_epoch for one in listed("gate", later)] == [12]
    (folder / "110000-e13.mp4").touch()
    assert listed("gate", later)[-1].stream_epoch == 13


def test_a_segment_without_pictures_of_known_times(tmp_path):
    path = tmp_path / "080000-e1.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(SourceError):
        SegmentLookup(path)
    assert msgspec.json.encode(read_times(path)) == b"{}"
