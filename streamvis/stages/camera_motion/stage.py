"""The camera motion stage, for trackers on moving cameras."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from streamvis.messages import Array, Ending, Motion, Packet, SourceInfo
from streamvis.stages.per_source import PerSource
from streamvis.stages.protocol import Site, StatefulStage
from streamvis.tracking.camera import (
    GreyFrame,
    estimate_motion,
    grey_frame,
    nothing_moved,
    small_shape,
    unknown_motion,
)


class _StoredFrame(msgspec.Struct, array_like=True):
    size: tuple[int, int]  # px of the source, width and height
    gray: bytes
    support: float = 0.0


class PreviousFrame:
    """The frame that the next one is compared with; None at first and after a restart.

    It stays as long as nothing moves, so that slow motions add up until they can be measured.
    """

    def __init__(self) -> None:
        self.grey: GreyFrame | None = None
        self.support = 0.0  # of the last motion that was estimated

    def motion_to(self, pixels: Array) -> Motion:
        """Go on to the next frame, (H, W, 3) uint8 RGB, and return the motion since this one."""
        before, after = self.grey, grey_frame(pixels)
        if before is None:
            self.grey, self.support = after, 0.0
            return unknown_motion()
        if self.support and before.size == after.size and nothing_moved(before, after):
            return Motion(warp=np.eye(2, 3), support=self.support)
        self.grey, motion = after, estimate_motion(before, after)
        self.support = motion.support
        return motion

    def restart(self) -> None:
        """Forget the frame."""
        self.grey = None

    def resize(self, width: int, height: int) -> None:
        """Forget the frame: motion is measured between frames of one size."""
        self.grey = None

    def state(self) -> bytes:
        """Return the small frame, about 60 kB."""
        grey = self.grey
        stored = grey and _StoredFrame(grey.size, grey.gray.tobytes(), self.support)
        return msgspec.msgpack.encode(stored)

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = msgspec.msgpack.decode(state, type=_StoredFrame | None)
        if was is not None:
            gray = np.frombuffer(was.gray, np.uint8).reshape(small_shape(*was.size))
            self.grey, self.support = GreyFrame(gray, was.size), was.support


class CameraStage(StatefulStage):
    """Estimate the motion from the previous frame of each source; unknown for the first."""

    def __init__(self, site: Site) -> None:
        self.pixels = site.pixels
        self.sources: PerSource[PreviousFrame] = PerSource("camera_motion")

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from `state`."""
        self.sources.begin(source, PreviousFrame(), state)

    def state(self, source: str) -> bytes:
        """Return the last small frame, about 60 kB."""
        return self.sources.state(source)

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.sources.finish(source)

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Motion]:
        for packet in packets:
            yield self.sources.at(packet.frame).motion_to(self.pixels(packet.frame))
