"""Where a run begins: anew, or where an earlier run in the same directory came to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streamvis.events.ids import new_epoch
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


class Start(msgspec.Struct, kw_only=True):
    """How a run begins."""

    epoch: str  # uuid7 of the run
    finished: Summary | None = None  # of the run that is here, when nothing is left to do


@contextmanager
def claimed(out: Path | None, on_used: OnUsed) -> Iterator[Start]:
    """Hold the output directory for a run, and say where the run begins.

    RunError when another run holds it, UsageError when it is used and that was not wanted.
    """
    if out is None:
        yield Start(epoch=new_epoch())
        return
    with locked(out):
        start = Start(epoch=new_epoch())
        if on_used == "overwrite":
            remove_run(out)
        elif on_used == "resume" and run_files(out):
            start.finished = _finished(out)
        if start.finished is not None:
            warn(f"{out}: its run is finished; --overwrite starts it anew")
            yield start
            return
        refuse_used(out)
        with exported(out):
            yield start


def _finished(out: Path) -> Summary | None:
    """The summary of the run that is here, if it came to the end of all its sources."""
    try:
        summary = msgspec.json.decode((out / "summary.json").read_bytes(), type=Summary)
    except (OSError, msgspec.DecodeError):
        return None
    ended = all(source.ending == "eof" for source in summary.sources)
    return summary if ended and not summary.error and not summary.interrupted else None
