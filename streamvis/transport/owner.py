"""File names that identify their process, so that the files of a killed run can be removed.

A name holds the process id and its start time, since ids are reused. The owner also holds a lock
on the file: processes in another container share files, but not process ids.
"""

import fcntl
import os
import re
from pathlib import Path


def owned_name() -> str:
    """Return a new name of this process: streamvis-<pid>-<start>-<random>."""
    pid = os.getpid()
    return f"streamvis-{pid}-{_started(pid)}-{os.urandom(4).hex()}"


def is_abandoned(path: Path) -> bool:
    """Whether the file can be removed: its process is gone, and nobody holds its lock."""
    match = re.fullmatch(r"streamvis-(\d+)-(\d+)-\w+", path.name)
    if match is None or _started(int(match[1])) == int(match[2]):
        return False
    try:
        if path.lstat().st_uid != os.getuid():
            return False
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # another process has removed it
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _started(pid: int) -> int:
    """Return the clock ticks from boot to the start of the process; -1 when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the name may hold spaces
