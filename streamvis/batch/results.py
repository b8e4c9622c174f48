"""The result of each file of a batch, and `batch.json`, which lists them over all batches."""

import contextlib
import fcntl
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

import streamvis
from streamvis.errors import DataError, RunError, StreamvisError
from streamvis.files import replace
from streamvis.runtime.output import run_files

NOT_BEGUN = "not begun"
FILE_NAME = "batch.json"
WRITE_S = 1.0  # least time between two writes: thousands of skipped files take seconds, not minutes
KEY = re.compile(r".+-([0-9a-f]{12})")  # names of directories end in the key of the recording

State = Literal["done", "incomplete", "skipped", "refused", "failed", "interrupted"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one file, and its entry in `batch.json`.

    `incomplete` means that the file holds fewer frames than it promises; all it holds were
    processed.
    """

    file: str  # as on the command line
    state: State
    why: str = ""
    directory: str = ""  # in --out; empty without one
    source: str = ""  # its id in events
    frames: int = 0
    frames_promised: int | None = None  # by the file, when it holds fewer
    seconds: float = 0.0
    path: str = ""  # absolute
    size: int = 0
    mtime_ns: int = 0
    digest: str = ""  # of the content
    pipeline: str = ""  # hash
    streamvis: str = streamvis.__version__


class EarlierRun(msgspec.Struct, frozen=True):
    """The state in which an earlier run has left a directory."""

    state: Literal["nothing", "done", "unfinished", "failed"]
    frames: int = 0
    frames_promised: int | None = None


def earlier_run(directory: Path, pipeline: str) -> EarlierRun:
    """Return how far a run of the pipeline with this hash has come in this directory."""
    try:
        summary = json.loads((directory / "summary.json").read_bytes())
        (source,) = summary["sources"]
        if summary["error"]:
            return EarlierRun("failed", *frames_of(source))
        whole = summary["pipeline"] == pipeline and source["ending"] == "eof"
        return EarlierRun("done" if whole else "unfinished", *frames_of(source))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        there = directory.is_dir() and run_files(directory)
        return EarlierRun("unfinished" if there else "nothing")


def frames_of(source: Any) -> tuple[int, int | None]:
    """Return the processed frames, and the promised ones where fewer were decoded."""
    promised = source.get("frames_promised")
    return source["admitted"], promised if promised and promised > source["decoded"] else None


class Index:
    """`batch.json` of a directory: the result of each file, over all batches into it."""

    def __init__(self, out: Path) -> None:
        self.path = out / FILE_NAME
        self._new: dict[tuple[str, str], Result] = {}
        self._written_at = 0.0
        self._directories = dict(_directories(out))
        earlier = [entry for entry in _read(self.path).values() if entry.directory]
        self._by_directory = _grouped((entry.directory, entry) for entry in earlier)
        self._by_content = _grouped((entry.digest, entry) for entry in earlier)
        self._by_path = _grouped((entry.path, entry) for entry in earlier)

    def directory(self, key: str) -> str | None:
        """Return the directory with this key, whatever the recording was called before."""
        return self._directories.get(key)

    def why_done(self, result: Result) -> str:
        """Return the reason why the file is skipped."""
        earlier = self._by_directory.get(result.directory, [])
        named = not earlier or any(entry.path == result.path for entry in earlier)
        name = "" if named else f" as {earlier[-1].file}"
        why = f"done before{name}: content and pipeline are the same"
        old = next((e.streamvis for e in earlier if e.streamvis != result.streamvis), "")
        return f"{why}; by streamvis {old}" if old else why

    def others(self, result: Result) -> str:
        """Return a note about an earlier result of the same content or the same path, or ""."""
        for entry in self._by_content.get(result.digest, []):
            if entry.directory != result.directory:
                settings = entry.pipeline == result.pipeline
                what = "source settings or weights" if settings else f"pipeline {entry.pipeline}"
                return f"with other {what} it is in {entry.directory}"
        for entry in self._by_path.get(result.path, []):
            if entry.digest != result.digest:
                return f"another recording of this name is in {entry.directory}"
        return ""

    def add(self, result: Result) -> None:
        """Record a result; one that was refused or not begun leaves the earlier entry."""
        if result.state == "refused" or result.why == NOT_BEGUN:
            return
        self._new[result.path, result.directory] = result
        if time.monotonic() - self._written_at > WRITE_S:
            with contextlib.suppress(StreamvisError):  # reported at the end of the batch
                self.write()

    def write(self) -> None:
        """Write `batch.json` atomically, with the entries that other batches have added since."""
        with _exclusive(self.path.parent):
            entries = _read(self.path)
            for key, entry in self._new.items():
                entries[key] = _merged(entry, entries.get(key))
            placed = {path for path, directory in entries if directory}
            kept = [e for _, e in sorted(entries.items()) if e.directory or e.path not in placed]
            _write(self.path, kept)
        self._new.clear()  # entries that others add from now on are newer
        self._written_at = time.monotonic()


def _merged(result: Result, earlier: Result | None) -> Result:
    """The new entry of a file; a skipped file keeps its earlier one."""
    if result.state != "skipped" or not result.frames:
        return result
    if earlier is not None and earlier.state in {"done", "incomplete"}:
        return earlier
    state: State = "incomplete" if result.frames_promised else "done"
    return msgspec.structs.replace(result, state=state)


class _File(msgspec.Struct):
    """`batch.json`."""

    files: list[Result]


def _grouped(pairs: Iterable[tuple[str, Result]]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for key, entry in pairs:
        groups.setdefault(key, []).append(entry)
    return groups


def _directories(out: Path) -> Iterator[tuple[str, str]]:
    """Yield the key and the name of each directory of a recording."""
    try:
        with os.scandir(out) as entries:
            for entry in entries:
                if (match := KEY.fullmatch(entry.name)) and entry.is_dir():
                    yield match[1], entry.name
    except OSError as error:
        raise RunError(f"{out} cannot be read: {error.strerror}") from None


def _read(path: Path) -> dict[tuple[str, str], Result]:
    try:
        files = msgspec.json.decode(path.read_bytes(), type=_File).files
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a list of results that a batch has written: {error}. Move it away: "
            "a batch finds the directories again by their names"
        ) from None
    return {(entry.path, entry.directory): entry for entry in files}


def _write(path: Path, entries: list[Result]) -> None:
    data = msgspec.json.format(msgspec.json.encode(_File(entries)), indent=1) + b"\n"
    try:
        replace(path, data, mode=0o640)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Lock the directory's list against other batches, where the file system can lock."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def totals(results: Sequence[Result]) -> dict[str, int]:
    """Count the files in each state, in the order of the states."""
    counts = Counter(result.state for result in results)
    return {state: counts[state] for state in State.__args__ if counts[state]}  # type: ignore[attr-defined]


def line_of(result: Result) -> str:
    """Return the result in one line."""
    plural = "s" * (result.frames != 1)
    frames = f", {result.frames} frame{plural} in {result.seconds:.1f} s" if result.frames else ""
    where = f", in {result.directory}" if result.frames else ""
    why = f": {result.why}" if result.why else ""
    return printable(f"{result.file}: {result.state}{frames}{where}{why}")


def printable(text: str) -> str:
    """Return the text on one line: control characters and line breaks as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
