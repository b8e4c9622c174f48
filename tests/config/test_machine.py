"""What a run may use of a machine: the least of affinity, quotas and what is there."""

import os

import pytest

from streamvis.config import machine, this_machine
from streamvis.config.machine import gpus, limit_mb, quota, total_mb


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("200000 100000", [2]),
        ("150000 100000", [2]),
        ("50000 100000", [1]),
        ("max 100000", []),
        ("", []),
        ("200000", []),
        ("200000 0", []),
        ("x y z", []),
    ],
)
def test_the_quota_of_a_container_limits_the_cores(text, cores, tmp_path):
    (tmp_path / "cpu.max").write_text(text)
    assert list(quota(tmp_path)) == cores


@pytest.mark.parametrize(("given", "cores"), [("400000", [4]), ("-1", [])])
def test_the_older_files_of_a_container_are_read_too(given, cores, tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(given + "\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert list(quota(tmp_path)) == cores


def test_memory_is_that_of_the_machine_or_of_its_container(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:       16384000 kB\nMemFree: 1 kB\n")
    assert list(total_mb(tmp_path / "meminfo")) == [16000]
    (tmp_path / "memory.max").write_text("2147483648\n")
    assert list(limit_mb(tmp_path)) == [2048]
    (tmp_path / "memory.max").write_text("max\n")
    assert list(limit_mb(tmp_path)) == []
    assert list(total_mb(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("0,1,2", 2)]
)
def test_gpus_are_those_that_are_visible(visible, count, tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus(tmp_path, visible) == count
    assert gpus(tmp_path / "absent", visible) == 0


def test_this_machine_is_the_least_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    assert (this_machine().cores, this_machine().gpus) == (12, 0)
    (tmp_path / "cpu.max").write_text("300000 100000")
    (tmp_path / "memory.max").write_text(str(1 << 30))
    found = this_machine()
    assert (found.cores, found.memory_mb) == (3, 1024)
