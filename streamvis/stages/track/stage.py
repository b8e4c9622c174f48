"""The tracking stage: a tracker for each source."""

from collections.abc import Iterator, Sequence

from streamvis.errors import DataError
from streamvis.messages import (
    Detections,
    Embeddings,
    Ending,
    Frame,
    Motion,
    Notice,
    Packet,
    SourceInfo,
    Tracks,
)
from streamvis.stages.track import Jipda
from streamvis.tracking.tracker import Tracker

EPOCH_BYTES = 8


class TrackStage:
    """Track the people of every source; predict through frames without detections."""

    def __init__(self, config: Jipda) -> None:
        self.config = config
        self.trackers: dict[str, Tracker] = {}
        self.epochs: dict[str, int] = {}  # the stream epoch that each tracker is in

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from `state`."""
        if state is None:
            self.trackers[source.id] = Tracker(source, self.config)
            self.epochs[source.id] = source.epoch
            return
        if len(state) < EPOCH_BYTES:
            raise DataError(f"source {source.id}: not the state of a tracker: {len(state)} bytes")
        self.epochs[source.id] = int.from_bytes(state[:EPOCH_BYTES], "big")
        self.trackers[source.id] = Tracker.resume(source, self.config, state[EPOCH_BYTES:])

    def state(self, source: str) -> bytes:
        """The stream epoch, then the tracker's state."""
        return self.epochs[source].to_bytes(EPOCH_BYTES, "big") + self.trackers[source].state()

    def notice(self, notice: Notice) -> None:
        """Notices are ignored: frames carry their time and stream epoch."""

    def finish(self, source: str, ending: Ending) -> None:
        """Forget a source that has ended."""
        self.trackers.pop(source, None)
        self.epochs.pop(source, None)

    def close(self) -> None:
        """There are no resources to release."""

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Tracks]:
        for packet in packets:
            tracker = self._tracker(packet.frame)
            detections, media_us = packet.part(Detections), packet.frame.media_us
            motion = packet.part(Motion)
            if detections is None:
                yield tracker.coast(media_us, motion)
            else:
                yield tracker.update(detections, media_us, packet.part(Embeddings), motion)

    def _tracker(self, frame: Frame) -> Tracker:
        """The frame's tracker, restarted or resized first when stream epoch or size changed."""
        tracker = self.trackers[frame.source]
        if frame.epoch != self.epochs[frame.source]:
            self.epochs[frame.source] = frame.epoch
            tracker.restart()
        if (frame.width, frame.height) != tracker.size:
            tracker.resize(frame.width, frame.height)
        return tracker
