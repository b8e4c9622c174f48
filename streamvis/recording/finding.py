"""Find the segment of a source in which a picture of a media time is."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from streamvis.recording.names import SEGMENTS, time_of
from streamvis.recording.picture_times import first_time

_EPOCH = re.compile(r"\d{6}-e(\d{1,10})(?:_(\d{1,6}))?\.mp4")
MOST_FOLDERS = 1000  # that are remembered
MOST_TRIED = 64  # segments without media times, next to each other


class FoundSegment(NamedTuple):
    """A segment, and what its name says."""

    began_s: float  # seconds since 1970
    stream_epoch: int
    number: int  # of those with the same time
    path: Path


class SegmentList:
    """Lists the segments of sources; a folder that has not changed only once."""

    def __init__(self, out: Path) -> None:
        self._home = out / SEGMENTS
        self._folders: dict[Path, tuple[int, list[FoundSegment]]] = {}  # with their mtime, ns

    def __call__(self, source: str, since_s: float) -> list[FoundSegment]:
        """Return the segments of a source that began at `since_s` or later, in order.

        A link is no segment. OSError is that of a folder that cannot be listed.
        """
        folder = self._home / source
        if self._home.is_symlink() or folder.is_symlink() or not folder.is_dir():
            return []
        dates = [one for one in folder.iterdir() if not one.is_symlink() and one.is_dir()]
        found = [one for date in dates for one in self._in(date)]
        return sorted(one for one in found if one.began_s >= since_s)

    def _in(self, date: Path) -> list[FoundSegment]:
        changed_ns = date.stat().st_mtime_ns
        known = self._folders.get(date)
        if known is None or known[0] != changed_ns:
            if len(self._folders) >= MOST_FOLDERS:
                self._folders.clear()
            listed = [one for path in date.iterdir() if (one := _segment(path)) is not None]
            known = self._folders[date] = changed_ns, listed
        return known[1]


def _segment(path: Path) -> FoundSegment | None:
    match = _EPOCH.fullmatch(path.name)
    began_s = time_of(path) if match is not None else None
    if match is None or began_s is None or path.is_symlink():
        return None
    return FoundSegment(began_s, int(match[1]), int(match[2] or 0), path)


def segment_at(
    found: Sequence[FoundSegment], media_us: int, stream_epoch: int | None = None
) -> FoundSegment | None:
    """Return the last segment that begins at a media time or before; None where there is none.

    `stream_epoch` is the last one that may be looked at.
    """
    usable = [one for one in found if stream_epoch is None or one.stream_epoch <= stream_epoch]
    known: dict[Path, int | None] = {}

    def begin(place: int) -> int:
        """The media time of a segment, or of the nearest one before that has one."""
        for one in reversed(usable[max(0, place - MOST_TRIED) : place + 1]):
            if one.path not in known:
                known[one.path] = first_time(one.path)
            if (begun := known[one.path]) is not None:
                return begun
        return -1

    place = bisect_right(range(len(usable)), media_us, key=begin) - 1
    while place >= 0 and known.get(usable[place].path) is None:
        place -= 1
    return usable[place] if place >= 0 else None
