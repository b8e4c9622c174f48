"""The start of a run: at the first frame, or where an earlier run in the directory stopped."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from streamvis.config import Pipeline, Publish
from streamvis.errors import UsageError
from streamvis.events.envelope import new_epoch
from streamvis.events.log import FILE_NAME, Cursor, LogWriter
from streamvis.files import is_same
from streamvis.messages import Findings
from streamvis.runtime import checkpoint, manifest
from streamvis.runtime.checkpoint import CheckpointWriter
from streamvis.runtime.manifest import ListedSource, Manifest
from streamvis.runtime.metrics import Summary
from streamvis.runtime.output import (
    OUT,
    OVERWRITE,
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
from streamvis.stages.protocol import LogPosition
from streamvis.stages.publish.derive import SourceStatus


class RunStart(msgspec.Struct, kw_only=True):
    """The state that a run starts from."""

    epoch: str  # uuid7 of the run
    sources: dict[str, SourceCheckpoint] = {}  # others start with their first frame
    logged: dict[str, LogPosition] = {}  # by source: the end of the event log
    findings: dict[str, Findings] = {}  # of the sources that have ended
    save: Callable[[str, SourceCheckpoint], None] | None = None  # writes a checkpoint
    finished: Summary | None = None  # of the run in the directory, when it is finished


@contextmanager
def claimed(
    out: Path | None,
    pipeline: Pipeline,
    sources: Sequence[SourceSpec],
    on_used: OnUsed,
    *,
    serve: bool = False,
    shard: str = "1/1",
) -> Iterator[RunStart]:
    """Lock the output directory for a run, and yield the state that it starts from.

    A run that serves is never finished, and resumes with whatever sources its shard has now. One of
    another shard is another run: its log has other sources.

    Raises RunError when another run holds the directory, and UsageError when it holds a run
    already and `on_used` is `refuse`, or a run of something else that was to be resumed.
    """
    if out is None:
        yield RunStart(epoch=new_epoch())
        return
    with locked(out):
        if on_used == "overwrite":
            _check_kept(out, sources)
        wanted = manifest.manifest_of(pipeline, sources, new_epoch(), shard)
        start = _start(out, pipeline, wanted, on_used, serve)
        if start.finished is not None:
            warn(f"{out}: the run in it is finished; replace it with {OVERWRITE}")
            yield start
            return
        keeper = CheckpointWriter(out, start.epoch, start.sources)
        start.save = keeper.save
        with exported(out):
            yield start
        if _finished(out) is not None:
            keeper.remove()


def _check_kept(out: Path, sources: Sequence[SourceSpec]) -> None:
    """Raise UsageError for a source that is a file of the run which is to be replaced."""
    for path in run_files(out):
        for spec in sources:
            if is_same(path, spec.uri):
                raise UsageError(
                    f"source '{spec.id}' is {path}, a file of the run in {out}, which {OVERWRITE} "
                    f"would remove; choose another {OUT}"
                )


def _start(
    out: Path, pipeline: Pipeline, wanted: Manifest, on_used: OnUsed, serve: bool
) -> RunStart:
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
            f"resumed. Replace it with {OVERWRITE}, or choose another {OUT}"
        )
    if serve:
        there = msgspec.structs.replace(there, sources=wanted.sources)
    if text := manifest.difference(there, wanted):
        raise UsageError(
            f"{out} cannot be resumed: it holds another run: {text}. Resume it with the pipeline, "
            f"sources and shard that it was started with, replace it with {OVERWRITE}, or choose "
            f"another {OUT}"
        )
    if serve:
        manifest.write(there, out)
    elif (summary := _finished(out)) is not None:
        return RunStart(epoch=there.epoch, finished=summary)
    return _resumed(out, pipeline, there)


def _finished(out: Path) -> Summary | None:
    """Return the summary of the run in the directory, if all its sources ended."""
    try:
        summary = msgspec.json.decode((out / "summary.json").read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError, RecursionError):
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
                raise UsageError(
                    f"{out / FILE_NAME} belongs to another run than {out}/run.json; "
                    f"replace both with {OVERWRITE}"
                )
            published = _publisher_state(cursor)
            start.logged[listed.id] = LogPosition(cursor.next, *published.at)
            at = resume_point(at, cursor, published)
            if at is None and listed.zones is not None:
                at = _begin(listed)
            if at is not None:
                at = msgspec.structs.replace(at, logged=published.at[1])
            if cursor.ending == "eof" and published.findings is not None:
                start.findings[listed.id] = published.findings
        elif logs:
            at = None  # without an event log, from the first frame
        if at is not None:
            start.sources[listed.id] = at
    if len(start.sources) == len(there.sources) > 0 and all(
        s.ending for s in start.sources.values()
    ):
        # every source has ended, but not the run: the last one ends again, which logs nothing
        name, at = start.sources.popitem()
        start.sources[name] = msgspec.structs.replace(at, ending=None)
    return start


def _cursors(path: Path, there: Manifest) -> dict[str, Cursor]:
    """Read the cursors of the event log; opening it also creates its tables and applies its WAL."""
    if not path.exists():
        return {}
    with closing(LogWriter(path)) as log:
        found = [log.cursor(listed.id) for listed in there.sources]
    return {cursor.source: cursor for cursor in found if cursor is not None}


class PublisherState(msgspec.Struct):
    """How far a source came, from the publisher's state in the event log."""

    status: SourceStatus
    at: tuple[int, int]  # stream epoch and seq of the last frame
    n: int  # its number in the source
    findings: Findings | None = None  # once the source has ended


