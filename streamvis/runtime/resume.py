"""Where a run begins: anew, or where an earlier run in the same directory came to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from streamvis.config import Pipeline, Publish
from streamvis.errors import UsageError
from streamvis.events.derive import State, source_findings
from streamvis.events.ids import new_epoch
from streamvis.events.log import FILE_NAME, Cursor, LogWriter
from streamvis.messages import Findings, LogPosition
from streamvis.runtime import checkpoint, manifest
from streamvis.runtime.checkpoint import CheckpointWriter
from streamvis.runtime.manifest import Manifest
from streamvis.runtime.metrics import Summary
from streamvis.runtime.output import (
    OnUsed,
    exported,
    locked,
    refuse_used,
    remove_run,
    run_files,
    warn,
)
from streamvis.runtime.protocol import SourceCheckpoint
from streamvis.sources.spec import SourceSpec


class RunStart(msgspec.Struct, kw_only=True):
    """How a run begins."""

    epoch: str  # uuid7 of the run
    sources: dict[
        str, SourceCheckpoint
    ] = {}  # where to go on; the others start with their first frame
    logged: dict[str, LogPosition] = {}  # how far the log has come
    findings: dict[str, Findings] = {}  # of the sources that have ended
    save: Callable[[str, SourceCheckpoint], None] | None = None  # keeps a checkpoint
    finished: Summary | None = None  # of the run that is here, when nothing is left to do


@contextmanager
def claimed(
    out: Path | None, pipeline: Pipeline, sources: Sequence[SourceSpec], on_used: OnUsed
) -> Iterator[RunStart]:
    """Hold the output directory for a run, and say where the run begins.

    RunError when another run holds it, UsageError when it is used and that was not wanted, or
    when the run that is to be resumed is of something else.
    """
    if out is None:
        yield RunStart(epoch=new_epoch())
        return
    with locked(out):
        start = _start(out, pipeline, sources, on_used)
        if start.finished is not None:
            warn(f"{out}: its run is finished; --overwrite starts it anew")
            yield start
            return
        keeper = CheckpointWriter(out, start.epoch, start.sources)
        start.save = keeper.save
        with exported(out):
            yield start
        if _finished(out) is not None:
            keeper.remove()


def _start(
    out: Path, pipeline: Pipeline, sources: Sequence[SourceSpec], on_used: OnUsed
) -> RunStart:
    wanted = manifest.manifest_of(pipeline, sources, new_epoch())
    if on_used == "overwrite":
        remove_run(out)
    if on_used != "resume" or not run_files(out):
        refuse_used(out)
        manifest.write(wanted, out)
        return RunStart(epoch=wanted.epoch)
    there = manifest.read(out)
    if there is None:
        raise UsageError(
            f"{out} holds a run without run.json, perhaps of an older streamvis: it cannot be "
            "resumed. --overwrite replaces it; or choose another --out"
        )
    if text := manifest.difference(there, wanted):
        raise UsageError(
            f"{out} cannot be resumed: it holds another run: {text}. Resume with what it was "
            "started with, or choose another --out; --overwrite replaces it"
        )
    if (summary := _finished(out)) is not None:
        return RunStart(epoch=there.epoch, finished=summary)
    return _resumed(out, pipeline, there)


def _finished(out: Path) -> Summary | None:
    """The summary of the run that is here, if it came to the end of all its sources."""
    try:
        summary = msgspec.json.decode((out / "summary.json").read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError):
        return None
    ended = all(source.ending == "eof" for source in summary.sources)
    return summary if ended and not summary.error and not summary.interrupted else None


def _resumed(out: Path, pipeline: Pipeline, there: Manifest) -> RunStart:
    kept = checkpoint.load(out, there.epoch)
    cursors = _cursors(out / FILE_NAME, there)
    start = RunStart(epoch=there.epoch)
    logs = any(isinstance(stage.run, Publish) for stage in pipeline.stages)
    for listed in there.sources:
        at, cursor = kept.get(listed.id), cursors.get(listed.id)
        if cursor is not None:
            if cursor.epoch != there.epoch:
                raise UsageError(f"{out / FILE_NAME} is of another run than {out}/run.json")
            book = _book(cursor)
            start.logged[listed.id] = LogPosition(cursor.next, *book.at)
            at = resume_point(at, cursor, book)
            if cursor.ending == "eof":
                start.findings[listed.id] = source_findings(book.derived)
        elif logs:
            at = None  # nothing is logged: from the beginning
        if at is not None:
            start.sources[listed.id] = at
    if len(start.sources) == len(there.sources) and all(s.ending for s in start.sources.values()):
        # all have ended, but not the run: let the last one end again, which adds nothing
        name, at = start.sources.popitem()
        start.sources[name] = msgspec.structs.replace(at, ending=None)
    return start


def _cursors(path: Path, there: Manifest) -> dict[str, Cursor]:
    """Those of the log, which may have no tables yet; what is in its WAL comes into the file."""
    if not path.exists():
        return {}
    with closing(LogWriter(path)) as log:
        found = [log.cursor(listed.id) for listed in there.sources]
    return {cursor.source: cursor for cursor in found if cursor is not None}


class Book(msgspec.Struct):
    """What the publisher's state in a cursor tells of how far the source came."""

    derived: State
    at: tuple[int, int]  # stream epoch and seq of the last frame
    n: int  # its number in the source


def _book(cursor: Cursor) -> Book:
    try:
        return msgspec.msgpack.decode(cursor.state, type=Book)
    except msgspec.DecodeError:
        raise UsageError(
            f"the log's state of source '{cursor.source}' is of another streamvis: the run cannot "
            "be resumed; --overwrite replaces it"
        ) from None


def resume_point(
    kept: SourceCheckpoint | None, cursor: Cursor, book: Book
) -> SourceCheckpoint | None:
    """Where a source goes on whose run was killed or stopped; None: from its first frame.

    What comes again up to where the log ends adds nothing to it. A checkpoint that is ahead of
    the log is of no use: events would be missing between them. A live source, and one whose
    tracks were ended with the run, go on in their next stream epoch.
    """
    usable = kept is not None and kept.at[0] == book.at[0] and kept.at <= book.at
    if cursor.ending == "eof":
        if kept is not None and kept.ending == "eof":
            return kept
        return _after(book, book.at[0], kept, ending="eof")
    live = book.derived.info.live
    if not live and not cursor.ending:
        if usable:
            return kept
        if book.at[0] <= 1:
            return None
    return _after(book, max(book.derived.epoch, book.at[0]) + 1, kept)


def _after(
    book: Book, epoch: int, kept: SourceCheckpoint | None, ending: str | None = None
) -> SourceCheckpoint:
    """After the last frame of the log, without states."""
    info = book.derived.info
    return SourceCheckpoint(
        info=info,
        epoch=epoch,
        known_epoch=book.derived.epoch,
        admitted=book.at[1] + 1,
        last_n=-1 if info.live else book.n,
        last_us=book.derived.media_us,
        poisoned=kept.poisoned if kept else 0,
        dropped=kept.dropped if kept else {},
        errors=kept.errors if kept else 0,
        past_errors=kept.past_errors if kept else 0,
        ending="eof" if ending else None,
    )
