"""The way of frames and notices through the groups of a run: queues, answers, joins. Pure.

A frame waits at a group until the parents of that have answered; a notice or the end of a source
keeps its place among the frames of a stateful group.
"""

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from streamvis.messages import Ending, Notice
from streamvis.runtime import protocol
from streamvis.runtime.dispatch import Dispatch, fits
from streamvis.runtime.drain import remove_jobs
from streamvis.runtime.gaps import Gap, notice_of
from streamvis.runtime.plan import Group
from streamvis.runtime.state import (
    InFlightFrame,
    Job,
    OrderedQueue,
    Replica,
    Stream,
    WorkerGroup,
    node_of,
    replica_with_fewest_sources,
    segment_of,
    skips_frame,
)
from streamvis.runtime.supervision import kill


class Flow:
    """Moves frames and notices on; `orders` are those that follow, for the core to return."""

    def __init__(
        self,
        groups: Sequence[Group],
        worker_groups: list[WorkerGroup],
        streams: dict[str, Stream],
    ) -> None:
        self.groups = groups
        self.worker_groups = worker_groups
        self.streams = streams
        self.orders: list[protocol.Order] = []
        self.changed: dict[str, Stream] = {}  # sources that the fact of this step concerns
        self._to_dispatch: dict[WorkerGroup | Replica, WorkerGroup] = {}  # that may have something
        # to send, in order: stateless groups, and the workers of others
        self._dispatch = Dispatch(streams)
        self.states = self._dispatch.states  # (stage, source) -> from the last answer
        self.changed_workers = self._dispatch.sent_to  # since admission looked at them

    def dispatch(self, at: float) -> None:
        """Send what is queued, as far as the workers have room."""
        for place, workers in self._to_dispatch.items():
            replica = None if place is workers else place
            self.orders += self._dispatch(workers, at, replica)  # type: ignore[arg-type]
        self._to_dispatch.clear()

    def wake(self, workers: WorkerGroup, replica: Replica | None = None) -> None:
        """Note that a group, or a worker of it, may have something to send."""
        if not workers.group.stateful:
            self._to_dispatch[workers] = workers
        elif replica is not None:
            self._to_dispatch[replica] = workers
        else:
            self._to_dispatch.update(dict.fromkeys(workers.replicas, workers))
        if replica is not None:
            self.changed_workers[replica] = workers

    def open_queues(self, stream: Stream, *, followers: bool = False) -> None:
        """Give the source its queues; `followers`: of the groups that follow its status, only."""
        for workers in self.worker_groups:
            group = workers.group
            wanted = group.follows_status if followers else bool(group.stateful)
            if wanted and group.index not in stream.opened_queues:
                stream.opened_queues.add(group.index)
                if all(replica.process.state == "gone" for replica in workers.replicas):
                    continue  # the run ends without this group
                replica = replica_with_fewest_sources(workers, stream.node)
                replica.sources += 1
                stream.queues[group.index] = OrderedQueue(replica, deque())

    def admit(self, stream: Stream, in_flight: InFlightFrame, at: float) -> None:
        """Queue a frame for the stateful groups in order, and for the first groups."""
        stream.frames_in_flight[in_flight.frame.seq] = in_flight
        for index, queue in stream.queues.items():
            if not skips_frame(self.groups[index], in_flight):
                in_flight.jobs[index] = job = Job(stream.name, in_flight)
                queue.jobs.append(job)
        for group in self.groups:
            if not group.parents:
                self.queue_frame(in_flight, group.index, at)

    def end(self, stream: Stream, ending: Ending, at: float) -> None:
        """Send the end of the source to all groups that have begun it."""
        item = protocol.EndItem(stream.name, ending)
        self._queue_item(stream, item, at)

    def _queue_item(
        self, stream: Stream, item: protocol.NoticeItem | protocol.EndItem, at: float
    ) -> None:
        for index, queue in stream.queues.items():
            queue.jobs.append(Job(stream.name, item=item, ready=True))
            stream.open_notices += 1
            self.queue_ready(stream, index, at)

    def detach(self, workers: WorkerGroup, replica: Replica, at: float) -> None:
        """Detach a process without successor: sources of a stateful group continue without it."""
        self.requeue(workers, replica, at)
        index = workers.group.index
        self.wake(workers)  # another replica may take over its jobs
        for stream in self.streams.values():
            queue = stream.queues.get(index)
            if queue is None or queue.replica is not replica:
                continue
            jobs = [
                *queue.jobs,
                *(job for job in replica.queue if job.source == stream.name),
            ]
            stream.open_notices -= sum(job.in_flight is None for job in jobs)
            del stream.queues[index]
            self.changed[stream.name] = stream  # nothing may be left to wait for
        if workers.group.stateful:
            replica.queue.clear()
            replica.sources = 0

    def notify(self, stream: Stream, notice: Notice, at: float) -> None:
        """Send a notice to all groups that have begun the source, or begin with it."""
        self._queue_item(stream, protocol.NoticeItem(notice), at)

    def queue_frame(self, in_flight: InFlightFrame, index: int, at: float) -> None:
        """Queue the frame for a group whose parents have all answered."""
        if in_flight.given_up:
            return
        if skips_frame(self.groups[index], in_flight):
            self._count_group(in_flight, index, at)
            return
        if in_flight.lost and self.groups[index].reads_pixels:
            in_flight.deferred.append(index)
            return
        stream = self.streams[in_flight.frame.source]
        if self.groups[index].stateful:
            in_flight.jobs[index].ready = True
            if index in stream.queues:
                self.queue_ready(stream, index, at)
            return
        in_flight.jobs[index] = job = Job(in_flight.frame.source, in_flight, ready=True, since=at)
        workers = self.worker_groups[index]
        workers.add_arrival(at)
        workers.queue_of(job).append(job)
        self.wake(workers)

    def queue_ready(self, stream: Stream, index: int, at: float) -> None:
        queue = stream.queues[index]
        while queue.jobs and queue.jobs[0].ready:
            job = queue.jobs.popleft()
            job.since = at
            self.worker_groups[index].add_arrival(at)
            queue.replica.queue.append(job)
        self.wake(self.worker_groups[index], queue.replica)

    def answered(
        self,
        workers: WorkerGroup,
        replica: Replica,
        answer: protocol.Answer,
        blobs: Sequence[Any],
        at: float,
    ) -> None:
        group = workers.group
        if not replica.sent or not fits(answer, replica.sent[0], group, len(blobs)):
            self.orders.append(kill(replica.process, "its answer does not match its batch"))
            return
        batch = replica.sent.popleft()
        replica.load -= batch.packets
        replica.add_batch(batch.packets, at - batch.at)
        if replica.sent:
            replica.sent[0].at = at
        for state in answer.states:
            self.states[state.stage, state.source] = state.data
        self.wake(workers, replica)
        for request in answer.clips:
            self.orders.append(protocol.SendClip(request.source, request.clip))
        parts = iter(blobs)
        wrote, ran = iter(answer.wrote), iter(answer.ran)
        for job in batch.jobs:
            if (in_flight := job.in_flight) is not None:
                in_flight.out -= 1
                in_flight.parts.update(zip(next(wrote), parts, strict=False))
                in_flight.ran.update(next(ran, {}))
                in_flight.jobs.pop(group.index, None)
                self.changed[job.source] = self.streams[job.source]
                self._count_group(in_flight, group.index, at)
            else:
                self.changed[job.source] = stream = self.streams[job.source]
                stream.open_notices -= 1
                if isinstance(job.item, protocol.EndItem):
                    replica.begun.discard(job.source)  # it may be added again

    def _count_group(self, in_flight: InFlightFrame, index: int, at: float) -> None:
        """Count the group as finished with the frame, and queue the frame for its children."""
        in_flight.left -= 1
        for child in self.groups[index].children:
            in_flight.waits[child] -= 1
            if in_flight.waits[child] == 0:
                self.queue_frame(in_flight, child, at)
        self._complete_if_over(in_flight, at)

    def _complete_if_over(self, in_flight: InFlightFrame, at: float, dropped: bool = False) -> None:
        stream = self.streams[in_flight.frame.source]
        over = in_flight.out == 0 if in_flight.given_up else in_flight.left == 0
        if not over or stream.frames_in_flight.pop(in_flight.frame.seq, None) is None:
            return
        self._found(stream, in_flight)
        slot = in_flight.frame.slot
        if slot in stream.slots:
            stream.free.append(slot)
        else:
            self.orders.append(protocol.FreeSlot(stream.name, slot))
        poison = in_flight.given_up and not dropped
        frame, parts, skip = in_flight.frame, in_flight.parts, in_flight.skip
        completed = protocol.FrameCompleted(frame, parts, skip, poison, at - in_flight.at, dropped)
        self.orders.append(completed)

    def give_up(self, in_flight: InFlightFrame, reason: str, at: float) -> None:
        """Give up a frame; groups that have not begun it get a notice in its place."""
        frame = in_flight.frame
        stream = self.streams[frame.source]
        stream.poisoned += not in_flight.given_up
        in_flight.given_up = True
        self._found(stream, in_flight)
        gap = Gap(reason, 1, frame.n, frame.n)
        item = protocol.NoticeItem(notice_of(gap, frame.source, in_flight.before_us))
        for index, job in list(in_flight.jobs.items()):
            if job.out:
                continue
            del in_flight.jobs[index]
            if index in stream.queues:
                job.in_flight, job.item, job.ready, job.deaths = None, item, True, 0
                stream.open_notices += 1
                self.queue_ready(stream, index, at)
            elif not self.groups[index].stateful:  # otherwise its worker has no successor
                self.worker_groups[index].remove(job)
        self._complete_if_over(in_flight, at)

    def requeue(self, workers: WorkerGroup, replica: Replica, at: float) -> None:
        """Queue the jobs of a process that died again, in order.

        A frame that was alone in its batch when two workers died is given up as the cause.
        """
        batches = list(replica.sent)
        replica.begun.clear()
        replica.node = ""
        suspects = [job for job in batches[0].jobs if job.in_flight is not None] if batches else []
        for job in suspects:
            job.deaths += 1
        for job in self._take_back(workers, replica):
            is_cause = suspects == [job] and job.deaths >= 2
            if (in_flight := job.in_flight) is not None and (is_cause or in_flight.given_up):
                self.give_up(in_flight, "poison", at)

    def _take_back(self, workers: WorkerGroup, replica: Replica) -> list[Job]:
        """Queue all that was sent to a process and is not answered again, in order."""
        jobs = [job for batch in replica.sent for job in batch.jobs]
        replica.sent.clear()
        replica.load = 0
        for job in jobs:
            job.out = False
            if job.in_flight is not None:
                job.in_flight.out -= 1
        if workers.group.stateful:
            replica.queue.extendleft(reversed(jobs))
        else:
            for job in reversed(jobs):
                workers.queue_of(job).appendleft(job)
        for job in jobs:
            if job.in_flight is not None and job.in_flight.lost:
                self._defer(self.streams[job.source], job, workers)
        return jobs

    # pixels that are gone

    def lose(self, stream: Stream, segments: Collection[str]) -> None:
        """Note that the pixels of frames are gone: groups that read them wait for new ones."""
        stream.slots = frozenset(s for s in stream.slots if segment_of(s) not in segments)
        stream.free = [slot for slot in stream.free if slot in stream.slots]
        stream.granted &= stream.slots
        for in_flight in stream.frames_in_flight.values():
            if segment_of(in_flight.frame.slot) in segments:
                self._lose(stream, in_flight)

    def missing(
        self, workers: WorkerGroup, replica: Replica, missing: protocol.PixelsMissing, at: float
    ) -> list[Stream]:
        """Take back what a worker could not do for want of pixels; return the sources of those."""
        if not replica.sent or replica.sent[0].id != missing.id:
            self.orders.append(kill(replica.process, "it misses pixels of no batch of its own"))
            return []
        frames = [job.in_flight for job in replica.sent[0].jobs if job.in_flight is not None]
        for batch in replica.sent:
            replica.begun.difference_update(batch.begins)
        for job in self._take_back(workers, replica):
            if job.in_flight is not None and job.in_flight.given_up:
                self.give_up(job.in_flight, "lost", at)
        self.orders.append(protocol.ResumeWorker(replica.process.name))
        self.wake(workers, replica)
        streams: dict[str, Stream] = {}
        for in_flight in frames:
            if in_flight.frame.slot in missing.slots:
                stream = streams[in_flight.frame.source] = self.streams[in_flight.frame.source]
                self._lose(stream, in_flight)
        return list(streams.values())

    def restore(self, stream: Stream, decoded: protocol.DecodedFrame, at: float) -> bool:
        """Use a picture that was decoded again; False when no frame in flight has lost it."""
        for in_flight in stream.frames_in_flight.values():
            if in_flight.lost and in_flight.frame.n == decoded.n:
                break
        else:
            return False
        in_flight.frame = msgspec.structs.replace(in_flight.frame, slot=decoded.slot)
        in_flight.node = node_of(decoded.slot)
        self._found(stream, in_flight)
        deferred, in_flight.deferred = in_flight.deferred, []
        for index in deferred:
            self.queue_frame(in_flight, index, at)
        return True

    def _lose(self, stream: Stream, in_flight: InFlightFrame) -> None:
        if in_flight.lost or in_flight.given_up or not self._needs_pixels(in_flight):
            return
        in_flight.lost = True
        stream.lost += 1
        for index, job in list(in_flight.jobs.items()):
            if job.ready and not job.out and self.groups[index].reads_pixels:
                self._defer(stream, job, self.worker_groups[index])

    def _needs_pixels(self, in_flight: InFlightFrame) -> bool:
        """Whether a group that reads pixels has yet to answer for the frame."""
        return any(
            group.reads_pixels
            and (in_flight.waits[group.index] > 0 or group.index in in_flight.jobs)
            for group in self.groups
        )

    def _found(self, stream: Stream, in_flight: InFlightFrame) -> None:
        stream.lost -= in_flight.lost
        in_flight.lost = False

    def _defer(self, stream: Stream, job: Job, workers: WorkerGroup) -> None:
        """Take a job that lacks its pixels out of the queue; those behind it keep their order."""
        index, in_flight = workers.group.index, job.in_flight
        assert in_flight is not None
        if index not in in_flight.deferred:
            in_flight.deferred.append(index)
        job.ready = False
        if not workers.group.stateful:
            workers.remove(job)
            del in_flight.jobs[index]
            return
        queue = stream.queues.get(index)
        if queue is None or job not in queue.replica.queue:
            return
        theirs = [each for each in queue.replica.queue if each.source == stream.name]
        behind = theirs[theirs.index(job) :]
        for each in behind:
            queue.replica.queue.remove(each)
        queue.jobs.extendleft(reversed(behind))

    def drop(self, stream: Stream, in_flight: InFlightFrame, at: float) -> None:
        """Give up a frame that no worker has; it counts as dropped, not as admitted."""
        frame = in_flight.frame
        in_flight.given_up = True
        self._found(stream, in_flight)
        stream.admitted -= 1
        if stream.ending == "eof":
            stream.ending = "drained"
        stream.count(Gap("drained", 1, frame.n, frame.n))
        for index in remove_jobs(in_flight, stream, self.worker_groups):
            self.queue_ready(stream, index, at)
        self._complete_if_over(in_flight, at, dropped=True)
