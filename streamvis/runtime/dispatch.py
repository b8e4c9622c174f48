"""Decides which queued jobs form a batch, and when it is sent to which worker."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from streamvis.runtime.plan import Group
from streamvis.runtime.protocol import Answer, BeginItem, FrameItem, Item, SendWork
from streamvis.runtime.state import Batch, Job, Replica, Stream, WorkerGroup

PREFETCH = 2  # batches with a worker: one in work and one waiting, so that it is never idle


class Dispatch:
    """Sends the queued jobs of a group to its workers, as far as they have room."""

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self.states: dict[tuple[str, str], bytes] = {}  # (stage, source) -> from the last answer
        self.sent_to: dict[Replica, WorkerGroup] = {}  # workers since admission looked at them
        self._streams = streams
        self._batches = 0

    def __call__(
        self, workers: WorkerGroup, at: float, replica: Replica | None = None
    ) -> Iterator[SendWork]:
        """Send what is queued for a group; of a stateful one, what is queued for one worker."""
        if replica is not None:
            while send := self._send(workers, replica, replica.queue, at):
                yield send
            return
        for node, queue in workers.queues.items():
            while queue and (ready := [r for r in workers.takers(node) if _has_room(r)]):
                replica = min(ready, key=lambda r: r.load)
                send = self._send(workers, replica, queue, at)
                if send is None:
                    break
                yield send

    def _send(
        self, workers: WorkerGroup, replica: Replica, queue: deque[Job], at: float
    ) -> SendWork | None:
        """Build the next batch, if the worker has room.

        For a worker that is busy a batch is built once it is full. For an idle one also when it is
        overdue, or when packets come too seldom to fill it in time.
        """
        if not queue or replica.process.state != "ready" or len(replica.sent) >= PREFETCH:
            return None
        jobs, packets, full = _next_batch(queue, workers.group.worker.batch)
        before = replica.sent[-1].jobs if replica.sent else []
        if before and (jobs[0].deaths or before[0].deaths):
            return None  # if the worker died now, two batches could be the cause
        wait_s = jobs[0].since + workers.wait_s - at
        if not full and (replica.sent or (wait_s > 0 and workers.may_fill(packets, wait_s))):
            return None
        for _ in jobs:
            queue.popleft()
        items: list[Item] = []
        blobs: list[Any] = []
        begun = set(replica.begun)
        for job in jobs:
            self._pack(workers.group, replica, job, items, blobs)
        self._batches += 1
        begins = sorted(replica.begun - begun)
        replica.sent.append(Batch(self._batches, jobs, packets, at, begins))
        replica.load += packets
        self.sent_to[replica] = workers
        return SendWork(replica.process.name, self._batches, items, blobs)

    def _pack(
        self, group: Group, replica: Replica, job: Job, items: list[Item], blobs: list[Any]
    ) -> None:
        job.out = True
        if group.stateful and job.source not in replica.begun:
            replica.begun.add(job.source)
            items.append(self._begin(group, job.source))
        if job.item is not None:
            items.append(job.item)
        if (in_flight := job.in_flight) is not None:
            in_flight.out += 1
            in_flight.begun = True
            parts = [name for name in group.inputs if name in in_flight.parts]
            blobs += [in_flight.parts[name] for name in parts]
            skip = [name for name in in_flight.skip if name in group.names]
            items.append(FrameItem(in_flight.frame, skip, parts, in_flight.ran))

    def _begin(self, group: Group, source: str) -> BeginItem:
        stream = self._streams[source]
        keys = [(stage, source) for stage in group.stateful if (stage, source) in self.states]
        info = stream.known
        if stream.reconnect is not None and group.follows_status and not keys:
            # the notice that it is online comes in its turn
            info = msgspec.structs.replace(info, width=0, height=0, epoch=stream.epoch)
        return BeginItem(info, {key[0]: self.states[key] for key in keys})


def waiting(workers: WorkerGroup) -> Iterable[Job]:
    """Yield the first job of each queue whose worker is idle until the batch fills up."""
    if workers.group.stateful:
        queues = [([replica], replica.queue) for replica in workers.replicas]
    else:
        queues = [(workers.takers(node), queue) for node, queue in workers.queues.items()]
    for replicas, queue in queues:
        if queue and any(not r.sent and r.process.state == "ready" for r in replicas):
            yield queue[0]


def _has_room(replica: Replica) -> bool:
    return replica.process.state == "ready" and len(replica.sent) < PREFETCH


def _next_batch(queue: deque[Job], most: int) -> tuple[list[Job], int, bool]:
    """Return the jobs of the next batch, their packets, and whether it is sent without waiting.

    A job that a worker died at is sent alone, so that the frame that kills workers is found. A
    batch with anything but packets does not wait.
    """
    jobs: list[Job] = []
    packets = 0
    for job in queue:
        if (jobs and job.deaths) or (job.in_flight is not None and packets == most):
            break
        jobs.append(job)
        packets += job.in_flight is not None
        if job.deaths:
            return jobs, packets, True
    return jobs, packets, packets == most or packets < len(jobs)


def fits(answer: Answer, batch: Batch, group: Group, blobs: int) -> bool:
    """Whether the answer lists exactly the packets of the batch, and stages of the group."""
    return (
        answer.id == batch.id
        and len(answer.wrote) == batch.packets
        and len(answer.ran) in (0, batch.packets)
        and sum(map(len, answer.wrote)) == blobs
        and all(map(frozenset(group.names).issuperset, answer.wrote))
    )
