"""Recorded pictures by media time: `GET /api/picture/{source}?media_us=N`.

They come from the file that a source of the run was, which `sources.json` names, or from the
segments of a live one; no path comes from a request. Media times are those of the run. Privacy
masks are filled as in the run, and where it is not known which ones that were, there is no picture.

Open files are kept while somebody looks at their pictures, so that the next one needs no seeking.
"""

import os
from functools import partial

import msgspec

from streamvis.errors import DataError, SourceError
from streamvis.events.envelope import epoch_us
from streamvis.recording.finding import SegmentList, segment_at
from streamvis.runtime import manifest
from streamvis.runtime.decode import jpeg
from streamvis.runtime.opened import OPENED, OpenedSource, read
from streamvis.sources.identity import Content, content_of, size_of
from streamvis.sources.lookup import FoundPicture, LookupTimeoutError, open_lookup
from streamvis.sources.privacy import masked
from streamvis.sources.segment_lookup import SegmentLookup
from streamvis.web.open_recordings import OpenRecordings, RecordingFile
from streamvis.web.operations import Answered
from streamvis.web.problems import RefusedError, shown
from streamvis.web.run_folder import RunFolder

LIVE = frozenset({"camera", "url"})
GIVE_UP_S = 10.0  # for a picture
WHERE = "recorded picture"


class RecordedPictures:
    """Pictures of the sources of one run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._open = OpenRecordings()
        self._segments = SegmentList(folder.out)
        self._same: dict[tuple[str, Content], bool] = {}  # whether changed files are as they were

    def picture(self, source: str, media_us: int, stream_epoch: int | None = None) -> Answered:
        """Return the picture of a media time, else the newest before it; the headers say which."""
        entries = self._entries(source, stream_epoch)
        entry = entries[-1]
        if entry.kind in LIVE:
            entry, place = self._segment(entries, media_us, stream_epoch)
        else:
            name = msgspec.json.encode(entry)
            place = RecordingFile(name, partial(open_lookup, entry.spec()), self._unchanged(entry))
        found = self._found(place, media_us)
        pixels = masked(found.pixels, entry.privacy_masks)
        height, width = pixels.shape[:2]
        headers = {
            "content-type": "image/jpeg",
            "x-streamvis-media-us": str(found.media_us),
            "x-streamvis-size": f"{width}x{height}",
        }
        return Answered(value=jpeg(pixels), headers=headers)

    def close_idle(self) -> None:
        """Close the files at which nobody has looked for a while."""
        self._open.close_idle()

    def close(self) -> None:
        """Close all files; those in use are closed by their last user."""
        self._open.close()

    def _entries(self, source: str, stream_epoch: int | None) -> list[OpenedSource]:
        """Return what the source was, the newest last; RefusedError where that is not known."""
        known = read(self._folder.out)
        own = [one for one in known if one.source == source]
        if stream_epoch is not None:
            own = [one for one in own if one.stream_epoch <= stream_epoch]
        if not own:
            raise self._unknown(source, {one.source for one in known})
        if own[-1].encrypted:
            raise RefusedError(
                409,
                WHERE,
                f"the file of source {shown(source)} is encrypted, and its key is not kept",
                expected="a file without a key",
            )
        return own

    def _segment(
        self, entries: list[OpenedSource], media_us: int, stream_epoch: int | None
    ) -> tuple[OpenedSource, RecordingFile]:
        """Return the segment of a live source, and what the source was when it was recorded."""
        source = entries[-1].source
        try:
            listed = self._segments(source, _began_s(self._folder))
            segment = segment_at(listed, media_us, stream_epoch)
            if segment is not None:
                status = os.stat(segment.path)
        except OSError as error:
            raise RefusedError(404, WHERE, f"segments of {shown(source)}: {error}") from None
        if segment is None:
            raise RefusedError(
                404,
                WHERE,
                f"no segment of source {shown(source)} is there from {media_us} us",
                expected="a recording of it that is still kept",
                to_do="record sources by `record: {segments: {}}` in the sources file",
            )
        then = [one for one in entries if one.stream_epoch <= segment.stream_epoch]
        if not then:
            raise self._unknown(source, set())
        content = Content(status.st_size, status.st_mtime_ns, "")
        name = os.fsencode(segment.path)
        return then[-1], RecordingFile(name, partial(SegmentLookup, segment.path), content)

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

    def _found(self, place: RecordingFile, media_us: int) -> FoundPicture:
        try:
            return self._open.at(place, media_us, GIVE_UP_S)
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
            same = self._is_same(entry, entry.content, now)
        except (OSError, SourceError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise RefusedError(
                404,
                WHERE,
                f"{entry.uri}: {reason}",
                expected="the file of the run in its place",
                to_do="put it back",
            ) from None
        if not same:
            raise RefusedError(
                404,
                WHERE,
                f"{entry.uri} has changed since the run: {now.size} bytes",
                expected=f"the file of the run, of {entry.content.size} bytes",
                to_do="put it back, or run it again",
            )
        return now

    def _is_same(self, entry: OpenedSource, then: Content, now: Content) -> bool:
        if (now.size, now.mtime_ns) == (then.size, then.mtime_ns):
            return True
        known = self._same.get((entry.uri, now))
        if known is None:
            known = bool(then.digest) and content_of(entry.spec()).digest == then.digest
            self._same = {(entry.uri, now): known}
        return known


def _content(entry: OpenedSource) -> Content:
    """Return size and modification time without reading; OSError or SourceError without a file."""
    found = size_of(entry.spec())
    if found.size == 0:
        raise SourceError("no file that can be read" if entry.kind == "file" else "no images")
    return found


def _began_s(folder: RunFolder) -> float:
    """Return when the run began, by its id; segments from before are those of another run."""
    try:
        found = manifest.read(folder.out)
        return epoch_us(found.epoch) // 1_000_000 if found is not None else 0.0
    except DataError:
        return 0.0
