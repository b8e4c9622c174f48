"""Recordings that are open while somebody looks at their pictures, so that the next one is near."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from streamvis.sources.identity import Content
from streamvis.sources.lookup import FoundPicture, LookupTimeoutError, PictureLookup

MOST_OPEN = 4  # files
IDLE_S = 30.0  # after which a file is closed


class RecordingFile(NamedTuple):
    """A recording, and how it is opened."""

    name: bytes  # what tells it from others
    open: Callable[[], PictureLookup]
    content: Content | None  # by which a file is known that was written anew


class _Recording:
    """A recording that is opened by its first request; one at a time uses it."""

    def __init__(self, opener: Callable[[], PictureLookup], content: Content | None) -> None:
        self.content = content
        self._opener = opener
        self._lookup: PictureLookup | None = None
        self.lock = threading.Lock()
        self.users = 0
        self.used_s = time.monotonic()
        self.spoilt = False  # it is closed when its last user has left

    def at(self, media_us: int, give_up_s: float) -> FoundPicture:
        if self._lookup is None:
            self._lookup = self._opener()
        return self._lookup.at(media_us, give_up_s)

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.close()


class OpenRecordings:
    """Finds pictures in recordings; the one that was used least recently is closed for another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of what follows
        self._open: OrderedDict[bytes, _Recording] = OrderedDict()

    def at(self, place: RecordingFile, media_us: int, patience_s: float) -> FoundPicture:
        """Return the picture of a media time, or the newest before it.

        LookupTimeoutError when it takes too long, SourceError when it cannot be read.
        """
        give_up_s = time.monotonic() + patience_s
        with self._used(place) as one:
            if not one.lock.acquire(timeout=patience_s):
                raise LookupTimeoutError
            try:
                return one.at(media_us, give_up_s)
            finally:
                one.lock.release()

    def close_idle(self) -> None:
        """Close the files at which nobody has looked for a while."""
        before_s = time.monotonic() - IDLE_S
        with self._lock:
            idle = [
                name for name, one in self._open.items() if not one.users and one.used_s < before_s
            ]
            closed = [self._open.pop(name) for name in idle]
        for one in closed:
            one.close()

    def close(self) -> None:
        """Close all files; those in use are closed by their last user."""
        with self._lock:
            for one in self._open.values():
                one.spoilt = True
            closed = [one for one in self._open.values() if not one.users]
            self._open.clear()
        for one in closed:
            one.close()

    @contextmanager
    def _used(self, place: RecordingFile) -> Iterator[_Recording]:
        """The open recording of a source; the one that was used least recently is closed for it."""
        name = place.name
        one = self._borrowed(place)
        try:
            yield one
        except BaseException as error:
            one.spoilt = one.spoilt or not isinstance(error, LookupTimeoutError)
            raise
        finally:
            with self._lock:
                one.users -= 1
                one.used_s = time.monotonic()
                if one.spoilt and self._open.get(name) is one:
                    del self._open[name]
                unused = one.spoilt and not one.users
            if unused:
                one.close()

    def _borrowed(self, place: RecordingFile) -> _Recording:
        name, content = place.name, place.content
        surplus: list[_Recording] = []
        with self._lock:
            one = self._open.pop(name, None)
            if one is not None and one.content != content:  # the file was written anew
                one.spoilt = True
                surplus += [one] if not one.users else []
                one = None
            if one is None:
                one = _Recording(place.open, content)
            one.users += 1
            self._open[name] = one
            while len(self._open) > MOST_OPEN:
                _, oldest = self._open.popitem(last=False)
                oldest.spoilt = True
                surplus += [oldest] if not oldest.users else []
        for other in surplus:
            other.close()
        return one
