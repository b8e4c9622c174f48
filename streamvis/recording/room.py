"""Room on the disk: which recordings are deleted, and when.

    keeper = RoomKeeper(out)
    room = keeper.make_room({"cam1": settings})  # about every ten seconds

Only files with the names of recordings, in the folders of recordings, are ever touched: not the
event log, and nothing that others have put there. A file that may still be written stays.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from streamvis.recording.mp4 import FLOOR_BYTES
from streamvis.recording.names import CLIPS, SEGMENTS, time_of
from streamvis.recording.picture_times import ENDING
from streamvis.recording.settings import Clips, Recording, Segments

DAY_S = 86_400.0
GB = 1_000_000_000
WRITTEN_S = 10.0  # a file that has changed within this time may be being written; one that is,
# changes every second while packets arrive
REST_S = 120.0  # a file that has not changed for this time is not looked at again
LISTED_S = 60.0  # between two listings while there is room
MOST_DELETED = 100  # files in one call
MOST_RESERVED_BYTES = GB  # kept free without `min_free_gb`, or this share of the disk:
RESERVED_SHARE = 0.05

Kind = Literal["segment", "clip"]
Reason = Literal["keep_days", "keep_gb", "min_free_gb"]
Usage = Callable[[Path], tuple[int, int]]  # free bytes and all bytes of the disk


class RecordedFile(msgspec.Struct, frozen=True):
    """A recording on the disk."""

    path: Path
    source: str
    kind: Kind
    began_s: float  # by its name, seconds since 1970
    changed_s: float  # its last write
    bytes: int


class Deletion(msgspec.Struct, frozen=True):
    """A recording that is deleted, and by which setting."""

    file: RecordedFile
    reason: Reason


class Room(msgspec.Struct, frozen=True):
    """The recordings that were deleted, and the room that there is now."""

    deleted: list[Deletion]
    free_bytes: int
    wanted_bytes: int  # that are to be free

    @property
    def is_low(self) -> bool:
        """Whether there is too little room, whatever was deleted."""
        return self.free_bytes < self.wanted_bytes


def to_delete(
    files: Iterable[RecordedFile],
    now_s: float,
    settings: Mapping[str, Recording],  # by source; files of other sources have no limits
    missing_bytes: int,  # by which the free space is too small; 0 or less: it is not
) -> list[Deletion]:
    """Return what is deleted: by age, then by the size of a source, then for free space.

    The oldest go first, for free space the oldest segments of all sources, and clips when no
    segment is left.
    """
    files = sorted(files, key=lambda file: (file.began_s, file.path))
    closed = [file for file in files if abs(now_s - file.changed_s) >= WRITTEN_S]
    chosen: dict[Path, Deletion] = {}
    held = Counter[tuple[str, Kind]]()
    for file in files:
        held[file.source, file.kind] += file.bytes

    def delete(file: RecordedFile, reason: Reason) -> None:
        chosen[file.path] = Deletion(file, reason)
        held[file.source, file.kind] -= file.bytes

    for file in closed:
        keep_days = _keep_days(settings, file)
        if keep_days is not None and now_s - file.changed_s > keep_days * DAY_S:
            delete(file, "keep_days")
    for file in closed:
        keep_gb = _keep_gb(settings, file)
        too_many = keep_gb is not None and held[file.source, file.kind] > keep_gb * GB
        if too_many and file.path not in chosen:
            delete(file, "keep_gb")
    missing_bytes -= sum(deletion.file.bytes for deletion in chosen.values())
    for file in sorted(closed, key=lambda file: file.kind == "clip"):
        if missing_bytes > 0 and file.path not in chosen:
            delete(file, "min_free_gb")
            missing_bytes -= file.bytes
    return list(chosen.values())


def wanted_bytes(settings: Iterable[Recording], disk_bytes: int) -> int:
    """Return how much is to be free: the most that a source asks for, or the default.

    It is more than what recordings leave to the event log, so that they never stop for long.
    """
    asked = [one.min_free_gb for one in settings if one.min_free_gb is not None]
    share = min(MOST_RESERVED_BYTES, round(disk_bytes * RESERVED_SHARE))
    return max(round(max(asked) * GB) if asked else share, 2 * FLOOR_BYTES)


class Listing:
    """Lists the recordings of an output directory; of folders at rest only once."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._folders: dict[Path, tuple[int, list[RecordedFile]]] = {}  # with their mtime, ns

    def __call__(self, now_s: float) -> list[RecordedFile]:
        """Return all recordings, in no order."""
        folders: dict[Path, tuple[int, list[RecordedFile]]] = {}
        for folder, kind in self._dates():
            try:
                changed_ns = folder.stat().st_mtime_ns
                known = self._folders.get(folder)
                if known is None or known[0] != changed_ns or not _at_rest(known[1], now_s):
                    known = changed_ns, list(_in_folder(folder, kind))
            except OSError:  # deleted meanwhile
                continue
            folders[folder] = known
        self._folders = folders
        return [file for _, files in folders.values() for file in files]

    def _dates(self) -> Iterator[tuple[Path, Kind]]:
        for source in (self._out / SEGMENTS).glob("*"):
            yield from ((folder, "segment") for folder in source.glob("*"))
        for source in (self._out / CLIPS).glob("*"):
            yield from ((folder, "clip") for folder in source.glob("*"))


