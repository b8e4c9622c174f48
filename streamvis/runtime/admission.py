"""Decides when a source may send its next pictures.

A file is granted every free slot. A picture of a camera grows old in a queue, while in the decode
process a newer one would replace it. So live sources are granted, in turn, only as many slots as
the root groups can start on soon: what their workers prefetch, or what they complete in `AGE_S` if
that is more. Where each source has its worker, that one counts.
"""

from collections.abc import Iterator, Mapping, Sequence

from streamvis.runtime.dispatch import PREFETCH
from streamvis.runtime.protocol import GrantSlots
from streamvis.runtime.state import Replica, Stream, WorkerGroup, queue_length

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

    def __call__(self, at: float) -> list[GrantSlots]:
        granted: list[GrantSlots] = []
        live: list[Stream] = []
        for stream in self._streams:
            if not stream.free or not stream.open:
                continue
            if (stream.saving or stream.ending is not None) and not stream.lost:
                continue
            if (room := self._room(stream)) <= 0:
                continue
            if not stream.live:
                granted.append(_grant(stream, room, at))
            elif not stream.granted or at < stream.granted_at + IDLE_S:
                live.append(stream)
        if live:
            granted += self._shared(live, at)
        return granted

    def _room(self, stream: Stream) -> int:
        held = len(stream.frames_in_flight) - stream.lost  # a lost frame needs a slot again
        return self._window - len(stream.granted) - held

    def _shared(self, live: list[Stream], at: float) -> Iterator[GrantSlots]:
        """Grant slots one by one, to the source with the fewest grants that waited longest."""
        rooms = self._rooms(at)
        waiting = [(stream, self._takers(stream)) for stream in live]
        while waiting := [one for one in waiting if all(rooms[taker] > 0 for taker in one[1])]:
            stream, takers = min(waiting, key=lambda one: (len(one[0].granted), one[0].turn))
            self._turn += 1
            stream.turn = self._turn
            yield _grant(stream, 1, at)
            for taker in takers:
                rooms[taker] -= 1
            if not stream.free or self._room(stream) <= 0:
                waiting = [one for one in waiting if one[0] is not stream]

    def _rooms(self, at: float) -> dict[int, int]:
        """Count the frames that each root group, or worker of it, takes without letting them wait.

        A worker that remembers its sources has a queue of its own.
        """
        rooms: dict[int, int] = {}
        for workers in self._roots:
            batch = workers.group.worker.batch
            rooms[id(workers)] = 0
            if workers.group.stateful:
                for one in workers.replicas:
                    rooms[id(one)] = _ahead(one, batch) - len(one.queue) - one.load
            else:
                ahead = sum(_ahead(one, batch) for one in workers.replicas)
                rooms[id(workers)] = ahead - queue_length(workers)
        for stream in self._streams:
            if stream.granted and stream.live and at < stream.granted_at + IDLE_S:
                for taker in self._takers(stream):
                    rooms[taker] -= len(stream.granted)
        return rooms

    def _takers(self, stream: Stream) -> list[int]:
        """Return the keys of `_rooms` for what takes the frames of a source."""
        takers = []
        for workers in self._roots:
            queue = stream.queues.get(workers.group.index)  # None also where no worker is left
            takers.append(id(workers) if queue is None else id(queue.replica))
        return takers


def _ahead(replica: Replica, batch: int) -> int:
    """Count the frames that a worker may have: what it prefetches, or completes soon.

    Where one batch takes as long as a frame may wait, a second one would wait too long.
    """
    if replica.process.state != "ready":
        return 0
    prefetch = PREFETCH if replica.packet_s * batch < AGE_S else 1
    soon = int(AGE_S / replica.packet_s) if replica.packet_s > 0 else 0
    return max(prefetch * batch, soon)


def _grant(stream: Stream, count: int, at: float) -> GrantSlots:
    slots, stream.free = stream.free[:count], stream.free[count:]
    stream.granted.update(slots)
    stream.granted_at = at
    return GrantSlots(stream.name, slots)
