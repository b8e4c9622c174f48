"""Decides when a source may send its next pictures.

A file is granted every free slot. A picture of a camera grows old in a queue, while in the decode
process a newer one would replace it. So live sources are granted, in turn, only as many slots as
the root groups can start on soon: what their workers prefetch, or what they complete in `AGE_S` if
that is more.
"""

from collections.abc import Iterator, Mapping, Sequence

from streamvis.runtime.dispatch import PREFETCH
from streamvis.runtime.protocol import GrantSlots
from streamvis.runtime.state import Stream, WorkerGroup, queue_length

AGE_S = 0.2  # for which a frame may wait, so that a short delay of the machine drops none
IDLE_S = 0.2  # a camera that has sent nothing for this long no longer holds back others


class Admission:
    """Grants the free slots of the sources."""

    def __init__(
        self, worker_groups: Sequence[WorkerGroup], streams: Mapping[str, Stream], window: int
    ) -> None:
        self._roots = [workers for workers in worker_groups if not workers.group.parents]
        self._streams = streams.values()
        self._window = window
        self._turn = 0  # grants to live sources so far

    def __call__(self, at: float) -> Iterator[GrantSlots]:
        live: list[Stream] = []
        for stream in self._streams:
            ready = stream.open and not stream.saving and stream.ending is None
            if not ready or not stream.free or self._room(stream) <= 0:
                continue
            if not stream.live:
                yield _grant(stream, self._room(stream), at)
            elif not stream.granted or at < stream.granted_at + IDLE_S:
                live.append(stream)
        yield from self._shared(live, at)

    def _room(self, stream: Stream) -> int:
        return self._window - len(stream.granted) - len(stream.frames_in_flight)

    def _shared(self, live: list[Stream], at: float) -> Iterator[GrantSlots]:
        """Grant slots one by one, to the source with the fewest grants that waited longest."""
        places = self._places(at) if live else 0
        while live and places > 0:
            stream = min(live, key=lambda stream: (len(stream.granted), stream.turn))
            self._turn += 1
            stream.turn = self._turn
            yield _grant(stream, 1, at)
            places -= 1
            if not stream.free or self._room(stream) <= 0:
                live.remove(stream)

    def _places(self, at: float) -> int:
        """Count the frames that every root group can take without letting them wait."""
        expected = sum(
            len(stream.granted)
            for stream in self._streams
            if stream.live and at < stream.granted_at + IDLE_S
        )
        return min(_room(workers) for workers in self._roots) - expected


def _room(workers: WorkerGroup) -> int:
    ready = sum(replica.process.state == "ready" for replica in workers.replicas)
    soon = int(AGE_S / workers.packet_s) if workers.packet_s > 0 else 0
    return max(PREFETCH * workers.group.worker.batch, soon) * ready - queue_length(workers)


def _grant(stream: Stream, count: int, at: float) -> GrantSlots:
    slots, stream.free = stream.free[:count], stream.free[count:]
    stream.granted.update(slots)
    stream.granted_at = at
    return GrantSlots(stream.name, slots)
