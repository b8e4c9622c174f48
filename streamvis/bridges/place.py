"""The place of a bridge in the log, in a file that belongs to one process at a time.

The file lies beside the log and not in it: the log has one writer, the publisher, which would have
to wait for the transactions of a second one. It is replaced as a whole, after what it stands for
was delivered: after a kill -9 at any instruction, what came after the last replacement is delivered
again, and nothing is left out.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from streamvis.errors import DataError, InUseError, RunError
from streamvis.events.log import Row
from streamvis.files import replace

VERSION = 1
MODE = 0o640


class Place(msgspec.Struct, frozen=True):
    """The last event that was delivered."""

    number: int = 0  # in order of commit; 0: none was
    digest: str = ""  # of the event: another log has another event of this number


class BridgeProgress(msgspec.Struct, frozen=True):
    """How far a bridge has come: the content of its file."""

    place: Place = Place()
    state: msgspec.Raw = msgspec.Raw(b"null")  # of its mapping, after the event at `place`
    version: int = VERSION


def digest_of(row: Row) -> str:
    """Return what distinguishes the event from all others."""
    return blake2b(row.payload, digest_size=12).hexdigest()


class ProgressFile:
    """Loads and stores the progress of one bridge."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> BridgeProgress | None:
        """Return what was stored last, None before that. DataError for another content."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}") from None
        try:
            progress = msgspec.json.decode(data, type=BridgeProgress)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(
                f"{self.path} is not the progress of a bridge: {error}; delete it to deliver the "
                "whole log again"
            ) from None
        if progress.version > VERSION:
            raise DataError(
                f"{self.path} is of version {progress.version}, this streamvis reads up to "
                f"{VERSION}; use the version that wrote it, or a newer one"
            )
        return progress

    def store(self, progress: BridgeProgress) -> None:
        """Replace the content, also across a power cut. OSError when the disk is full."""
        replace(self.path, msgspec.json.encode(progress), mode=MODE)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the file for this process. InUseError when another one does."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        except OSError as error:
            raise RunError(
                f"{lock} cannot be written: {error.strerror}; name a directory for it by --state"
            ) from None
        try:
            with suppress(OSError):  # a file system without locks
                self._hold(fd)
            yield
        finally:
            os.close(fd)

    def _hold(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(
                f"{self.path}: another bridge delivers from there; stop it, or give this one "
                "another --name"
            ) from None
