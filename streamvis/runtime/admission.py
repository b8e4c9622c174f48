"""Decides when a source may send its next pictures.

A file is granted every free slot. A picture of a camera grows old in a queue, while in the decode
process a newer one would replace it. So live sources are granted, in turn, only as many slots as
the root groups can start on soon: what their workers prefetch, or what they complete in `AGE_S` if
that is more. Where each source has its worker, or its node has workers, those count.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from streamvis.runtime.dispatch import PREFETCH
from streamvis.runtime.protocol import GrantSlots
from streamvis.runtime.state import Replica, Stream, WorkerGroup

AGE_S = 0.2  # for which a frame may wait, so that a short delay of the machine drops none
IDLE_S = 0.2  # a camera that has sent nothing for this long no longer holds back others


class Node(NamedTuple):
    """The workers of a group on one node, which take the frames whose pixels are there."""

    group: int
    name: str


Taker = WorkerGroup | Replica | Node  # of frames: a worker that remembers its sources has its queue


class Turn(NamedTuple):
    """The place of a live source among those that wait for a slot; the least is served first."""

    granted: int  # slots that it has been granted and has not used
    turn: int  # of its last grant
    number: int  # of the source, in the order of the run
    source: str


class Admission:
    """Grants the free slots of the sources.

    It looks only at sources and workers that have changed, and at those whose time has come.
    """

    def __init__(self, worker_groups: Sequence[WorkerGroup], window: int) -> None:
        self._roots = [workers for workers in worker_groups if not workers.group.parents]
        self._groups = {workers.group.index: workers for workers in self._roots}
        self._window = window
        self._turn = 0  # grants to live sources so far
        self._numbers: dict[str, int] = {}  # by source
        self._live: dict[str, Stream] = {}
        self._spare: dict[Replica, tuple[int, Node | None]] = {}  # frames that a worker may have
        # beyond those it has, and its node
        self._on_node: Counter[Node] = Counter()  # workers that live
        self._rooms: dict[Taker, int] = dict.fromkeys(self._roots, 0)  # for frames, without those
        # in the queues of groups
        self._held: dict[str, tuple[tuple[Taker, ...], int]] = {}  # by live source: how much of
        # which rooms is kept for slots that it has been granted
        self._idle: deque[tuple[float, Stream]] = deque()  # times from which sources count as idle
        self._waiting: dict[tuple[Taker, ...], list[tuple[Turn, Stream]]] = {}  # heaps
        self._places: dict[str, Turn] = {}  # by source; others in the heaps count no more

    def __call__(
        self, changed: Iterable[Stream], workers: Mapping[Replica, WorkerGroup], at: float
    ) -> list[GrantSlots]:
        for replica, group in workers.items():
            if not group.group.parents:
                self._look_at_worker(replica, group, at)
        granted: list[GrantSlots] = []
        while self._idle and at >= self._idle[0][0]:
            granted += self._look_at(self._idle.popleft()[1], at)
        for stream in changed:
            granted += self._look_at(stream, at)
        if self._places:
            granted += self._shared(at)
        return granted

    def _look_at_worker(self, replica: Replica, workers: WorkerGroup, at: float) -> None:
        group = workers.group
        spare = _ahead(replica, group.worker.batch) - len(replica.queue) - replica.load
        near = group.reads_pixels and not group.stateful and replica.process.alive
        node = Node(group.index, replica.node) if near else None
        before, node_before = self._spare.get(replica, (0, None))
        self._spare[replica] = spare, node
        taker = replica if group.stateful else workers
        self._rooms[taker] = self._rooms.get(taker, 0) + spare - before
        if node_before is not None:
            self._rooms[node_before] -= before
        if node is not None:
            self._rooms[node] = self._rooms.get(node, 0) + spare
        if node != node_before:
            self._move(node_before, node, at)

    def _move(self, before: Node | None, after: Node | None, at: float) -> None:
        """Count a worker on its node; the first and the last there change who takes frames."""
        had = [node is not None and self._on_node[node] > 0 for node in (before, after)]
        if before is not None:
            self._on_node[before] -= 1
        if after is not None:
            self._on_node[after] += 1
        if had != [node is not None and self._on_node[node] > 0 for node in (before, after)]:
            for stream in self._live.values():
                self._look_at(stream, at)

    def _look_at(self, stream: Stream, at: float) -> list[GrantSlots]:
        """Note what a source holds and whether it waits; grant slots to a file."""
        number = self._numbers.setdefault(stream.name, len(self._numbers))
        window = self._window_of(stream)
        if not stream.live:
            return [self._grant(stream, window, at)] if window > 0 else []
        self._live[stream.name] = stream
        takers = self._takers(stream)
        idle = at >= stream.granted_at + IDLE_S
        held = 0 if idle else len(stream.granted)
        before = self._held.get(stream.name, ((), 0))
        if before != (takers, held):
            self._hold(*before, -1)
            self._hold(takers, held, +1)
            self._held[stream.name] = (takers, held)
        if window <= 0 or (idle and stream.granted):
            self._places.pop(stream.name, None)
            return []
        place = Turn(len(stream.granted), stream.turn, number, stream.name)
        if self._places.get(stream.name) != place or before[0] != takers:
            self._places[stream.name] = place
            heappush(self._waiting.setdefault(takers, []), (place, stream))
        return []

    def _window_of(self, stream: Stream) -> int:
        """Return how many slots the source may be granted now."""
        if not stream.free or not stream.open:
            return 0
        if (stream.saving or stream.ending is not None) and not stream.lost:
            return 0
        held = len(stream.frames_in_flight) - stream.lost  # a lost frame needs a slot again
        return self._window - len(stream.granted) - held

    def _hold(self, takers: tuple[Taker, ...], count: int, sign: int) -> None:
        for taker in takers:
            self._rooms[taker] = self._rooms.get(taker, 0) - sign * count

    def _shared(self, at: float) -> Iterator[GrantSlots]:
        """Grant slots one by one, to the source with the fewest grants that waited longest."""
        while (stream := self._next()) is not None:
            self._turn += 1
            stream.turn = self._turn
            yield self._grant(stream, 1, at)
            self._idle.append((stream.granted_at + IDLE_S, stream))
            self._look_at(stream, at)

    def _next(self) -> Stream | None:
        """Return the source that is granted the next slot, if all that take its frames have room.

        Those that take the same frames wait in one heap.
        """
        first: tuple[Turn, Stream] | None = None
        for takers, heap in list(self._waiting.items()):
            while heap and self._places.get(heap[0][0].source) is not heap[0][0]:
                heappop(heap)
            if not heap:
                del self._waiting[takers]
            elif (first is None or heap[0][0] < first[0]) and all(map(self._has_room, takers)):
                first = heap[0]
        return None if first is None else first[1]

    def _has_room(self, taker: Taker) -> bool:
        """Whether workers take another frame without letting it wait."""
        queued = 0
        if isinstance(taker, WorkerGroup):
            queued = sum(map(len, taker.queues.values()))
        elif isinstance(taker, Node):
            queued = len(self._groups[taker.group].queues.get(taker.name, ()))
        return self._rooms.get(taker, 0) > queued

    def _takers(self, stream: Stream) -> tuple[Taker, ...]:
        """Return what takes the frames of a source.

        A worker that remembers its sources has a queue of its own, and a source that has no worker
        waits. Without a worker on the source's node, all take its frames.
        """
        takers: list[Taker] = []
        for workers in self._roots:
            index = workers.group.index
            node = Node(index, stream.node)
            if (queue := stream.queues.get(index)) is not None:
                takers.append(queue.replica)
            else:
                takers.append(node if self._on_node[node] > 0 else workers)
        return tuple(takers)

    def _grant(self, stream: Stream, count: int, at: float) -> GrantSlots:
        slots, stream.free = stream.free[:count], stream.free[count:]
        stream.granted.update(slots)
        stream.granted_at = at
        return GrantSlots(stream.name, slots)


def _ahead(replica: Replica, batch: int) -> int:
    """Count the frames that a worker may have: what it prefetches, or completes soon.

    Where one batch takes as long as a frame may wait, a second one would wait too long.
    """
    if replica.process.state != "ready":
        return 0
    prefetch = PREFETCH if replica.packet_s * batch < AGE_S else 1
    soon = int(AGE_S / replica.packet_s) if replica.packet_s > 0 else 0
    return max(prefetch * batch, soon)
