"""The interface of sources: pictures with their times."""

from collections.abc import Iterator
from typing import Literal, Protocol

import msgspec
import numpy as np

from streamvis.messages import Clock, SourceInfo

Ended = Literal["eof", "lost", "timeout"]  # lost: the connection or disk failed; a file ends by eof


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One decoded picture and its times."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright; perhaps a strided view: copy it once
    n: int  # number in the source, from 0; a jump means pictures that could not be decoded
    media_us: int  # strictly increasing, 0 for the first picture
    capture_us: int = 0  # wall clock, microseconds since 1970; 0: unknown
    clock: Clock = "file"


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
