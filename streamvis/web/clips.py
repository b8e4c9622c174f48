"""Clips of a run: `GET /api/clips` lists them, `GET /api/clips/{source}/{date}/{name}` is one.

A clip is served where an event `source.clip` names it. Its packets are those of the camera, so that
nothing is hidden in them: clips of a source that has privacy masks are refused.
"""

import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from streamvis.events.log import LogReader
from streamvis.recording.names import CLIPS, DATE, NAME
from streamvis.runtime.opened import OPENED, read
from streamvis.web.event_pages import MOST_EVENTS, SOURCE, EventQuery, Place, Time, page_of
from streamvis.web.operations import Answered, Call, Operation, source_of
from streamvis.web.problems import RefusedError, shown
from streamvis.web.run_folder import RunFolder

MEDIA = "video/mp4"
TYPE = "source.clip"
WHERE = "clip"
UNMASKED = "its packets are those of the camera, without the privacy masks of source {}"


class ClipQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which clips are wanted."""

    source: Annotated[str, Meta(pattern=SOURCE)] | None = None  # id of a source; absent: all of
    # them, in order of commit
    from_us: Time | None = None  # media time of the first one; needs `source`
    to_us: Time | None = None  # media time of the last one, included; needs `source`
    limit: Annotated[int, Meta(ge=1, le=MOST_EVENTS)] = 100  # clips at most
    cursor: Place | None = None  # `next` of the page before


class ListedClip(msgspec.Struct, frozen=True, kw_only=True):
    """A clip that was recorded."""

    source: str
    media_us: int  # when it was complete
    event: str  # id of the event that it is about
    path: str  # relative to the output directory
    url: str  # its address; empty: it is not served
    reason: str  # why not
    bytes: int  # 0: it is not served


class ClipPage(msgspec.Struct, frozen=True, kw_only=True):
    """Clips in order."""

    clips: list[ListedClip]
    next: str | None  # `cursor` of the next page; null: these were the last ones


class ClipPlace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the log has the event that names a clip."""

    offset: Place  # of its event `source.clip`, as in the `url` of the list


class _Time(msgspec.Struct, frozen=True):
    media_us: int


class _Clip(msgspec.Struct, frozen=True):
    path: str
    event: str


class _ClipEvent(msgspec.Struct, frozen=True):
    """What is read of an event."""

    source: str
    offset: int
    time: _Time
    stream: _Clip


class Clips:
    """The operations on the clips of one run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def table(self) -> tuple[Operation, ...]:
        """List the operations."""
        return (
            Operation(
                method="GET",
                path="/api/clips",
                call=self.clips,
                query=ClipQuery,
                answer=ClipPage,
                statuses=(400, 404, 410),
            ),
            Operation(
                method="GET",
                path="/api/clips/{source}/{date}/{name}",
                call=self.clip,
                query=ClipPlace,
                media=MEDIA,
                statuses=(400, 404, 409, 410),
                same=(206,),
            ),
        )

    def clips(self, call: Call) -> Answered:
        """Return the clips that were recorded around events, and those that are gone by now."""
        given: ClipQuery = call.query
        query = EventQuery(types=TYPE, **{name: getattr(given, name) for name in _MEMBERS})
        with self._folder.log() as log:
            page = page_of(log, query)
        events = [msgspec.json.decode(raw, type=_ClipEvent) for raw in page.events]
        refusals = {name: self._refusal(name) for name in {one.source for one in events}}
        clips = [self._listed(one, refusals[one.source]) for one in events]
        return Answered(value=ClipPage(clips=clips, next=page.next))

    def clip(self, call: Call) -> Answered:
        """Return a clip, or with a header `Range` a part of it."""
        source = source_of(call)
        if (refusal := self._refusal(source)) is not None:
            raise refusal
        path = "/".join((CLIPS, source, call.path["date"], call.path["name"]))
        with self._folder.log() as log:
            if not _is_named(log, source, call.query.offset, path):
                raise RefusedError(
                    404,
                    "path",
                    f"no event at offset {call.query.offset} names {shown(path)}",
                    expected="a `url` of /api/clips",
                )
        found = _file(self._folder.out, path)
        if found is None:
            raise RefusedError(
                404,
                WHERE,
                f"{path} is not there",
                expected="a clip that was not deleted to make room",
            )
        return Answered(value=found, headers={"content-disposition": "inline"})

    def _listed(self, event: _ClipEvent, refusal: RefusedError | None) -> ListedClip:
        path, url, size = event.stream.path, "", 0
        reason = refusal.problem.found if refusal is not None else ""
        if refusal is None:
            found = _file(self._folder.out, path)
            if found is None:
                reason = "it is not there: it was deleted to make room, or moved"
            else:
                url, size = f"/api/{path}?offset={event.offset}", os.stat(found).st_size
        return ListedClip(
            source=event.source,
            media_us=event.time.media_us,
            event=event.stream.event,
            path=path,
            url=url,
            reason=reason,
            bytes=size,
        )

    def _refusal(self, source: str) -> RefusedError | None:
        """Return why the clips of a source are not shown."""
        own = [one for one in read(self._folder.out) if one.source == source]
        if not own:
            return RefusedError(
                409,
                WHERE,
                f"it is not known whether source {shown(source)} has privacy masks",
                expected=f"the source in {self._folder.out / OPENED}, which a run writes",
                to_do="look at the file in the output directory",
            )
        if any(one.privacy_masks for one in own):
            return RefusedError(
                409,
                WHERE,
                UNMASKED.format(shown(source)),
                expected="a source without masks",
                to_do="look at its recorded pictures, or at the file in the output directory",
            )
        return None


_MEMBERS = ClipQuery.__struct_fields__


def _is_named(log: LogReader, source: str, offset: int, path: str) -> bool:
    """Whether an event names a clip."""
    rows = log.since(source, offset, offset, types=(TYPE,))
    events = (msgspec.json.decode(row.payload, type=_ClipEvent) for row in rows)
    return any(one.stream.path == path for one in events)


def _file(out: Path, path: str) -> Path | None:
    """Return the file of a clip; None where there is none, or something else in its place."""
    parts = path.split("/")
    if len(parts) != 4 or parts[0] != CLIPS:
        return None
    if not DATE.fullmatch(parts[2]) or not NAME.fullmatch(parts[3]):
        return None
    at = out
    for number, part in enumerate(parts, start=1):
        at = at / part
        try:
            mode = os.lstat(at).st_mode
        except OSError:
            return None
        if not (stat.S_ISREG(mode) if number == len(parts) else stat.S_ISDIR(mode)):
            return None  # such as a link to elsewhere
    return at