class RoomKeeper:
    """Deletes recordings so that limits are kept and the disk has room."""

    def __init__(
        self,
        out: Path,
        *,
        usage: Usage | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._out = out
        self._usage = usage or _usage
        self._now = now
        self._list = Listing(out)
        self._listed_s: float | None = None
        self._unfinished = False

    def make_room(self, settings: Mapping[str, Recording], most: int = MOST_DELETED) -> Room:
        """Delete at most `most` recordings, by the settings of each source.

        All are listed once a minute; more often only while there is too little room. OSError when
        the disk cannot be asked.
        """
        now_s = self._now()
        free, disk = self._usage(self._out)
        wanted = wanted_bytes(settings.values(), disk)
        listed_s = self._listed_s
        rested = listed_s is not None and 0 <= now_s - listed_s < LISTED_S
        if rested and free >= wanted and not self._unfinished:
            return Room([], free, wanted)
        self._listed_s = now_s
        deletions = to_delete(self._list(now_s), now_s, settings, wanted - free)
        done = [deletion for deletion in deletions[:most] if _remove(deletion.file.path)]
        self._unfinished = len(deletions) > most
        return Room(done, self._usage(self._out)[0] if done else free, wanted)


def _keep_days(settings: Mapping[str, Recording], file: RecordedFile) -> float | None:
    part = _part(settings, file)
    return None if part is None else part.keep_days


def _keep_gb(settings: Mapping[str, Recording], file: RecordedFile) -> float | None:
    part = _part(settings, file)
    return None if part is None else part.keep_gb


def _part(settings: Mapping[str, Recording], file: RecordedFile) -> Segments | Clips | None:
    recording = settings.get(file.source)
    if recording is None:
        return None
    return recording.segments if file.kind == "segment" else recording.clips


def _at_rest(files: Iterable[RecordedFile], now_s: float) -> bool:
    return all(abs(now_s - file.changed_s) > REST_S for file in files)


def _in_folder(folder: Path, kind: Kind) -> Iterator[RecordedFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            began_s = time_of(path)
            if began_s is None or not entry.is_file(follow_symlinks=False):
                continue
            stat = entry.stat(follow_symlinks=False)
            source = folder.parent.name
            yield RecordedFile(path, source, kind, began_s, stat.st_mtime, stat.st_size)


def _usage(out: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(out)
    return usage.free, usage.total


def _remove(path: Path) -> bool:
    """Delete a recording, and its folder if it was the last one in it."""
    try:
        path.unlink()
    except OSError:  # deleted meanwhile, or not ours to delete
        return False
    try:
        path.with_suffix(ENDING).unlink(missing_ok=True)
        path.parent.rmdir()
    except OSError:  # there are others
        return True
    return True
