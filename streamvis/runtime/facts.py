"""What can happen to a run, and what can be done about it: the language of `routing`."""

from collections.abc import Sequence
from typing import Any

import msgspec

from streamvis.messages import Ending, Frame, SourceInfo
from streamvis.runtime.checkpoint import SourceCheckpoint
from streamvis.runtime.supervision import KillProcess, StartProcess, StopProcess
from streamvis.runtime.wire import Answer, DecodedFrame, Gap, Item


class Joined(msgspec.Struct, frozen=True):
    """A process is ready for work: stages built, or decode up."""

    process: str
    at: float


class Opened(msgspec.Struct, frozen=True):
    source: str
    info: SourceInfo
    at: float


class SlotsCreated(msgspec.Struct, frozen=True):
    """The source has these slots from now on; those of before come back one by one."""

    source: str
    slots: Sequence[str]
    at: float


class Admitted(msgspec.Struct, frozen=True):
    source: str
    decoded: DecodedFrame
    at: float


class Answered(msgspec.Struct, frozen=True):
    process: str
    answer: Answer
    blobs: Sequence[Any]  # parts, encoded or not: they are only passed on
    at: float


class SourceEnded(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    ending: Ending
    at: float
    errors: int = 0
    gaps: Sequence[Gap] = ()
    error: str = "SourceError"  # the class in errors.py, when it failed
    message: str = ""


class Refused(msgspec.Struct, frozen=True):
    """The stages of the seat cannot be built, or cannot go on."""

    process: str
    error: str
    message: str
    at: float


class ProcessExited(msgspec.Struct, frozen=True):
    """The process of the seat is gone for certain; nothing of it can arrive any more."""

    process: str
    reason: str
    at: float


class Heartbeat(msgspec.Struct, frozen=True):
    process: str
    at: float


class Drain(msgspec.Struct, frozen=True):
    """Admit nothing more; finish what workers have begun, then end."""

    at: float


class Tick(msgspec.Struct, frozen=True):
    at: float


Fact = (
    Joined
    | Opened
    | SlotsCreated
    | Admitted
    | Answered
    | SourceEnded
    | Refused
    | ProcessExited
    | Heartbeat
    | Drain
    | Tick
)


class OpenSource(msgspec.Struct, frozen=True):
    """Have the decode process open its source and go on after picture `after_n`."""

    source: str
    epoch: int
    after_n: int


class GrantSlots(msgspec.Struct, frozen=True):
    source: str
    slots: list[str]


class FreeSlot(msgspec.Struct, frozen=True):
    """A slot from before the source was given others is not needed any more."""

    source: str
    slot: str


class Send(msgspec.Struct, frozen=True):
    process: str
    id: int
    items: list[Item]
    blobs: list[Any]


class Completed(msgspec.Struct, frozen=True):
    """Every leaf has answered for this frame, or it was given up."""

    frame: Frame
    parts: dict[str, Any]  # by the stage that wrote it
    skipped: tuple[str, ...]
    poison: bool  # given up: workers died of it
    seconds: float  # since its admission
    dropped: bool = False  # given up: the run is drained


class Checkpoint(msgspec.Struct, frozen=True):
    """Keep where the source stands: a run that is killed goes on from there."""

    source: str
    saved: SourceCheckpoint


class Fail(msgspec.Struct, frozen=True):
    """The run cannot go on."""

    error: str  # the class in errors.py
    message: str


Order = (
    StartProcess
    | StopProcess
    | KillProcess
    | OpenSource
    | GrantSlots
    | FreeSlot
    | Send
    | Completed
    | Checkpoint
    | Fail
)
