"""Room on the disk: the oldest go first, and nothing but recordings ever goes."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.recording.mp4 import FLOOR_BYTES
from streamvis.recording.names import names, time_of
from streamvis.recording.room import (
    DAY_S,
    GB,
    WRITTEN_S,
    RecordedFile,
    RoomKeeper,
    to_delete,
    wanted_bytes,
)
from streamvis.recording.settings import Clips, Recording, Segments

NOW = 1_800_000_000.0


@st.composite
def recorded_files(draw):
    """Recordings of two cameras, of up to ten days; some are being written."""
    files = []
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["segment", "clip"]))
        began_s = NOW - draw(st.floats(0, 10 * DAY_S))
        changed_s = min(NOW, began_s + draw(st.floats(0, 300)))
        source = draw(st.sampled_from("ab"))
        path = Path(f"{kind}/{source}/{number}.mp4")
        size = draw(st.integers(0, 3 * GB))
        files.append(RecordedFile(path, source, kind, began_s, changed_s, size))
    return files


limits = st.none() | st.floats(0.1, 12)
settings = st.dictionaries(
    st.sampled_from("ab"),
    st.builds(
        Recording,
        segments=st.builds(Segments, keep_days=limits, keep_gb=limits),
        clips=st.builds(Clips, on=st.just(["track.begin"]), keep_days=limits, keep_gb=limits),
    ),
)


def part(settings, file):
    recording = settings.get(file.source)
    if recording is None:
        return Segments()
    return recording.segments if file.kind == "segment" else recording.clips


def may_be_written(file):
    return abs(NOW - file.changed_s) < WRITTEN_S


@given(recorded_files(), settings, st.integers(-5 * GB, 20 * GB))
def test_limits_hold_after_it_with_as_few_deletions_as_possible(files, settings, missing):
    deletions = to_delete(files, NOW, settings, missing)
    gone = [deletion.file for deletion in deletions]
    left = [file for file in files if file not in gone]
    closed = [file for file in left if not may_be_written(file)]
    assert len(set(gone)) == len(gone)
    assert not any(may_be_written(file) for file in gone)
    for file in closed:
        keep_days = part(settings, file).keep_days
        assert keep_days is None or NOW - file.changed_s <= keep_days * DAY_S
        mine = [f for f in left if (f.source, f.kind) == (file.source, file.kind)]
        keep_gb = part(settings, file).keep_gb
        assert keep_gb is None or sum(f.bytes for f in mine) <= keep_gb * GB
    freed = sum(file.bytes for file in gone)
    assert freed >= missing or not closed
    for deletion in deletions:
        file = deletion.file
        mine = [f for f in left if (f.source, f.kind) == (file.source, file.kind)]
        match deletion.reason:
            case "keep_days":
                assert NOW - file.changed_s > part(settings, file).keep_days * DAY_S
            case "keep_gb":
                assert all(f.began_s >= file.began_s or may_be_written(f) for f in mine)
            case "min_free_gb":
                older = [f for f in closed if f.began_s < file.began_s and f.kind == "segment"]
                assert not older
                if file.kind == "clip":
                    assert not any(f.kind == "segment" for f in closed)
    for_room = [d.file for d in deletions if d.reason == "min_free_gb"]
    if for_room:
        assert freed - for_room[-1].bytes < missing


@given(recorded_files(), settings, st.integers(0, 20 * GB), st.randoms())
def test_the_order_of_the_listing_does_not_matter(files, settings, missing, random):
    shuffled = random.sample(files, len(files))
    assert to_delete(files, NOW, settings, missing) == to_delete(shuffled, NOW, settings, missing)


def test_the_oldest_of_all_cameras_goes_first():
    files = [
        RecordedFile(Path(f"{source}{day}"), source, "segment", NOW - day * DAY_S, 0, GB)
        for source in "ab"
        for day in (1, 3, 5)
    ]
    gone = to_delete(files, NOW, {}, 3 * GB)
    assert [str(deletion.file.path) for deletion in gone] == ["a5", "b5", "a3"]


@pytest.mark.parametrize(
    ("asked", "disk", "wanted"),
    [
        ([], 10 * GB, GB // 2),
        ([], 1000 * GB, GB),
        ([3.0, 2.0, None], 1000 * GB, 3 * GB),
        ([0.0], 1000 * GB, 2 * FLOOR_BYTES),
        ([], 20_000_000, 2 * FLOOR_BYTES),
    ],
)
def test_a_gigabyte_or_a_twentieth_is_kept_free_unless_a_setting_says_otherwise(
    asked, disk, wanted
):
    settings = [Recording(segments=Segments(), min_free_gb=one) for one in asked]
    assert wanted_bytes(settings, disk) == wanted


@given(st.integers(0, 4_000_000_000), st.text(max_size=20))
def test_the_name_of_a_recording_tells_its_time(at_s, what):
    path = next(names(Path("/out/recordings/a"), at_s, "e" + what))
    assert time_of(path) == at_s
    assert path.parent.parent == Path("/out/recordings/a")


def written(out: Path, text: str, at_s: float, size: int = 10) -> Path:
    path = out / text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (at_s, at_s))
    return path


class Disk:
    """A disk of which a test says what is free."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, out: Path) -> tuple[int, int]:
        return self.free, 100 * GB


