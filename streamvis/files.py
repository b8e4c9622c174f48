"""Files that are replaced as a whole: what has the name is complete, whatever ends the process."""

import os
from contextlib import suppress
from pathlib import Path


def replace(path: Path, data: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Replace the content of a file, or make the file; OSError leaves it as it was.

    `mode` are the permissions of the file, less the umask. `durable`: wait for the disk, so that
    the file is whole even after a power cut.
    """
    draft = path.with_name(f".{path.name}.tmp")
    try:
        draft.unlink(missing_ok=True)  # of a process that was killed
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(fd)
        draft.replace(path)
        if durable:
            sync(path.parent)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk. OSError without it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_open(path: Path, fd: int) -> bool:
    """Whether the name still stands for the open file, and not for none or another one."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except OSError:
        return False
