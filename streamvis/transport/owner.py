"""Names that tell whose a file is, so that what a killed run left behind can be swept.

A name carries the process id and when that process started, since ids are used again. The owner
also holds a lock on the file: processes of another container share files, but not ids.
"""

import fcntl
import os
import re
from pathlib import Path


def owned_name() -> str:
    """A new name of this process: streamvis-<pid>-<start>-<random>."""
    pid = os.getpid()
    return f"streamvis-{pid}-{_started(pid)}-{os.urandom(4).hex()}"


def is_abandoned(path: Path) -> bool:
    """Whether the file of that name is ours to remove: its owner is dead and it is not locked."""
    match = re.fullmatch(r"streamvis-(\d+)-(\d+)-\w+", path.name)
    if match is None or _started(int(match[1])) == int(match[2]):
        return False
    try:
        if path.lstat().st_uid != os.getuid():
            return False
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # somebody else was quicker
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _started(pid: int) -> int:
    """Clock ticks from boot to the start of the process; -1 when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the name may hold spaces