def _publisher_state(cursor: Cursor) -> PublisherState:
    try:
        return msgspec.msgpack.decode(cursor.state, type=PublisherState)
    except msgspec.DecodeError:
        raise UsageError(
            f"the state of source '{cursor.source}' in the event log is of another streamvis: "
            f"the run cannot be resumed; replace it with {OVERWRITE}"
        ) from None


def resume_point(
    kept: SourceCheckpoint | None, cursor: Cursor, published: PublisherState
) -> SourceCheckpoint | None:
    """Return the checkpoint that a source resumes from; None: its first frame.

    Frames that come again up to the end of the log add no events. A checkpoint ahead of the log is
    not used, since events would be missing between them. A live source, and one whose tracks were
    ended with the run, resume in their next stream epoch.
    """
    usable = kept is not None and kept.at[0] == published.at[0] and kept.at <= published.at
    if cursor.ending == "eof":
        if kept is not None and kept.ending == "eof":
            return kept
        return _after(published, published.at[0], kept, ending="eof")
    live = published.status.info.live
    if not live and not cursor.ending:
        if usable:
            return kept
        if published.at[0] <= 1:
            return None
    return _after(published, max(published.status.epoch, published.at[0]) + 1, kept)


def _begin(listed: ListedSource) -> SourceCheckpoint:
    """Return a checkpoint before the first frame, with the zones of the run's start."""
    return SourceCheckpoint(
        info=None,
        epoch=1,
        known_epoch=1,
        admitted=0,
        last_n=-1,
        last_us=0,
        zones=listed.zones,
    )


def _after(
    published: PublisherState, epoch: int, kept: SourceCheckpoint | None, ending: str | None = None
) -> SourceCheckpoint:
    """Return a checkpoint after the last frame of the log, without states."""
    info = published.status.info
    return SourceCheckpoint(
        info=info if info.width else None,  # none: it was never open
        epoch=epoch,
        known_epoch=published.status.epoch,
        admitted=published.at[1] + 1,
        last_n=-1 if info.live else published.n,
        last_us=published.status.media_us,
        poisoned=kept.poisoned if kept else 0,
        dropped=kept.dropped if kept else {},
        errors=kept.errors if kept else 0,
        past_errors=kept.past_errors if kept else 0,
        ending="eof" if ending else None,
    )
