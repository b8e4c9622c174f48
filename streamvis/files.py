"""Files that are replaced as a whole: what has the name is complete, whatever ends the process."""

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_OVER_S = 3600.0  # a draft that nobody has written to for so long is of a killed process


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Yield the name of a draft beside `path`, a file to be written, which then replaces it.

    No other writer of `path` has the name, so that of two at once each replaces the file with a
    whole one. After an exception the draft is removed, and the file is as it was. Drafts that
    killed processes have left beside it are removed. OSError where the file cannot be replaced.
    """
    _remove_left_over(path)
    draft = path.with_name(f".{path.name}.{secrets.randbelow(10**9)}.tmp")
    try:
        yield draft
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def replace(path: Path, data: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Replace the content of a file, or make the file; OSError leaves it as it was.

    `mode` are the permissions of the file, less the umask. `durable`: wait for the disk, so that
    the file is whole even after a power cut.
    """
    with drafted(path) as draft:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(fd)
    if durable:
        sync(path.parent)


def is_same(path: Path | str, other: Path | str) -> bool:
    """Whether both paths lead to one file or directory that exists."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is no path, or does not exist
        return False


def _remove_left_over(path: Path) -> None:
    """Remove the drafts of this file that are older than LEFT_OVER_S."""
    own = re.compile(rf"\.{re.escape(path.name)}(\.\d+)?\.tmp")
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if own.fullmatch(entry.name) and entry.stat().st_mtime < time.time() - LEFT_OVER_S:
                os.unlink(entry.path)


def sync(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk. OSError without it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's contents as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_open(path: Path, fd: int) -> bool:
    """Whether the name still stands for the open file, and not for none or another one."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except OSError:
        return False
