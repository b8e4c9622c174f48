"""Files that are replaced as a whole."""

import os
import resource
import stat
import time
from contextlib import contextmanager

import pytest

from streamvis.files import LEFT_OVER_S, drafted, is_open, is_same, replace, sha256_of


@contextmanager
def longest_file(size):
    """As on a disk with room for so many bytes: the write that ends there is a short one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_two_paths_of_one_file_are_the_same(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert is_same(tmp_path / "a", tmp_path / "link")
    assert is_same(tmp_path, tmp_path / "x" / "..") is False  # x does not exist
    assert not is_same(tmp_path / "a", tmp_path / "b")
    assert not is_same(tmp_path / "absent", tmp_path / "absent")
    assert not is_same(tmp_path / "a", "rtsp://camera/\0")


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_with_its_mode_and_leaves_nothing_beside_it(tmp_path, durable):
    path = tmp_path / "a.json"
    path.write_text("before")
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


def test_of_two_writers_at_once_each_replaces_the_file_with_a_whole_one(tmp_path, monkeypatch):
    path, flush = tmp_path / "a.json", os.fsync
    seen = []

    def the_other_one_first(fd):
        monkeypatch.setattr(os, "fsync", flush)
        replace(path, b"of the other one")
        seen.append(path.read_bytes())
        flush(fd)

    monkeypatch.setattr(os, "fsync", the_other_one_first)
    replace(path, b"ours")
    assert [*seen, path.read_bytes()] == [b"of the other one", b"ours"]
    assert os.listdir(tmp_path) == ["a.json"]


def test_drafts_of_killed_processes_are_removed_and_others_stay(tmp_path):
    old = time.time() - LEFT_OVER_S - 1
    for name, at in {
        ".a.json.tmp": old,
        ".a.json.123.tmp": old,
        ".a.json.45.tmp": old + 60,  # its process may write to it yet
        ".b.a.json.6.tmp": old,
        ".a.json.d.tmp": old,
        "a.json.7.tmp": old,
    }.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    replace(tmp_path / "a.json", b"x")
    left = {".a.json.45.tmp", ".b.a.json.6.tmp", ".a.json.d.tmp", "a.json.7.tmp", "a.json"}
    assert set(os.listdir(tmp_path)) == left


def test_a_draft_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")

    def write_half():
        with drafted(path) as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
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


def test_the_digest_of_a_file_is_that_of_its_contents(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_of(path).startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")
