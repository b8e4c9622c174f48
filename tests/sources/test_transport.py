"""Transport streams whose video changes on the way: codec, size, PIDs, programs."""

from itertools import pairwise

import av
import pytest
from films import Film, number, write
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.sources import SourceSpec
from streamvis.sources.transport import SIZES, Part, Tables, checksum, first_part
from streamvis.sources.video import VideoSource

OTHER_PIDS = {"mpegts_start_pid": "0x200", "mpegts_pmt_start_pid": "0x1100"}
OTHER_STREAM = {"mpegts_start_pid": "0x200"}
OTHER_PROGRAM = OTHER_PIDS | {"mpegts_service_id": "7"}
BLU_RAY = {"mpegts_m2ts_mode": "1"}

JOINED = {
    "H.264, HEVC": [Film("ts", "h264"), Film("ts", "hevc")],
    "reordered": [Film("ts", "hevc", reorder=True, before=1), Film("ts", "h264", reorder=True)],
    "MPEG-2, H.264, MPEG-4": [Film("ts", c, before=1) for c in ("mpeg2", "h264", "mpeg4")],
    "and back": [Film("ts", c, reorder=True) for c in ("h264", "hevc", "h264")],
    "other PIDs": [Film("ts", "h264"), Film("ts", "hevc", options=OTHER_PIDS)],
    "other stream": [Film("ts", "h264", before=1), Film("ts", "h264", options=OTHER_STREAM)],
    "other program": [Film("ts", "h264"), Film("ts", "hevc", options=OTHER_PROGRAM)],
    "other size": [Film("ts", "h264"), Film("ts", "h264", turn=(90, False, False))],
    "same codec": [Film("ts", "mpeg4"), Film("ts", "mpeg4", before=1)],
    "Blu-ray": [Film("ts", c, before=1, options=BLU_RAY) for c in ("h264", "hevc")],
    "time goes on": [Film("ts", "h264", reorder=True), Film("ts", "hevc", start_ms=5000)],
}


def watched(path):
    source = VideoSource(SourceSpec(id="a", uri=str(path), kind="file"))
    try:
        return list(source), source
    finally:
        source.close()


def joined(tmp_path, films):
    path = tmp_path / "joined.ts"
    with path.open("wb") as file:
        for film in films:
            write(film, tmp_path / "part.ts")
            file.write((tmp_path / "part.ts").read_bytes())
    return path


@pytest.mark.parametrize("name", JOINED)
def test_a_transport_stream_is_decoded_on_where_it_changes(tmp_path, name):
    films = JOINED[name]
    pictures, source = watched(joined(tmp_path, films))
    assert [p.n for p in pictures] == list(range(24 * len(films)))
    assert (source.errors, source.ended) == (0, "eof")
    steps = {b.media_us - a.media_us for a, b in pairwise(pictures)}
    if name == "time goes on":
        assert sorted(steps)[:-1] == [40_000]
        assert max(steps) > 3_000_000
    else:
        assert steps == {40_000}
    if name != "other size":  # where the second half is stored lying, and TS cannot say so
        assert [number(p.pixels) for p in pictures] == [*range(24)] * len(films)


def test_a_file_that_is_taken_away_before_its_next_part_is_lost(tmp_path):
    path = joined(tmp_path, JOINED["H.264, HEVC"])
    source = VideoSource(SourceSpec(id="a", uri=str(path), kind="file"))
    pictures = iter(source)
    next(pictures)
    path.unlink()
    assert len(list(pictures)) == 23
    assert source.ended == "lost"
    source.close()


@pytest.mark.parametrize("lost", [1, 100, 187, 500])
def test_a_change_is_found_after_bytes_were_lost(tmp_path, lost):
    path = joined(tmp_path, [Film("ts", "mpeg2", before=1), Film("ts", "h264", before=1)])
    data = path.read_bytes()
    path.write_bytes(data[:9000] + data[9000 + lost :])
    pictures, _ = watched(path)
    assert [number(p.pixels) for p in pictures][-24:] == list(range(24))
    assert 40 < len(pictures) <= 48


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("films") / "small.ts"
    write(Film("ts", "h264"), path)
    return path.read_bytes()


