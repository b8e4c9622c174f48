"""What a stateful stage keeps of each source, by the source's stream epoch and frame size."""

from typing import Generic, Protocol, TypeVar

import msgspec

from streamvis.errors import DataError, RunError
from streamvis.messages import Frame, SourceInfo


class Restorable(Protocol):
    """What a stage keeps of one source."""

    def restart(self) -> None:
        """Start over: the next frame is the first of another stream epoch."""

    def resize(self, width: int, height: int) -> None:
        """Change to the size of the next frame."""

    def state(self) -> bytes:
        """Return the state from which `restore` continues exactly."""

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError, DataError or DecodeError on anything else."""


S = TypeVar("S", bound=Restorable)
Seen = tuple[int, tuple[int, int]]  # stream epoch of the last frame; its width and height


class PerSource(Generic[S]):
    """Keeps an S for each source that has begun, and restarts or resizes it as frames require."""

    def __init__(self, kind: str) -> None:
        self._kind = kind  # of the stage, for errors
        self._kept: dict[str, S] = {}
        self._seen: dict[str, Seen] = {}

    def begin(self, source: SourceInfo, new: S, state: bytes | None) -> None:
        """Start a source with `new`, after restoring that from `state`; DataError if it is none."""
        seen = (source.epoch, (source.width, source.height))
        if state is not None:
            try:
                seen, own = _decoder.decode(state)
                new.restore(own)
            except (DataError, ValueError, msgspec.DecodeError) as error:
                raise DataError(
                    f"source {source.id}: not the state of a stage of kind {self._kind} "
                    f"({len(state)} bytes): {error}. Run all workers with the same version"
                ) from None
        self._kept[source.id], self._seen[source.id] = new, seen

    def state(self, source: str) -> bytes:
        """Return the state from which `begin` continues exactly."""
        own = self[source].state()
        return msgspec.msgpack.encode((self._seen[source], own))

    def finish(self, source: str) -> None:
        """Forget a source that has ended."""
        self._kept.pop(source, None)
        self._seen.pop(source, None)

    def at(self, frame: Frame) -> S:
        """Return what is kept of the frame's source, restarted or resized first if necessary."""
        kept, size = self[frame.source], (frame.width, frame.height)
        epoch, before = self._seen[frame.source]
        if frame.epoch != epoch:
            kept.restart()
        if size != before:
            kept.resize(*size)
        self._seen[frame.source] = (frame.epoch, size)
        return kept

    def __getitem__(self, source: str) -> S:
        if source not in self._kept:
            raise RunError(
                f"a stage of kind {self._kind} got source '{source}', which has not begun or has "
                f"ended; call `begin` first. Begun: {', '.join(self._kept) or 'none'}"
            )
        return self._kept[source]


_decoder = msgspec.msgpack.Decoder(tuple[Seen, bytes])
