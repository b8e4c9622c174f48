"""Recorded pictures by media time: `GET /api/picture/{source}?media_us=N`.

They come from the file that a source of the run was, which `sources.json` names; no path comes from
a request. Media times are those of the run. Privacy masks are filled as in the run, and where it is
not known which ones that were, there is no picture.

Open files are kept while somebody looks at their pictures, so that the next one needs no seeking.
"""

import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np

from streamvis.errors import SourceError
from streamvis.runtime.decode import jpeg
from streamvis.runtime.opened import OPENED, OpenedSource, read
from streamvis.sources.identity import Content, content_of
from streamvis.sources.lookup import FoundPicture, LookupTimeoutError, PictureLookup, open_lookup
from streamvis.sources.privacy import hide
from streamvis.sources.spec import SourceSpec
from streamvis.web.operations import Answered
from streamvis.web.problems import RefusedError, shown
from streamvis.web.run_folder import RunFolder

MOST_OPEN = 4  # files
IDLE_S = 30.0  # after which a file is closed
GIVE_UP_S = 10.0  # for a picture
WHERE = "recorded picture"


class _Recording:
    """A recording that is opened by its first request; one at a time uses it."""

    def __init__(self, spec: SourceSpec, content: Content | None) -> None:
        self.content = content
        self._spec = spec
        self._lookup: PictureLookup | None = None
        self.lock = threading.Lock()
        self.users = 0
        self.used_s = time.monotonic()
        self.spoilt = False  # it is closed when its last user has left

    def at(self, media_us: int, give_up_s: float) -> FoundPicture:
        if self._lookup is None:
            self._lookup = open_lookup(self._spec)
        return self._lookup.at(media_us, give_up_s)

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.close()


class RecordedPictures:
    """Pictures of the sources of one run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # of what follows
        self._open: OrderedDict[bytes, _Recording] = OrderedDict()
        self._same: dict[tuple[str, Content], bool] = {}  # whether changed files are as they were

    def picture(self, source: str, media_us: int, stream_epoch: int | None = None) -> Answered:
        """Return the picture of a media time, else the newest before it; the headers say which."""
        entry = self._entry(source, stream_epoch)
        found = self._found(entry, media_us)
        pixels = np.array(found.pixels, order="C")
        if entry.privacy_masks:
            hide(pixels, entry.privacy_masks)
        height, width = pixels.shape[:2]
        headers = {
            "content-type": "image/jpeg",
            "x-streamvis-media-us": str(found.media_us),
            "x-streamvis-size": f"{width}x{height}",
        }
        return Answered(value=jpeg(pixels), headers=headers)

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

    def _entry(self, source: str, stream_epoch: int | None) -> OpenedSource:
        """Return what the source was; RefusedError where that is not known or no recording."""
        known = read(self._folder.out)
        own = [one for one in known if one.source == source]
        if stream_epoch is not None:
            own = [one for one in own if one.stream_epoch <= stream_epoch]
        if not own:
            raise self._unknown(source, {one.source for one in known})
        entry = own[-1]
        if entry.kind in {"camera", "url"}:
            raise RefusedError(
                404,
                WHERE,
                f"source {shown(source)} is live",
                expected="a source that is a file",
            )
        if entry.encrypted:
            raise RefusedError(
                409,
                WHERE,
                f"the file of source {shown(source)} is encrypted, and its key is not kept",
                expected="a file without a key",
            )
        return entry

    def _unknown(self, source: str, known: set[str]) -> RefusedError:
        path = self._folder.out / OPENED
        with self._folder.log() as log:
            logged = log.sources()
        if source in logged:
            return RefusedError(
                409,
                WHERE,
                f"it is not known what was hidden in the pictures of source {shown(source)}",
                expected=f"the source in {path}, which a run writes",
                to_do="run it again with this version to look at its pictures",
            )
        expected = ", ".join(sorted({*known, *logged})) or "none: nothing is logged yet"
        return RefusedError(
            404, "path", f"no source {shown(source)} in the run", expected=f"one of {expected}"
        )

    def _found(self, entry: OpenedSource, media_us: int) -> FoundPicture:
        content = self._unchanged(entry)
        give_up_s = time.monotonic() + GIVE_UP_S
        try:
            with self._used(entry, content) as one:
                if not one.lock.acquire(timeout=GIVE_UP_S):
                    raise LookupTimeoutError
                try:
                    return one.at(media_us, give_up_s)
                finally:
                    one.lock.release()
        except LookupTimeoutError:
            raise RefusedError(
                503,
                WHERE,
                f"it was not reached in {GIVE_UP_S:g} s",
                to_do="ask again: reading goes on from where it is",
                headers={"retry-after": "1"},
            ) from None
        except SourceError as error:
            raise RefusedError(404, WHERE, str(error)) from None

    @contextmanager
    def _used(self, entry: OpenedSource, content: Content | None) -> Iterator[_Recording]:
        """The open recording of a source; the one that was used least recently is closed for it."""
        name = msgspec.json.encode(entry)
        one = self._borrowed(name, entry, content)
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

    def _borrowed(self, name: bytes, entry: OpenedSource, content: Content | None) -> _Recording:
        surplus: list[_Recording] = []
        with self._lock:
            one = self._open.pop(name, None)
            if one is not None and one.content != content:  # the file was written anew
                one.spoilt = True
                surplus += [one] if not one.users else []
                one = None
            if one is None:
                one = _Recording(entry.spec(), content)
            one.users += 1
            self._open[name] = one
            while len(self._open) > MOST_OPEN:
                _, oldest = self._open.popitem(last=False)
                oldest.spoilt = True
                surplus += [oldest] if not oldest.users else []
        for other in surplus:
            other.close()
        return one

    def _unchanged(self, entry: OpenedSource) -> Content | None:
        """Return what tells the file from what is written over it; RefusedError if it is another.

        A file of another modification time is the same one if its head and tail are.
        """
        if entry.kind == "synthetic":
            return None
        if entry.content is None:
            raise RefusedError(404, WHERE, f"{entry.uri} could not be read in the run")
        try:
            now = _content(entry)
        except (OSError, SourceError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise RefusedError(
                404,
                WHERE,
                f"{entry.uri}: {reason}",
                expected="the file of the run in its place",
                to_do="put it back",
            ) from None
        if (now.size, now.mtime_ns) != (entry.content.size, entry.content.mtime_ns):
            known = self._same.get((entry.uri, now))
            if known is None:
                known = content_of(entry.spec()).digest == entry.content.digest
                self._same = {(entry.uri, now): known}
            if not known:
                raise RefusedError(
                    404,
                    WHERE,
                    f"{entry.uri} has changed since the run: {now.size} bytes",
                    expected=f"the file of the run, of {entry.content.size} bytes",
                    to_do="put it back, or run it again",
                )
        return now


def _content(entry: OpenedSource) -> Content:
    """Return size and modification time without reading; OSError or SourceError without a file."""
    if entry.kind == "images":
        return msgspec.structs.replace(content_of(entry.spec()), digest="")
    found = os.stat(entry.uri)
    if not stat.S_ISREG(found.st_mode):
        raise SourceError("not a regular file")
    return Content(found.st_size, found.st_mtime_ns, "")
