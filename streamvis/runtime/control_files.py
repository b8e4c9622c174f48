"""The files by which the control socket of a run is found: `<pid>.json` beside `<pid>.sock`.

They lie in a directory of the user that nobody else can enter. The run holds a lock on its file,
which the kernel releases however the run ends: a file without a lock is of a run that is gone.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import msgspec

from streamvis.errors import RunError
from streamvis.transport.sockets import LONGEST_HOME, temporary_root

IN_OUT = "control.json"  # in the output directory of the run
_NAME = re.compile(r"\d+(-\d+)?\.(json|sock)")


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is under way, and where it can be reached."""

    version: int = 1
    pid: int
    socket: str  # path
    started: str  # ISO 8601, UTC
    out: str | None = None
    pipeline: str = ""
    sources: str | None = None  # the sources file

    @property
    def path(self) -> Path:
        """The file in the private directory that describes this run."""
        return Path(self.socket).with_suffix(".json")

    def describe(self) -> str:
        """Name the run in a line for people."""
        parts = [f"process {self.pid}", f"since {self.started}"]
        parts += [f"pipeline {self.pipeline}"] if self.pipeline else []
        return ", ".join([*parts, f"--out {self.out}" if self.out else "without --out"])


def directories() -> list[Path]:
    """List where control sockets of this user may be, the place for new ones first.

    A service has another environment than a shell, so that the usual places are included.
    """
    uid = os.getuid()
    bases = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}"]
    named = [Path(base) / "streamvis" for base in bases if base and _is_usable(Path(base))]
    home = temporary_root()
    homes = [home, Path("/tmp")] if len(str(home)) <= LONGEST_HOME else [Path("/tmp")]
    return list(dict.fromkeys([*named, *(base / f"streamvis-{uid}" for base in homes)]))


def make_directory() -> Path:
    """Create the private directory; RunError when another user may write into it."""
    path = directories()[0]
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{path}: the directory for control sockets cannot be created: {error.strerror}. "
            "Set XDG_RUNTIME_DIR to a directory that belongs to you"
        ) from None
    check_private(path)
    return path


def check_private(path: Path, *, by_root: bool = False) -> None:
    """Raise RunError unless it is a directory of this user that nobody else can enter.

    A client of root may reach the runs of other users; a run of root uses no directory of theirs.
    """
    try:
        found = path.lstat()
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from None
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        wrong, remedy = "is no directory", "Remove it"
    elif found.st_uid != os.getuid() and not (by_root and os.getuid() == 0):
        wrong = f"belongs to user {found.st_uid}, not to you, user {os.getuid()}"
        remedy = "Become that user, or set XDG_RUNTIME_DIR to a directory of yours"
    elif mode & 0o077:
        wrong = f"can be entered by other users (mode {mode:03o}, expected 700)"
        remedy = f"See who has put something there, then chmod 700 {path}"
    else:
        return
    raise RunError(f"{path}, the directory of control sockets, {wrong}. {remedy}")


@contextlib.contextmanager
def registered(
    out: Path | None = None, pipeline: str = "", sources: Path | None = None
) -> Iterator[RunFile]:
    """Write the files of this run, and remove them at the end, with those of dead runs."""
    home = make_directory()
    with _held(home):
        _sweep(home)
        fd, path = _create(home)
    try:
        run = RunFile(
            pid=os.getpid(),
            socket=str(path.with_suffix(".sock")),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            out=str(out.absolute()) if out is not None else None,
            pipeline=pipeline,
            sources=str(sources.absolute()) if sources is not None else None,
        )
        data = msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n"
        _write(fd, data, path)
        with _in_out(out, data):
            yield run
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".sock").unlink(missing_ok=True)
        os.close(fd)


def living_runs() -> list[RunFile]:
    """List the runs of this user that are under way, the oldest first."""
    found = {}
    for home in directories():
        with contextlib.suppress(RunError):  # there is none, or it is not ours
            check_private(home, by_root=True)
            for path in home.glob("*.json"):
                if _is_held(path) and (run := read(path)) is not None:
                    found[run.socket] = run
    return sorted(found.values(), key=lambda run: (run.started, run.pid))


def is_living(run: RunFile) -> bool:
    """Whether the run that a file describes is under way."""
    return _is_held(run.path)


def read(path: Path) -> RunFile | None:
    """Read a description; None where there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunFile)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None


def _is_usable(base: Path) -> bool:
    """Whether it is ours, as it is not after `sudo -E`, and short enough for a socket."""
    try:
        return len(str(base)) <= LONGEST_HOME and base.stat().st_uid == os.getuid()
    except OSError:
        return False


def _create(home: Path) -> tuple[int, Path]:
    """Create and lock the first free of <pid>.json, <pid>-2.json, …"""
    pid = os.getpid()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    names = (f"{pid}-{number}.json" for number in count(2))
    path = home / f"{pid}.json"
    while path.exists():  # of another run in this process, or in another container
        path = home / next(names)
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise RunError(f"{path} cannot be created: {error.strerror}") from None
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd, path


def _write(fd: int, data: bytes, path: Path) -> None:
    try:
        os.write(fd, data)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _in_out(out: Path | None, data: bytes) -> Iterator[None]:
    """Name the socket in the output directory too; a full disk does not end the run."""
    if out is None:
        yield
        return
    path = out / IN_OUT
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)  # it may be a link
        path.write_bytes(data)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _held(home: Path) -> Iterator[None]:
    fd = os.open(home, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sweep(home: Path) -> None:
    """Remove the files of runs that are gone; nothing else that may be there."""
    for path in home.iterdir():
        if _NAME.fullmatch(path.name) and not _is_held(path.with_suffix(".json")):
            with contextlib.suppress(OSError):
                path.unlink()


def _is_held(path: Path) -> bool:
    """Whether a run holds the lock on its file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
