"""The output directory of a run, which holds one run and is used by one process at a time.

A run holds a lock on the directory from before its first write to after its last. The kernel
releases it when the process ends, however that happens. Only the owner and the
group can read its files.
"""

import contextlib
import fcntl
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from streamvis.errors import DataError, InUseError, RunError, StreamvisError, UsageError
from streamvis.events.log import FILE_NAME, LogReader
from streamvis.files import is_open
from streamvis.stages.track.mot import write_tracks

OnUsed = Literal["refuse", "overwrite", "resume"]  # for a directory that holds a run

LOCK = ".lock"
MANIFEST = "run.json"
CHECKPOINT = "checkpoint.msgpack"
# what errors call the options: those of the command line, and of the Python library
OUT, RESUME = "--out (out=)", "--resume (on_used='resume')"
OVERWRITE = "--overwrite (on_used='overwrite')"
UMASK = 0o027  # no access for others, no writing for the group

_DRAFT = r"(\.\d+)?(\.tmp)?"
_OF_A_RUN = re.compile(
    rf"\.?events\.(db(-wal|-shm|-journal)?|reserve|snapshot{_DRAFT}|lanes(-journal)?)"
    rf"|\.?(summary|feed|run|sources)\.json{_DRAFT}"
    rf"|\.?checkpoint\.msgpack{_DRAFT}|annotated(\.\d+)?\.mp4|\.?tracks\.txt{_DRAFT}"
)
_OF_NO_EVENT = re.compile(
    r"events\.(db(-wal|-shm)?|reserve|snapshot|lanes)|(summary|feed|run|sources)\.json"
)
_OF_A_SOURCE = re.compile(
    rf"annotated-(?P<film>[a-z0-9_-]+)(\.\d+)?\.mp4|\.?tracks-(?P<tracks>[a-z0-9_-]+)\.txt{_DRAFT}"
)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    sys.stderr.write(f"streamvis: {text}\n")


def make_directory(out: Path) -> None:
    """Create the output directory; RunError when it cannot be written to."""
    try:
        str(out).encode()
        out.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError:
        shown = os.fsencode(out).decode(errors="backslashreplace")
        raise RunError(
            f"{shown}: the name holds bytes that are not UTF-8; choose another {OUT}"
        ) from None
    except FileExistsError:
        raise RunError(
            f"{out} cannot be written to: it is a file; expected a directory, or a new name"
        ) from None
    except OSError as error:
        raise RunError(f"{out} cannot be written to: {error.strerror}") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise RunError(
            f"{out} cannot be written to: it is read-only, or owned by another user; "
            f"choose another {OUT}"
        )


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Create the directory and hold its lock; InUseError names the process that holds it already.

    While it is held, this process and its children create files that others cannot read.
    """
    before = os.umask(0o077)
    os.umask(before | UMASK)
    try:
        make_directory(out)
        fd = _lock(out)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (out / LOCK).unlink()  # while it is held: a waiting process checks the file again
            os.close(fd)
    finally:
        os.umask(before)


def was_killed(out: Path) -> bool:
    """Whether the last run in this directory has died without its end, for example by kill -9.

    It leaves the file of its lock, which nobody holds any more.
    """
    try:
        fd = os.open(out / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # a run removes it at its end
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # it is held, or cannot be
        return False
    finally:
        os.close(fd)
    return True


def _lock(out: Path) -> int:
    path = out / LOCK
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as error:
            raise RunError(f"{path} cannot be opened: {error.strerror}") from None
        try:
            _hold(fd, out)
            if is_open(path, fd):
                with contextlib.suppress(
                    OSError
                ):  # a full disk: the lock is held, without the name of its holder
                    os.ftruncate(fd, 0)
                    os.write(fd, json.dumps(_ourselves()).encode())
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its holder has removed it in the meantime: try again


def _hold(fd: int, out: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUseError(
            f"{out}: another run writes here, {_holder(fd)}. Wait for it, stop it, or choose "
            f"another {OUT}"
        ) from None
    except OSError as error:  # a file system without locks
        warn(
            f"{out} cannot be locked ({error.strerror}): a second run could write here at the "
            "same time"
        )


def _ourselves() -> dict[str, Any]:
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(fd: int) -> str:
    try:
        held = json.loads(os.pread(fd, 4096, 0))
        return f"process {held['pid']} on {held['host']} since {held['since']}"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"


def run_files(out: Path) -> list[Path]:
    """List the files that runs have written in the directory.

    Files with other names, or of sources that no run here had, are not counted.
    """
    sources = _sources(out)
    return sorted(
        path for path in out.iterdir() if path.is_file() and _is_of_run(path.name, sources)
    )


def _is_of_run(name: str, sources: set[str]) -> bool:
    if _OF_A_RUN.fullmatch(name):
        return True
    match = _OF_A_SOURCE.fullmatch(name)
    return match is not None and (match["film"] or match["tracks"]) in sources


def _sources(out: Path) -> set[str]:
    """Collect the ids of the sources of the runs in the directory, as far as they can be read."""
    found: set[str] = set()
    for name in (MANIFEST, "summary.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            found |= {source["id"] for source in json.loads((out / name).read_bytes())["sources"]}
    with contextlib.suppress(DataError), LogReader(out / FILE_NAME) as reader:
        found |= set(reader.cursors())
    return found


def refuse_used(out: Path) -> None:
    """Raise UsageError when the directory holds files of a run.

    Those of a run that ended before its first event, such as by a wrong address, are removed.
    """
    if _is_of_no_event(out):
        remove_run(out)
    if found := run_files(out):
        names = ", ".join(path.name for path in found[:4]) + (", …" if len(found) > 4 else "")
        raise UsageError(
            f"{out} holds a run already ({names}). Resume an unfinished one with {RESUME}, "
            f"replace it with {OVERWRITE}, or choose another {OUT}"
        )


def _is_of_no_event(out: Path) -> bool:
    """Whether the run in the directory has logged nothing, not even that a source was opened."""
    if not all(_OF_NO_EVENT.fullmatch(path.name) for path in run_files(out)):
        return False
    if not (out / FILE_NAME).exists():
        return _ended_early(out)
    try:
        with LogReader(out / FILE_NAME) as log:
            return not log.cursors()
    except DataError:
        return False


def _ended_early(out: Path) -> bool:
    """Whether the run in the directory failed or was interrupted before a stage had run."""
    try:
        summary = json.loads((out / "summary.json").read_bytes())
        frames = sum(stage["count"] for stage in summary["stages"])
        return frames == 0 and bool(summary["error"] or summary["interrupted"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def remove_run(out: Path) -> None:
    """Remove the files of runs in the directory, and no others."""
    for path in run_files(out):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be removed: {error.strerror}") from None


@contextlib.contextmanager
def exported(out: Path) -> Iterator[None]:
    """Export `tracks.txt` when a run has ended, also when it has failed."""
    try:
        yield
    except StreamvisError:
        with contextlib.suppress(StreamvisError):
            _export(out)
        raise
    _export(out)


def _export(out: Path) -> None:
    if (out / FILE_NAME).exists():
        write_tracks(out / FILE_NAME, out)
