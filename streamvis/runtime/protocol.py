"""The vocabulary of a run: messages between its processes, and facts and orders of the core.

A message is a small header and opaque blobs. Blobs are encoded parts; the hub never decodes them.
A fact is what happened, an input of `routing.Core`: most facts are a message that was received.
An order is what the core asks the shell (`hub` or `inline`) to do.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from streamvis.config import Pipeline
from streamvis.messages import (
    Clock,
    Ending,
    Findings,
    Frame,
    Notice,
    SourceGauges,
    SourceInfo,
    StageRun,
)
from streamvis.runtime.gaps import Gap, GapNotices
from streamvis.runtime.reconnect import Reconnect
from streamvis.runtime.supervision import KillProcess, StartProcess, StopProcess
from streamvis.sources.picture import StreamStats
from streamvis.sources.spec import SourceSpec
from streamvis.stages.protocol import LogPosition
from streamvis.zone_layout import ZoneLayout

# Messages from the hub to a process


class BeginItem(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """A source begins: its description, and the states to resume from."""

    info: SourceInfo
    states: dict[str, bytes]  # by stage


class FrameItem(msgspec.Struct, frozen=True, array_like=True, tag="frame"):
    """A frame to process; its parts are the next `len(parts)` blobs."""

    frame: Frame
    skip: list[str] = []  # stages of the worker that do not run for this frame
    parts: list[str] = []  # the stages that wrote them
    ran: dict[str, StageRun] = {}  # by stage, if a stage of the pipeline reads it


class NoticeItem(msgspec.Struct, frozen=True, array_like=True, tag="notice"):
    """A notice for the stateful stages: a gap, or a new stream epoch."""

    notice: Notice


class EndItem(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """A source has ended; nothing of it follows."""

    source: str
    ending: Ending


Item = BeginItem | FrameItem | NoticeItem | EndItem


class Setup(msgspec.Struct, frozen=True, array_like=True, tag="setup"):
    """Have a worker build its stages."""

    pipeline: Pipeline
    stages: list[str]
    build: str  # "module:function"
    device: str
    fallback: Literal["cpu"] | None
    out: str | None
    epoch: str
    logged: dict[str, LogPosition] = {}
    live: bool = False  # a source may be live


class Work(msgspec.Struct, frozen=True, array_like=True, tag="work"):
    """One batch for a worker, which replies with an `Answer` of the same id."""

    id: int
    items: list[Item]


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """Have a decode process open its source."""

    spec: SourceSpec
    opener: str  # "module:function"
    epoch: int
    after_n: int  # the number of the last picture admitted before; -1: none
    last_us: int = -1  # media time of the last frame admitted before, in any epoch; -1: none
    zero_s: float | None = None  # of a live source: time.monotonic() at media time 0


class CutClip(msgspec.Struct, frozen=True, array_like=True, tag="cut"):
    """Have a decode process record a clip around an event."""

    event: str  # its id
    kind: str  # its type, such as action.begin
    media_us: int


class TakePicture(msgspec.Struct, frozen=True, array_like=True, tag="picture"):
    """Have a decode process send its next pictures as JPEG, too."""

    count: int = 1  # so many from now on, unless more were asked for before


class SlotGrant(msgspec.Struct, frozen=True, array_like=True, tag="slots"):
    """Slots that a decode process may write one picture each into."""

    slots: list[str]
    size: int  # bytes of each slot


class MakeSlots(msgspec.Struct, frozen=True, array_like=True, tag="make"):
    """Have a decode process on another node make its slots there, and answer with `SlotsMade`."""

    count: int
    size: int  # bytes of each
    what: str  # what they are for, in an error


class Resume(msgspec.Struct, frozen=True, array_like=True, tag="resume"):
    """Have a worker that has sent `PixelsMissing` take work again: what follows was sent after."""


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """Have the process finish and exit."""


ToProcess = Setup | Work | Open | CutClip | TakePicture | SlotGrant | MakeSlots | Resume | Stop

# Messages from a process to the hub


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """The process has started: a worker waits for `Setup`, a decode process for `Open`."""

    node: str = ""  # on which it runs; empty: on the hub's


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The worker has built its stages."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """Stages cannot be built or cannot continue, or a source cannot be opened; a restart would
    not help."""

    error: str  # the class in errors.py
    message: str


class StageTime(msgspec.Struct, frozen=True, array_like=True):
    """The duration of one call of a stage."""

    stage: str
    packets: int
    seconds: float
    gated: int = 0  # of the packets, those that its gate kept from its network


class StageState(msgspec.Struct, frozen=True, array_like=True):
    """The state of a stage after a batch, from which a successor resumes."""

    stage: str
    source: str
    data: bytes


class ClipRequest(msgspec.Struct, frozen=True, array_like=True):
    """An event of which a clip is wanted."""

    source: str
    clip: CutClip


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """The whole result of a `Work`, so that parts and states are always consistent."""

    id: int
    wrote: list[list[str]]  # for each frame the stages that ran; their parts follow as blobs
    states: list[StageState]
    times: list[StageTime]
    findings: dict[str, Findings] = {}  # by source that has ended
    clips: list[ClipRequest] = []
    ran: list[dict[str, StageRun]] = []  # for each frame, by stage; none if no stage reads it


class PixelsMissing(msgspec.Struct, frozen=True, array_like=True, tag="missing"):
    """The pixels of frames of a `Work` cannot be read, so none of its stages has run.

    The worker ignores work until `Resume`.
    """

    id: int  # of the work
    slots: list[str]  # of these frames


class PixelsReceived(msgspec.Struct, frozen=True, array_like=True, tag="received"):
    """Pixels have come from other nodes since the last such message."""

    frames: int
    size: int  # bytes


class ClientsRefused(msgspec.Struct, frozen=True, array_like=True, tag="clients_refused"):
    """Connections to a stage that were refused since the last such message."""

    counts: dict[str, int]  # by reason


class Gauges(msgspec.Struct, frozen=True, array_like=True, tag="gauges"):
    """The present numbers of zones and lines, where they are others than in the last message."""

    sources: dict[str, SourceGauges]


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """The source is open."""

    info: SourceInfo


class Waiting(msgspec.Struct, frozen=True, array_like=True, tag="waiting"):
    """The source is connected, but there is no picture yet."""

    reason: str


class Silence(msgspec.Struct, frozen=True, array_like=True, tag="silence"):
    """Nothing has arrived from the source for a while, or it goes on after such a time."""

    over: bool
    seconds: float


class Measured(msgspec.Struct, frozen=True, array_like=True, tag="measured"):
    """What was measured of a live stream; sent about once a second."""

    stats: StreamStats


class ClipSaved(msgspec.Struct, frozen=True, array_like=True, tag="saved"):
    """A clip around an event is complete."""

    event: str  # its id
    path: str  # relative to the output directory


class PictureTaken(msgspec.Struct, frozen=True, array_like=True, tag="taken"):
    """A picture that was asked for, after privacy masks; it follows its `DecodedFrame`."""

    jpeg: bytes
    n: int
    media_us: int
    capture_us: int
    width: int  # of the source's picture, before it was made smaller
    height: int


class SizeChanged(msgspec.Struct, frozen=True, array_like=True, tag="size"):
    """The pictures no longer fit the slots granted so far."""

    width: int
    height: int


class SlotsMade(msgspec.Struct, frozen=True, array_like=True, tag="made"):
    """The slots that `MakeSlots` asked for."""

    slots: list[str]
    size: int


class DecodedFrame(msgspec.Struct, frozen=True, array_like=True, tag="decoded"):
    """A picture has been written to its slot."""

    slot: str
    n: int
    media_us: int
    capture_us: int
    clock: Clock
    width: int
    height: int
    errors: int
    gaps: list[Gap] = []  # just before it
    suspect: bool = False
    restarted: bool = False  # time stamps began anew: it is the first of another stream epoch
    arrived_s: float | None = None  # time.monotonic() when it arrived; None: just now


class SourceEnded(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """No more pictures follow."""

    ending: Ending
    errors: int = 0
    gaps: list[Gap] = []
    message: str = ""  # why it failed
    error: str = "SourceError"  # the class in errors.py, if it failed
    promised: int | None = None  # frames, where the file turned out to hold fewer


FromProcess = (
    Hello
    | Ready
    | Refused
    | Answer
    | PixelsMissing
    | PixelsReceived
    | ClientsRefused
    | Gauges
    | Opened
    | Waiting
    | Silence
    | Measured
    | ClipSaved
    | PictureTaken
    | SizeChanged
    | SlotsMade
    | DecodedFrame
    | SourceEnded
)

encode = msgspec.msgpack.Encoder().encode
decode_to_process = msgspec.msgpack.Decoder(ToProcess).decode
decode_from_process = msgspec.msgpack.Decoder(FromProcess).decode

# Facts


class Received(msgspec.Struct, frozen=True):
    """A message has arrived from a process."""

    process: str
    message: FromProcess
    at: float
    blobs: Sequence[Any] = ()  # parts, encoded or not: the core only passes them on


class SlotsCreated(msgspec.Struct, frozen=True):
    """The source has these slots from now on; those of before come back one by one."""

    source: str
    slots: Sequence[str]
    at: float


class PixelsLost(msgspec.Struct, frozen=True):
    """Segments of the source are gone, with the process or the node that held them."""

    source: str
    segments: frozenset[str]
    at: float


class ProcessExited(msgspec.Struct, frozen=True):
    """The process is gone, and no message of it can arrive any more."""

    process: str
    reason: str  # empty when it ended in good order
    at: float


class Heartbeat(msgspec.Struct, frozen=True):
    """The process is alive."""

    process: str
    at: float


class Drain(msgspec.Struct, frozen=True):
    """Admit no more frames, finish those that workers have begun, then end."""

    at: float


class AddSource(msgspec.Struct, frozen=True):
    """A source joins the run; one of this name that has ended begins another stream epoch."""

    source: str
    reconnect: Reconnect | None  # None: it is not connected again when it is lost
    at: float
    label: str = ""  # where it comes from, without credentials
    zones: ZoneLayout | None = None  # None: the pipeline counts none


class RemoveSource(msgspec.Struct, frozen=True):
    """The source leaves the run: what is in flight is finished, then it ends."""

    source: str
    at: float


class RestartSource(msgspec.Struct, frozen=True):
    """Close the source and connect to it again at once, perhaps with other settings."""

    source: str
    at: float
    reconnect: Reconnect | None = None  # None: as before
    label: str = ""


class SetZones(msgspec.Struct, frozen=True):
    """The source has other zones and lines from the next frame on."""

    source: str
    zones: ZoneLayout
    at: float


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""

    at: float


Fact = (
    Received
    | SlotsCreated
    | PixelsLost
    | ProcessExited
    | Heartbeat
    | Drain
    | AddSource
    | RemoveSource
    | RestartSource
    | SetZones
    | Tick
)

# Orders


class OpenSource(msgspec.Struct, frozen=True):
    """Have the decode process open its source and continue after picture `after_n`."""

    source: str
    epoch: int
    after_n: int
    last_us: int = -1  # as in `Open`
    zero_s: float | None = None


class SendClip(msgspec.Struct, frozen=True):
    """Have the decode process of the source record a clip."""

    source: str
    clip: CutClip


Level = Literal["info", "warning", "error"]


class LogEntry(msgspec.Struct, frozen=True):
    """Log a change for those who operate the run: a restart, a kill, a lost camera, a burst."""

    event: str  # such as "source offline"
    fields: dict[str, Any]  # source or process, reason, …
    level: Level = "warning"


class GrantSlots(msgspec.Struct, frozen=True):
    source: str
    slots: list[str]


class FreeSlot(msgspec.Struct, frozen=True):
    """A slot from before the last `SlotsCreated` is not needed any more."""

    source: str
    slot: str


class SendWork(msgspec.Struct, frozen=True):
    """Send a batch to a worker."""

    process: str
    id: int
    items: list[Item]
    blobs: list[Any]


class ResumeWorker(msgspec.Struct, frozen=True):
    """Have a worker that missed pixels take work again."""

    process: str


class FrameCompleted(msgspec.Struct, frozen=True):
    """Count a frame that every leaf has answered, or that was given up."""

    frame: Frame
    parts: dict[str, Any]  # by the stage that wrote it
    skipped: tuple[str, ...]
    poison: bool  # given up, since workers died while processing it
    seconds: float  # since its admission
    dropped: bool = False  # given up, since the run is drained


class SourceCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a source with every admitted frame answered and none in flight."""

    info: SourceInfo | None
    epoch: int  # stream epoch
    known_epoch: int  # the stream epoch that the stages have a notice of
    admitted: int
    last_n: int
    last_us: int
    turns: dict[str, int] = {}  # stages with every_s: the interval of their last run
    states: dict[str, bytes] = {}  # by stage
    poisoned: int = 0
    dropped: dict[str, int] = {}
    gaps: GapNotices = msgspec.field(default_factory=GapNotices)
    errors: int = 0
    past_errors: int = 0
    ending: Ending | None = None
    zones: ZoneLayout | None = None  # that the stages know
    logged: int = -1  # seq of the last frame in the log; zones do not change for those up to it

    @property
    def at(self) -> tuple[int, int]:
        """Stream epoch and seq of the last frame."""
        return self.epoch, self.admitted - 1


class SaveCheckpoint(msgspec.Struct, frozen=True):
    """Save the state of a source, from which a killed run resumes."""

    source: str
    checkpoint: SourceCheckpoint


class FailRun(msgspec.Struct, frozen=True):
    """The run cannot continue."""

    error: str  # the class in errors.py
    message: str


Order = (
    StartProcess
    | StopProcess
    | KillProcess
    | OpenSource
    | SendClip
    | LogEntry
    | GrantSlots
    | FreeSlot
    | SendWork
    | ResumeWorker
    | FrameCompleted
    | SaveCheckpoint
    | FailRun
)
