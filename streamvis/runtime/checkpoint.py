"""Checkpoints: the state of each source between two frames, and the file that stores them.

A run that was killed resumes from its checkpoint. The file is replaced as a whole and carries a
digest: a damaged file is not used.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from streamvis.events.log import FILE_NAME
from streamvis.files import replace, sync
from streamvis.runtime.gaps import GapNotices
from streamvis.runtime.output import CHECKPOINT, warn
from streamvis.runtime.protocol import SourceCheckpoint
from streamvis.runtime.state import Stream
from streamvis.runtime.supervision import Limits

DIGEST = 32  # bytes

States = Mapping[tuple[str, str], bytes]  # (stage, source) -> state


def take(stream: Stream, states: States) -> SourceCheckpoint | None:
    """Take the checkpoint that is due, once no frame, notice or grant is open."""
    if stream.frames_in_flight or stream.open_notices or stream.granted:
        return None
    stream.saving, stream.save_due = False, None
    return state_of(stream, states)


def state_of(stream: Stream, states: States) -> SourceCheckpoint:
    """Return the state of a source whose frames are all answered."""
    return SourceCheckpoint(
        info=stream.info,
        epoch=stream.epoch,
        known_epoch=stream.known_epoch,
        admitted=stream.admitted,
        last_n=stream.last_n,
        last_us=stream.last_us,
        turns=dict(stream.turns),
        states={stage: data for (stage, name), data in states.items() if name == stream.name},
        poisoned=stream.poisoned,
        dropped=dict(stream.dropped),
        gaps=GapNotices(dict(stream.gaps.unreported), dict(stream.gaps.reported_s)),
        errors=stream.errors,
        past_errors=stream.past_errors,
        ending=stream.ending,
        zones=stream.known_zones,
        logged=stream.logged,
    )


def schedule(stream: Stream, at_s: float, limits: Limits) -> None:
    """Stop granting slots to a file once a checkpoint is due; called at each frame.

    The frames in flight are then answered soon, and the checkpoint can be taken.
    """
    if not stream.live:
        if stream.save_due is None:
            stream.save_due = at_s + limits.checkpoint_s
        stream.saving = at_s >= stream.save_due


def restore(stream: Stream, at: SourceCheckpoint) -> States:
    """Set a stream that has not begun to the checkpoint; one that had ended is done."""
    stream.info = at.info
    stream.epoch, stream.known_epoch = at.epoch, at.known_epoch
    stream.admitted, stream.last_n, stream.last_us = at.admitted, at.last_n, at.last_us
    stream.turns, stream.dropped = dict(at.turns), dict(at.dropped)
    stream.gaps = GapNotices(dict(at.gaps.unreported), dict(at.gaps.reported_s))
    stream.poisoned = at.poisoned
    stream.errors, stream.past_errors = at.errors, at.past_errors
    stream.known_zones, stream.logged = at.zones, at.logged
    if at.ending is not None:
        stream.ending, stream.done = at.ending, True
        stream.process.state = "gone"
    return {(stage, stream.name): data for stage, data in at.states.items()}


class _CheckpointFile(msgspec.Struct, frozen=True):
    epoch: str  # of the run
    sources: dict[str, SourceCheckpoint]


class CheckpointWriter:
    """Writes the checkpoints of all sources of a run to one file."""

    def __init__(self, out: Path, epoch: str, sources: Mapping[str, SourceCheckpoint]) -> None:
        self._out = out
        self._epoch = epoch
        self._sources = dict(sources)
        self._failed = False

    def save(self, source: str, at: SourceCheckpoint) -> None:
        """Replace the checkpoint of the source; a full disk does not end the run."""
        self._sources[source] = at
        data = msgspec.msgpack.encode(_CheckpointFile(self._epoch, self._sources))
        try:
            with suppress(FileNotFoundError):
                sync(self._out / f"{FILE_NAME}-wal")  # a checkpoint must not be ahead of the log
            replace(self._out / CHECKPOINT, _digest(data) + data)
        except OSError as error:
            if not self._failed:
                warn(
                    f"{self._out / CHECKPOINT} cannot be written: {error.strerror}; "
                    "the run continues without checkpoints"
                )
            self._failed = True

    def remove(self) -> None:
        """Remove the file: a run that is finished is not resumed."""
        with suppress(OSError):
            (self._out / CHECKPOINT).unlink(missing_ok=True)


def load(out: Path, epoch: str) -> dict[str, SourceCheckpoint]:
    """Read the checkpoints of the run with this epoch.

    Empty when the file is missing, of another run, or damaged; a damaged file is warned of.
    """
    path = out / CHECKPOINT
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        warn(f"{path} cannot be read: {error.strerror}; starting from the first frame")
        return {}
    digest, data = whole[:DIGEST], whole[DIGEST:]
    if _digest(data) == digest:
        with suppress(msgspec.DecodeError):
            kept = msgspec.msgpack.decode(data, type=_CheckpointFile)
            return kept.sources if kept.epoch == epoch else {}
    warn(f"{path} is damaged; starting from the first frame, which takes longer")
    return {}


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST).digest()
