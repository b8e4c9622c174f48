"""Files that are replaced as a whole."""

import os
import resource
import stat
from contextlib import contextmanager

import pytest

from streamvis.files import is_open, replace


@contextmanager
def longest_file(size):
    """As on a disk with room for so many bytes: the write that ends there is a short one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_with_its_mode_and_leaves_nothing_beside_it(tmp_path, durable):
    path = tmp_path / "a.json"
    path.write_text("before")
    (tmp_path / ".a.json.tmp").write_text("of a process that was killed")
    replace(path, b"after", mode=0o600, durable=durable)
    assert path.read_bytes() == b"after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, durable):
    path = tmp_path / "a.json"
    path.write_text("before")
    with longest_file(10), pytest.raises(OSError, match="too large"):
        replace(path, b"of more than ten bytes", durable=durable)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.json"]


def test_without_a_directory_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "none" / "a.json", b"x")


def test_a_name_that_stands_for_another_file_is_not_that_of_the_open_one(tmp_path):
    path = tmp_path / "a.json"
    with path.open("w") as file:
        assert is_open(path, file.fileno())
        replace(path, b"after")
        assert not is_open(path, file.fileno())
        path.unlink()
        assert not is_open(path, file.fileno())
