"""The interface of sources: pictures with their times."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np

from streamvis.errors import SourceError
from streamvis.messages import Clock, Ending, SourceInfo

if TYPE_CHECKING:  # which needs PyAV
    from streamvis.recording.recorder import Recorder

Ended = Literal["eof", "lost", "timeout"]  # lost: the connection or disk failed; a file ends by eof


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One decoded picture and its times."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright; perhaps a strided view: copy it once
    n: int  # number in the source, from 0; a jump means pictures that could not be decoded
    media_us: int  # strictly increasing, 0 for the first picture
    capture_us: int = 0  # wall clock, microseconds since 1970; 0: unknown
    clock: Clock = "file"
    suspect: bool = False  # data was lost since the last key frame: it may be grey or smeared
    restarted: bool = False  # the time stamps of a live source began anew: another stream epoch
    stamp: int | None = None  # of a video, as its container has it, ticks
    key: bool = False  # of a video: it was decoded without others


Skip = Literal["none", "nonref", "nonkey"]  # what is skipped before it is decoded
Waiting = Callable[
    [str], None
]  # called, about once a second, with the reason why an open source has no picture yet


class StreamStats(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a live stream so far."""

    fps: float = 0.0  # pictures that arrived in a second, over the last ten seconds or so
    key_fps: float = 0.0  # key frames that arrived in a second, over the last minute or so
    skipped: int = 0  # pictures that were skipped before decoding
    suspect: int = 0  # pictures that were given as suspect
    offset_us: int | None = None  # arrival − capture time by RTCP; None: no sender reports
    drift_ppm: float | None = None  # of the camera's time stamps against the clock of this machine
    recorded_bytes: int = 0  # in segments and clips


class Source(Protocol):
    """An open source: one stream epoch. Iterate once, then read `ended`; always close it."""

    @property
    def info(self) -> SourceInfo:
        """Size, frame rate and name, known from the first picture."""

    @property
    def errors(self) -> int:
        """How many packets or pictures could not be decoded so far."""

    @property
    def ended(self) -> Ended | None:
        """Why the pictures stopped; None before that."""

    def __iter__(self) -> Iterator[Picture]: ...

    def close(self) -> None:
        """Release all resources; may be called twice."""


@runtime_checkable
class LiveSource(Source, Protocol):
    """A live source that says how it fares; others are only iterated.

    `skip` is set between two pictures, by the thread that iterates; the rest may be read by
    another.
    """

    skip: Skip

    @property
    def silent_s(self) -> float:
        """For how long no packet of the video has arrived."""

    @property
    def stats(self) -> StreamStats: ...


@runtime_checkable
class RecordedSource(Source, Protocol):
    """A source whose packets may be recorded."""

    recorder: "Recorder | None"


def ending_of(source: Source) -> tuple[Ending, str]:
    """Return whether the end of the pictures is the end of the source, and otherwise the fault."""
    why = {"lost": "was lost", "timeout": "sent nothing until the read timeout"}.get(
        source.ended or "eof"
    )
    return ("failed", f"source '{source.info.label}' {why}") if why else ("eof", "")


def whole(source: Source) -> Iterator[Picture]:
    """Yield all pictures of a source; SourceError where they stop before its end.

    For scores and training data, for which a part must not be taken for the whole.
    """
    count = 0
    for count, picture in enumerate(source, 1):  # noqa: B007 - read after the loop
        yield picture
    ending, fault = ending_of(source)
    if ending == "failed":
        raise SourceError(
            f"{fault} after {count} pictures, before its end; check its disk or connection, and "
            "start again"
        )
