"""The camera motion stage, for trackers on moving cameras."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.messages import Ending, Frame, Motion, Notice, Packet, SourceInfo
from streamvis.stages.protocol import Site
from streamvis.tracking.camera import (
    GreyFrame,
    estimate_motion,
    grey_frame,
    small_shape,
    unknown_motion,
)


class _StoredCamera(msgspec.Struct, array_like=True):
    """The state from which a successor continues: the last frame, small and grey."""

    epoch: int
    size: tuple[int, int] | None  # of the source; None: nothing has been seen yet
    gray: bytes


class CameraStage:
    """Estimate the motion from the previous frame of each source; unknown for the first."""

    def __init__(self, site: Site) -> None:
        self.pixels = site.pixels
        self.last: dict[str, GreyFrame | None] = {}
        self.epochs: dict[str, int] = {}  # the stream epoch of each source's last picture

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from `state`."""
        if state is None:
            self.epochs[source.id], self.last[source.id] = source.epoch, None
        else:
            self.epochs[source.id], self.last[source.id] = _unpacked(source.id, state)

    def state(self, source: str) -> bytes:
        """The stream epoch and the last small picture, about 60 kB."""
        epoch, view = self.epochs[source], self.last[source]
        state = _StoredCamera(epoch, view and view.size, view.gray.tobytes() if view else b"")
        return msgspec.msgpack.encode(state)

    def notice(self, notice: Notice) -> None:
        """Notices are ignored: motion is measured across gaps too."""

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.last.pop(source, None)
        self.epochs.pop(source, None)

    def close(self) -> None:
        """There are no resources to release."""

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Motion]:
        for packet in packets:
            frame = packet.frame
            before, now = self._before(frame), grey_frame(self.pixels(frame))
            self.last[frame.source] = now
            yield unknown_motion() if before is None else estimate_motion(before, now)

    def _before(self, frame: Frame) -> GreyFrame | None:
        """The picture before this one in the same stream epoch."""
        if frame.epoch != self.epochs[frame.source]:
            self.epochs[frame.source] = frame.epoch
            return None
        return self.last[frame.source]


def _unpacked(source: str, state: bytes) -> tuple[int, GreyFrame | None]:
    """The epoch and the picture that `state` holds; DataError when it is no such thing."""
    try:
        was = msgspec.msgpack.decode(state, type=_StoredCamera)
        if was.size is None:
            return was.epoch, None
        gray = np.frombuffer(was.gray, np.uint8).reshape(small_shape(*was.size))
    except (msgspec.DecodeError, ValueError) as error:
        raise DataError(
            f"source {source}: not the state of a camera stage ({len(state)} bytes): {error}"
        ) from None
    return was.epoch, GreyFrame(gray, was.size)