@settings(max_examples=60)
@given(
    losses=st.lists(
        st.tuples(st.integers(2000, 9000), st.integers(1, 400)), min_size=1, max_size=9
    ),
    places=st.lists(st.integers(0, 14_000), min_size=1, max_size=9),
)
def test_a_damaged_part_has_the_bytes_of_its_file_from_anywhere_on(
    small, tmp_path_factory, losses, places
):
    """No read is empty before the end: FFmpeg would take that for the end, and read on for ever."""
    data = bytearray(small)
    for place, count in losses:
        del data[place : place + count]
    path = tmp_path_factory.getbasetemp() / "damaged.ts"
    path.write_bytes(data)
    part = first_part(path)
    for place in places:
        part.seek(place)
        assert b"".join(iter(lambda: part.read(1000), b"")) == data[place:]
    part.close()


def test_a_part_reads_as_the_file_does(tmp_path):
    path = tmp_path / "a.ts"
    write(Film("ts", "h264", before=1), path)
    part = first_part(path)
    with av.open(str(path)) as whole, av.open(part) as read:
        assert read.duration == whole.duration
        assert [bytes(p) for p in read.demux(video=0)] == [bytes(p) for p in whole.demux(video=0)]
    assert part.following() is None
    part.seek(0)
    assert b"".join(iter(lambda: part.read(1000), b"")) == path.read_bytes()
    part.close()


def test_parts_add_up_to_the_file(tmp_path):
    path = joined(tmp_path, JOINED["MPEG-2, H.264, MPEG-4"])
    part: Part | None = first_part(path)
    found = b""
    while part is not None:
        data = b"".join(iter(lambda part=part: part.read(700), b""))
        found += data if not found else data[188:]  # the program table is put before it
        following = part.following()
        part.close()
        part = following
    assert found == path.read_bytes()


def patched(data: bytes, kind: int, other: int) -> bytes:
    """The stream with another stream type in place of one, in all program maps but the first."""
    found = bytearray(data)
    starts = [at for at in range(0, len(data), 188) if data[at + 1 : at + 3] == b"\x50\x00"]
    assert len(starts) > 1
    for at in starts[1:]:
        section = at + 5
        end = section + 3 + (int.from_bytes(data[section + 1 : section + 3], "big") & 0xFFF)
        entry = section + 12
        while data[entry] != kind:
            entry += 5 + (int.from_bytes(data[entry + 3 : entry + 5], "big") & 0xFFF)
        found[entry] = other
        found[end - 4 : end] = checksum(bytes(found[section : end - 4])).to_bytes(4, "big")
    return bytes(found)


def test_other_streams_may_come_and_go_without_a_cut(tmp_path):
    """Sound that becomes video, says the map: what is decoded is still there."""
    path = tmp_path / "a.ts"
    write(Film("ts", "h264", fps="7", reorder=True, after=1), path)
    path.write_bytes(patched(path.read_bytes(), 0x03, 0x02))
    pictures, source = watched(path)
    assert [number(p.pixels) for p in pictures] == list(range(24))
    assert (source.errors, source._part.next) == (0, None)


@given(st.binary(min_size=12, max_size=200), st.sampled_from([0, 2]))
def test_any_table_is_read_or_passed_over(body, kind):
    section = bytes([kind, 0xB0, len(body) + 6]) + body[:2] + b"\xc1" + body[2:]
    section = section[: 3 + section[2] - 4]
    section += checksum(section).to_bytes(4, "big")
    packet = b"\x47\x40\x00\x10\x00" + section[:183].ljust(183, b"\xff")
    tables = Tables(188)
    tables.changed(packet * 3, 0, follows=True)


def test_a_damaged_table_changes_nothing(tmp_path):
    path = tmp_path / "a.ts"
    write(Film("ts", "h264", fps="7"), path)
    data = bytearray(path.read_bytes())
    starts = [at for at in range(0, len(data), 188) if data[at + 1 : at + 3] == b"\x50\x00"]
    data[starts[-1] + 17] = 0x24  # HEVC, says the last program map, whose checksum is wrong now
    tables = Tables(188)
    assert len(starts) > 1
    assert tables.changed(bytes(data), 0, follows=True) is None


@pytest.mark.parametrize("size", SIZES)
def test_files_that_are_no_transport_streams_are_left_alone(tmp_path, size):
    path = tmp_path / "a.ts"
    for data in (b"", b"\x47", b"\x47" + bytes(size - 1) * 2, bytes(4096)):
        path.write_bytes(data)
        assert first_part(path) is None
    assert first_part(tmp_path) is None


def test_the_checksum_is_that_of_the_standard():
    assert checksum(b"123456789") == 0x0376E6E7
