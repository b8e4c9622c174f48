import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import DataError, RunError
from streamvis.messages import Frame
from streamvis.transport.slots import Segment, SlotReader, SlotWriter


def frame(slot, width=4, height=3):
    return Frame(source="a", seq=0, n=0, media_us=0, width=width, height=height, slot=slot)


@pytest.fixture
def segment(tmp_path):
    segment = Segment(3, 4 * 3 * 3, "a test", tmp_path)
    yield segment
    segment.close()


@pytest.fixture
def read():
    reader = SlotReader()
    yield reader
    reader.close()


@pytest.fixture
def write():
    writer = SlotWriter()
    yield writer
    writer.close()


def test_each_slot_gives_back_what_was_written(segment, read, write):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (3, 4, 3), np.uint8) for _ in segment.slots]
    for slot, picture in zip(segment.slots, pictures, strict=True):
        write(slot, picture)
    for slot, picture in zip(segment.slots, pictures, strict=True):
        np.testing.assert_array_equal(read(frame(slot)), picture)


def test_a_strided_picture_is_copied_right(segment, read, write):
    wide = np.arange(3 * 9 * 3, dtype=np.uint8).reshape(3, 9, 3)
    write(segment.slots[1], wide[:, ::-2][:, :4])
    np.testing.assert_array_equal(read(frame(segment.slots[1])), wide[:, ::-2][:, :4])


def test_a_stage_cannot_write_into_a_picture(segment, read):
    with pytest.raises(ValueError, match="read-only"):
        read(frame(segment.slots[0]))[0, 0, 0] = 1


def test_a_segment_is_private_and_has_no_name(segment, read, tmp_path):
    assert list(tmp_path.iterdir()) == []
    fd = int(segment.name.rpartition("-")[2])
    assert os.fstat(fd).st_mode & 0o777 == 0o600
    segment.close()
    with pytest.raises(RunError, match=f"{segment.name} cannot be opened: its process has closed"):
        read(frame(segment.slots[0]))


def test_a_descriptor_that_is_another_file_s_by_now_is_not_the_segment(segment, read, tmp_path):
    segment.close()
    other = Segment(3, 36, "a test", tmp_path)  # gets the same descriptor
    assert other.name.rpartition("-")[2] == segment.name.rpartition("-")[2]
    with pytest.raises(RunError, match="its process has closed it"):
        read(frame(segment.slots[0]))
    other.close()


def test_a_view_outlives_the_segment_and_the_reader(segment, read, write):
    write(segment.slots[0], np.full((3, 4, 3), 7, np.uint8))
    view = read(frame(segment.slots[0]))
    segment.close()
    read.close()
    assert (view == 7).all()


def test_a_reader_unmaps_segments_that_are_gone(segment, read, tmp_path):
    read(frame(segment.slots[0]))
    other = Segment(1, 36, "a test", tmp_path)
    segment.close()
    read(frame(other.slots[0]))
    other.close()
    assert segment.name.rpartition("-")[0] not in Path("/proc/self/maps").read_text()


@given(st.text(max_size=40))
def test_an_invalid_slot_name_is_refused(text):
    with pytest.raises((DataError, RunError)):
        SlotReader()(frame(text))


@pytest.mark.parametrize(
    "slot",
    ["../x:0", "streamvis-1-1-1-1/../x:0", "streamvis-1-2-3-4:-1", "streamvis-1-2-3-..:0"],
)
def test_a_slot_cannot_lead_to_another_file(read, slot):
    with pytest.raises(DataError, match="is not a slot"):
        read(frame(slot))


@pytest.mark.parametrize("size", [(4, 10**6), (10**6, 10**6), (0, 3), (-4, 3)])
def test_a_picture_that_does_not_fit_is_refused(segment, read, size):
    with pytest.raises(DataError, match="does not fit slot"):
        read(frame(segment.slots[2], *size))


MIB = 2**20
PICTURE = 1920 * 1080 * 3


@pytest.mark.parametrize(
    ("total", "free", "size", "slots"),
    [
        (16 * MIB, 16 * MIB, "48m", "or set `slots: 2` in the placement"),
        (64 * MIB, 40 * MIB, "72m", "or set `slots: 6` in the placement"),
        (16 * MIB, 6 * 10**6, "58m", "or take a smaller picture"),  # not one slot
    ],
)
def test_too_little_shared_memory_names_the_needed_and_the_free_size(
    tmp_path, monkeypatch, total, free, size, slots
):
    def full(fd, offset, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    blocks = SimpleNamespace(f_frsize=1, f_blocks=total, f_bavail=free)
    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(os, "statvfs", lambda _: blocks)
    with pytest.raises(RunError) as caught:
        Segment(8, PICTURE, "source 'cam1' (1920×1080)", tmp_path)
    message = str(caught.value)
    assert "source 'cam1' (1920×1080) needs 8 slots of 6.2 MB = 49.8 MB" in message
    assert f"{free / 1e6:.1f} MB of {total / 1e6:.1f} MB are free" in message
    assert f"docker run --shm-size={size}," in message
    assert message.endswith(slots)
    assert list(tmp_path.iterdir()) == []


def test_no_directory_for_shared_memory_is_a_clear_error(tmp_path):
    with pytest.raises(RunError, match="no shared memory for source: No such file"):
        Segment(1, 10, "source", tmp_path / "absent")


def test_a_full_file_system_is_an_error_and_no_bus_error(tmp_path):
    """The real call, held by a limit on file sizes."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from streamvis.transport.slots import Segment\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n"
        "Segment(8, 10**6, 'source', Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "source needs 8 slots of 1.0 MB = 8.0 MB" in done.stderr
    assert "ulimit -f" in done.stderr
    assert list(tmp_path.iterdir()) == []


MAKE = """
import sys; from pathlib import Path
from streamvis.transport.slots import Segment
print(Segment(1, 12, "source", Path(sys.argv[1])).slots[0], flush=True)
sys.stdin.read()
"""


def test_the_segment_of_another_process_is_read_and_is_gone_when_it_is_killed(
    read, write, tmp_path
):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", MAKE, tmp_path], **pipes) as process:
        slot = process.stdout.readline().strip()
        write(slot, np.full((2, 2, 3), 7, np.uint8))
        assert (read(frame(slot, 2, 2)) == 7).all()
        process.kill()
    assert list(tmp_path.iterdir()) == []
    read.sweep()
    with pytest.raises(RunError, match="its process has closed it"):
        read(frame(slot, 2, 2))
