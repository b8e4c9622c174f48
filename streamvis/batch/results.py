"""What became of the files of a batch: `batch.json`, the table at the end, the exit code."""

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
from streamvis.cli.output import INTERRUPTED, put, put_table
from streamvis.errors import DataError, RunError, StreamvisError
from streamvis.runtime.output import run_files

PARTIAL = 5
NOT_BEGUN = "not begun"
FILE_NAME = "batch.json"
WRITE_S = (
    1.0  # batch.json is written no more often, so thousands of files that are skipped are quick
)
KEY = re.compile(r".+-([0-9a-f]{12})")  # names of directories end in what identifies the recording

State = Literal["done", "incomplete", "skipped", "refused", "failed", "interrupted"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file: a row of the table, and an entry of `batch.json`.

    `incomplete` are files that hold fewer frames than they promise: all there are were processed.
    """

    file: str  # as it was given
    state: State
    why: str = ""
    directory: str = ""  # in --out; empty when it came to none
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


class Left(msgspec.Struct, frozen=True):
    """What earlier runs have left in a directory."""

    state: Literal["nothing", "done", "unfinished", "failed"]
    frames: int = 0
    frames_promised: int | None = None


def left_in(directory: Path, pipeline: str) -> Left:
    """How far a run of the pipeline with this hash has come there."""
    try:
        summary = json.loads((directory / "summary.json").read_bytes())
        (source,) = summary["sources"]
        if summary["error"]:
            return Left("failed", *frames_of(source))
        whole = summary["pipeline"] == pipeline and source["ending"] == "eof"
        return Left("done" if whole else "unfinished", *frames_of(source))
    except (OSError, ValueError, KeyError, TypeError):
        there = directory.is_dir() and run_files(directory)
        return Left("unfinished" if there else "nothing")


def frames_of(source: Any) -> tuple[int, int | None]:
    """Frames processed, and those promised when these are more than were decoded."""
    promised = source.get("frames_promised")
    return source["admitted"], promised if promised and promised > source["decoded"] else None


class Index:
    """`batch.json` of a directory: what became of each file, over all batches into it."""

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
        """The directory with this key, whatever name the recording had then."""
        return self._directories.get(key)

    def why_done(self, result: Result) -> str:
        """Why it need not be processed."""
        earlier = self._by_directory.get(result.directory, [])
        named = not earlier or any(entry.path == result.path for entry in earlier)
        name = "" if named else f" as {earlier[-1].file}"
        why = f"done before{name}: content and pipeline are the same"
        old = next((e.streamvis for e in earlier if e.streamvis != result.streamvis), "")
        return f"{why}; by streamvis {old}" if old else why

    def others(self, result: Result) -> str:
        """What is there already of its content or its name, and is something else."""
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
        """Note what became of a file; what was refused or not begun leaves what is noted."""
        if result.state == "refused" or result.why == NOT_BEGUN:
            return
        self._new[result.path, result.directory] = result
        if time.monotonic() - self._written_at > WRITE_S:
            with contextlib.suppress(StreamvisError):  # said at the end
                self.write()

    def write(self) -> None:
        """Write `batch.json`, with what other batches have noted meanwhile; whole or not at all."""
        with _exclusive(self.path.parent):
            entries = _read(self.path)
            for key, entry in self._new.items():
                entries[key] = _noted(entry, entries.get(key))
            placed = {path for path, directory in entries if directory}
            kept = [e for _, e in sorted(entries.items()) if e.directory or e.path not in placed]
            _write(self.path, kept)
        self._new.clear()  # what others note from now on is later
        self._written_at = time.monotonic()


def _noted(result: Result, earlier: Result | None) -> Result:
    """The entry of a file: one that was skipped is what it was."""
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
    """Keys and names of the directories of recordings."""
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
    except msgspec.DecodeError as error:
        raise DataError(
            f"{path} is not what a batch writes: {error}. Move it away; directories are found again"
        ) from None
    return {(entry.path, entry.directory): entry for entry in files}


def _write(path: Path, entries: list[Result]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        with open(fd, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(entries)), indent=1) + b"\n")
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Keep other batches from the directory's list; where nothing can be locked, hope."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def exit_code(results: Sequence[Result]) -> int:
    """0 when all is done, 130 when interrupted, 5 when some files failed or were refused."""
    states = {result.state for result in results}
    return INTERRUPTED if "interrupted" in states else PARTIAL if states & _MISSED else 0


_MISSED = {"failed", "refused"}


def totals(results: Sequence[Result]) -> dict[str, int]:
    """How many files came to each state, in the order of the states."""
    counts = Counter(result.state for result in results)
    return {state: counts[state] for state in State.__args__ if counts[state]}  # type: ignore[attr-defined]


def put_results(results: Sequence[Result], out: Path) -> None:
    """The table for people, and a line of totals."""
    rows = [
        (
            printable(r.file),
            r.state,
            f"{r.frames} of {r.frames_promised}" if r.frames_promised else str(r.frames),
            f"{r.seconds:.1f}" if r.seconds else "-",
            r.directory or "-",
            printable(r.why),
        )
        for r in results
    ]
    put_table(f"in {out}", ("file", "state", "frames", "seconds", "directory", "why"), rows)
    counts = ", ".join(f"{count} {state}" for state, count in totals(results).items())
    put(f"{len(results)} file{'s' * (len(results) != 1)}: {counts}")


def told(result: Result) -> str:
    """A result as a line for the person at the terminal."""
    frames = f", {result.frames} frames in {result.seconds:.1f} s" if result.frames else ""
    where = f", in {result.directory}" if result.frames else ""
    why = f": {result.why}" if result.why else ""
    return printable(f"{result.file}: {result.state}{frames}{where}{why}")


def printable(text: str) -> str:
    """The text on one line: control characters and line breaks as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
