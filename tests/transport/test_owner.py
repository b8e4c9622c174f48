"""Files of killed processes are told from those of running ones."""

import fcntl
import os
import subprocess
import sys

import pytest

from streamvis.transport.owner import is_abandoned, owned_name


def name_of_an_ended_process():
    script = "from streamvis.transport.owner import owned_name; print(owned_name())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def ended():
    return name_of_an_ended_process()


def test_names_are_new_and_carry_the_process_id():
    names = {owned_name() for _ in range(100)}
    assert len(names) == 100
    assert {name.split("-")[1] for name in names} == {str(os.getpid())}


def test_a_file_of_this_process_is_in_use(tmp_path):
    path = tmp_path / owned_name()
    path.touch()
    assert not is_abandoned(path)


def test_a_file_of_an_ended_process_is_abandoned(tmp_path, ended):
    path = tmp_path / ended
    path.touch()
    assert is_abandoned(path)


def test_a_process_id_that_is_used_again_does_not_keep_the_file(tmp_path):
    path = tmp_path / f"streamvis-{os.getpid()}-1-abcd"  # a process that started at boot
    path.touch()
    assert is_abandoned(path)


def test_a_locked_file_is_in_use_whatever_its_process_id(tmp_path, ended):
    """Its owner may run in another container."""
    path = tmp_path / ended
    path.touch()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not is_abandoned(path)
    assert is_abandoned(path)


@pytest.mark.parametrize("name", ["streamvis-1", "other-1-2-abcd", "streamvis-a-2-abcd", "x"])
def test_a_file_of_another_name_is_left_alone(tmp_path, name):
    (tmp_path / name).touch()
    assert not is_abandoned(tmp_path / name)


def test_a_removed_file_and_a_link_are_left_alone(tmp_path, ended):
    path = tmp_path / ended
    assert not is_abandoned(path)
    path.symlink_to(tmp_path / "target")
    (tmp_path / "target").touch()
    assert not is_abandoned(path)
