"""What processes and disks of a run use, as the kernel reports it."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

TICKS = os.sysconf("SC_CLK_TCK")


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The resources of one process."""

    resident_bytes: int  # shared memory included, once for each process that maps it
    open_fds: int
    threads: int
    cpu_s: float


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The file system of a directory."""

    free_bytes: int  # for this user
    size_bytes: int


def usage_of(pid: int) -> Usage | None:
    """Return what this process or a child of it uses; None when it is gone."""
    home = Path(f"/proc/{pid}")
    try:
        status = _fields((home / "status").read_text())
        times = (home / "stat").read_text().rpartition(")")[2].split()
        fds = len(os.listdir(home / "fd"))
        if os.getpid() not in (pid, int(status["PPid"])):  # another process has the number now
            return None
        return Usage(
            resident_bytes=int(status["VmRSS"].split()[0]) * 1024,
            open_fds=fds,
            threads=int(status["Threads"]),
            cpu_s=(int(times[11]) + int(times[12])) / TICKS,  # utime and stime of proc(5)
        )
    except (OSError, KeyError):  # it has exited: without memory it has no VmRSS
        return None


def disk_of(path: Path) -> Disk | None:
    """Return the size and the free space of the directory's file system; None without it."""
    with suppress(OSError):
        found = os.statvfs(path)
        return Disk(
            free_bytes=found.f_bavail * found.f_frsize, size_bytes=found.f_blocks * found.f_frsize
        )
    return None


def _fields(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
