"""What a placement may use of this machine: cores, memory, GPUs. Found without importing torch."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

PLENTY_MB = 1 << 30  # where memory is not known
CGROUPS = Path("/sys/fs/cgroup")
QUOTA_1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
MEMORY = Path("/proc/meminfo")
DEVICES = Path("/dev")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a machine that a run may use."""

    cores: int
    memory_mb: int = PLENTY_MB  # that it may use at most
    gpus: int = 0  # of NVIDIA


def this_machine() -> Machine:
    """Return what this process may use: its cores by affinity and by the quota of its container."""
    return Machine(
        cores=min([len(os.sched_getaffinity(0)), *quota(CGROUPS)]),
        memory_mb=min([PLENTY_MB, *total_mb(MEMORY), *limit_mb(CGROUPS)]),
        gpus=gpus(DEVICES, os.environ.get("CUDA_VISIBLE_DEVICES")),
    )


def quota(groups: Path) -> Iterator[int]:
    """Yield the cores that a container may keep busy, if they are limited (cgroups 2 and 1)."""
    given = (_words(groups / "cpu.max"), [_words(groups / name)[0] for name in QUOTA_1])
    for value, period in given:
        if value.isdecimal() and period.isdecimal() and int(period):
            yield max(1, round(int(value) / int(period)))


def limit_mb(groups: Path) -> Iterator[int]:
    """Yield the memory that a container may use, if it is limited (cgroups 2 and 1)."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        value, _ = _words(groups / name)
        if value.isdecimal():
            yield int(value) >> 20


def total_mb(path: Path) -> Iterator[int]:
    """Yield the memory of the machine, from /proc/meminfo."""
    for line in _text(path).splitlines():
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) >> 10


def gpus(devices: Path, visible: str | None) -> int:
    """Count the GPUs that `CUDA_VISIBLE_DEVICES` leaves; torch may not know them."""
    there = sum(1 for _ in devices.glob("nvidia[0-9]*"))
    if visible is None:
        return there
    named = [one.strip() for one in visible.split(",")]
    return min(there, sum(bool(one) and one != "-1" for one in named))


def _words(path: Path) -> list[str]:
    return [*_text(path).split(), "", ""][:2]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
