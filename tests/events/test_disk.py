"""When a disk is low, and the reserve for when it is full."""

import shutil
from collections import namedtuple

import pytest

from streamvis.events import disk
from streamvis.events.disk import CHECK_S, RESERVE_BYTES, DiskWatch, Reserve, low_limit

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """The free bytes of a disk of 10 GB; None: it cannot be asked."""
    bytes_ = {"now": 5e9}

    def usage(path):
        if bytes_["now"] is None:
            raise FileNotFoundError(path)
        return Usage(10_000_000_000, 0, int(bytes_["now"]))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return bytes_


@pytest.mark.parametrize(("total", "limit"), [(20e6, 1e6), (10e9, 0.5e9), (20e9, 1e9), (4e12, 1e9)])
def test_the_limit_is_one_gigabyte_or_a_twentieth(total, limit):
    assert low_limit(int(total)) == limit


def test_a_disk_is_low_until_clearly_more_is_free(tmp_path, free):
    clock = iter(range(0, 1000, 10))
    watch = DiskWatch(tmp_path, now=lambda: next(clock))
    told = []
    for free["now"] in (0.6e9, 0.49e9, 0.55e9, 0.49e9, None, 0.61e9, 0.55e9, 0.4e9):
        if watch.changed():
            told.append((watch.low, watch.free_bytes / 1e9))
    assert told == [(True, 0.49), (False, 0.61), (True, 0.4)]


def test_a_disk_is_looked_at_now_and_then(tmp_path, free):
    now = [0.0]
    watch = DiskWatch(tmp_path, now=lambda: now[0])
    assert not watch.changed()
    free["now"] = 0
    assert not watch.changed()
    now[0] = CHECK_S
    assert watch.changed()


def test_a_successor_knows_that_the_disk_is_low(tmp_path, free):
    free["now"] = 0
    assert not DiskWatch(tmp_path, low=True).changed()


def test_a_reserve_takes_its_space_and_gives_it_back(tmp_path):
    reserve = Reserve(tmp_path)
    assert reserve.make()
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == RESERVE_BYTES
    assert file.stat().st_blocks * 512 >= RESERVE_BYTES
    assert Reserve(tmp_path).make()  # of a successor
    reserve.release()
    reserve.release()
    assert not list(tmp_path.iterdir())


def test_a_reserve_does_not_take_the_last_space(tmp_path, free):
    free["now"] = 2 * RESERVE_BYTES - 1
    assert not Reserve(tmp_path).make()
    assert not list(tmp_path.iterdir())
    assert disk.RESERVE_FILE == "events.reserve"
