"""What processes and disks of a run use, as the kernel reports it."""

import os
from collections.abc import Mapping
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


def usage_of(pid: int, hub: int | None = None) -> Usage | None:
    """Return what the hub or a child of it uses; None when it is gone.

    Without `hub`, this process is the hub.
    """
    home = Path(f"/proc/{pid}")
    hub = os.getpid() if hub is None else hub
    try:
        status = _fields((home / "status").read_text())
        times = (home / "stat").read_text().rpartition(")")[2].split()
        fds = len(os.listdir(home / "fd"))
        if hub not in (pid, int(status["PPid"])):  # another process has the number now
            return None
        return Usage(
            resident_bytes=int(status["VmRSS"].split()[0]) * 1024,
            open_fds=fds,
            threads=int(status["Threads"]),
            cpu_s=(int(times[11]) + int(times[12])) / TICKS,  # utime and stime of proc(5)
        )
    except (OSError, KeyError):  # it has exited: without memory it has no VmRSS
        return None


def usages_of(processes: Mapping[str, int], hub: int | None = None) -> dict[str, Usage]:
    """Return what the processes of a run use, by name: its hub, and those of `Status.processes`.

    A process that has just ended is left out. Without `hub`, this process is the hub.
    """
    own = hub is None
    hub = os.getpid() if hub is None else hub
    children = {
        name: usage for name, pid in processes.items() if (usage := usage_of(pid, hub)) is not None
    }
    if processes and not children and not own:  # the hub counts in another namespace of processes
        return {}
    usage = usage_of(hub, hub)
    return children if usage is None else {"hub": usage, **children}


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