def test_only_recordings_are_deleted(tmp_path):
    old = NOW - 100 * DAY_S
    others = [
        "events.db",
        "recordings/notes.mp4",
        "recordings/a/2026-10-01/holiday.mp4",
        "recordings/a/2026-10-01/120000-e1.txt",
        "recordings/a/somewhere/120000-e1.mp4",
        "annotated.mp4",
        "2026-10-01/120000-e1.mp4",
    ]
    kept = [written(tmp_path, text, old) for text in others]
    outside = written(tmp_path, "elsewhere/video.mp4", old)
    link = tmp_path / "recordings/a/2026-10-01/130000-e1.mp4"
    link.symlink_to(outside)
    gone = [
        written(tmp_path, "recordings/a/2026-10-01/120000-e1.mp4", old),
        written(tmp_path, "clips/a/2026-09-01/120000-track.begin-1.mp4", old),
    ]
    last = written(tmp_path, "recordings/a/2026-11-01/120000-e1.mp4", NOW - 5)  # being written
    room = RoomKeeper(tmp_path, usage=Disk(0), now=lambda: NOW).make_room({})
    assert [deletion.file.path for deletion in room.deleted] == gone
    assert room.is_low
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in [*kept, outside, link, last])
    assert not (tmp_path / "clips/a/2026-09-01").exists()


def test_a_call_deletes_a_bounded_number_and_the_next_one_goes_on(tmp_path):
    for minute in range(20):
        at_s = NOW - DAY_S + 60 * minute
        written(tmp_path, f"recordings/a/2027-01-14/08{minute:02}00-e1.mp4", at_s)
    settings = {"a": Recording(segments=Segments(keep_days=0.5))}
    keeper = RoomKeeper(tmp_path, usage=Disk(50 * GB), now=lambda: NOW)
    assert [len(keeper.make_room(settings, most=8).deleted) for _ in range(4)] == [8, 8, 4, 0]


def test_while_there_is_room_recordings_are_listed_once_a_minute(tmp_path):
    now = [NOW]
    disk = Disk(50 * GB)
    keeper = RoomKeeper(tmp_path, usage=disk, now=lambda: now[0])
    settings = {"a": Recording(segments=Segments(keep_gb=1e-9))}
    assert keeper.make_room(settings).deleted == []
    first, second = [
        written(tmp_path, f"recordings/a/2027-01-14/08{minute:02}00-e1.mp4", NOW - DAY_S + minute)
        for minute in range(2)
    ]
    now[0] += 30
    assert keeper.make_room(settings).deleted == []
    now[0] += 31
    assert [one.file.path for one in keeper.make_room(settings).deleted] == [first, second]


def test_a_segment_that_grows_is_seen_in_a_folder_that_does_not_change(tmp_path):
    now = [NOW]
    keeper = RoomKeeper(tmp_path, usage=Disk(50 * GB), now=lambda: now[0])
    settings = {"a": Recording(segments=Segments(keep_gb=1e-6))}
    path = written(tmp_path, "recordings/a/2027-01-15/080000-e1.mp4", NOW, 10)
    written(tmp_path, "recordings/a/2027-01-15/090000-e1.mp4", NOW, 10)
    assert keeper.make_room(settings).deleted == []
    with path.open("wb") as file:
        file.write(bytes(2000))
    os.utime(path, (NOW + 30, NOW + 30))
    now[0] += 120
    assert [one.file.bytes for one in keeper.make_room(settings).deleted] == [2000]


def test_an_output_directory_without_recordings_is_no_error(tmp_path):
    assert RoomKeeper(tmp_path, usage=Disk(0), now=lambda: NOW).make_room({}).deleted == []
