"""What the hub and its processes say to each other: a small header, then opaque blobs.

Blobs are encoded parts. The header tells whose they are; the hub never looks into them.
"""

from typing import Literal

import msgspec

from streamvis.config import Pipeline
from streamvis.messages import Clock, Ending, Findings, Frame, Logged, Notice, SourceInfo
from streamvis.sources.spec import SourceSpec


class BeginItem(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """Before the first item of a source: what it is, and the states to resume from."""

    info: SourceInfo
    states: dict[str, bytes]  # by stage


class FrameItem(msgspec.Struct, frozen=True, array_like=True, tag="task"):
    """One packet; its parts are the next `len(parts)` blobs."""

    frame: Frame
    skip: list[str] = []  # stages of the worker that do not run for this frame
    parts: list[str] = []  # the stages that wrote them


class NoticeItem(msgspec.Struct, frozen=True, array_like=True, tag="tell"):
    notice: Notice


class EndItem(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    source: str
    ending: Ending


Item = BeginItem | FrameItem | NoticeItem | EndItem


class Setup(msgspec.Struct, frozen=True, array_like=True, tag="setup"):
    """What a stage worker is to build."""

    pipeline: Pipeline
    stages: list[str]
    build: str  # "module:function"
    device: str
    fallback: Literal["cpu"] | None
    out: str | None
    epoch: str
    logged: dict[str, Logged] = {}


class Work(msgspec.Struct, frozen=True, array_like=True, tag="work"):
    id: int
    items: list[Item]


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """What a decode process is to open, and where to go on."""

    spec: SourceSpec
    opener: str  # "module:function"
    epoch: int
    after_n: int  # pictures up to this one were admitted before; -1: none


class SlotGrant(msgspec.Struct, frozen=True, array_like=True, tag="credit"):
    slots: list[str]
    size: int  # bytes of each slot


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    pass


ToProcess = Setup | Work | Open | SlotGrant | Stop


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    pass


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    pass


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """What was asked for cannot be built, opened or done, and trying again would not help."""

    error: str  # the class in errors.py
    message: str


class StageTime(msgspec.Struct, frozen=True, array_like=True):
    stage: str
    packets: int
    seconds: float  # of the one call with all of them


class StageState(msgspec.Struct, frozen=True, array_like=True):
    stage: str
    source: str
    data: bytes


class Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """All of a `Work` at once, so that results and states never disagree."""

    id: int
    wrote: list[list[str]]  # for each task the stages that ran; their parts follow as blobs
    states: list[StageState]
    spent: list[StageTime]
    found: dict[str, Findings] = {}  # by source that has ended


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    info: SourceInfo


class SizeChanged(msgspec.Struct, frozen=True, array_like=True, tag="sized"):
    """The pictures have another size now: the slots granted so far do not fit."""

    width: int
    height: int


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Pictures of the source that will not come."""

    reason: str  # overload, drained: decoded, then dropped; decode: could not be decoded
    count: int
    first_n: int
    last_n: int


class DecodedFrame(msgspec.Struct, frozen=True, array_like=True, tag="shot"):
    """One picture, written to its slot."""

    slot: str
    n: int
    media_us: int
    capture_us: int
    clock: Clock
    width: int
    height: int
    errors: int
    gaps: list[Gap] = []  # just before it


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    ending: Ending
    errors: int
    gaps: list[Gap] = []
    message: str = ""  # why it failed


FromProcess = Hello | Ready | Refused | Answer | Opened | SizeChanged | DecodedFrame | Ended

encode = msgspec.msgpack.Encoder().encode
decode_to_process = msgspec.msgpack.Decoder(ToProcess).decode
decode_from_process = msgspec.msgpack.Decoder(FromProcess).decode
