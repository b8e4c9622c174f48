"""How a run is drained within a fixed time, whatever its workers do; pure, as `routing` is.

    at once         what no worker has begun is dropped
    hurry_silence_s a worker without a heartbeat is killed
    hurry_work_s    what is in flight is dropped, and workers that still work are killed
    hurry_end_s     all processes are killed

Sinks are what the drain is for: the stateful groups that nothing depends on, which close the log
and the film. They are restarted when they die, and told of the end. Other groups have nothing to
lose: once they die in a drain, or are late, the frames that need them are dropped.
"""

import msgspec

from streamvis.runtime.plan import Group
from streamvis.runtime.state import InFlightFrame, Stream, WorkerGroup, skips_frame
from streamvis.runtime.supervision import Limits, ProcessSlot


class DrainDeadlines(msgspec.Struct):
    """The deadlines of a drain that began at `at`."""

    at: float
    limits: Limits

    def late(self, now: float) -> bool:
        """Whether the time for work is over."""
        return now >= self.at + self.limits.drain_work_s

    def over(self, now: float) -> bool:
        return now >= self.at + self.limits.drain_end_s

    def due(self, now: float) -> float:
        """The next deadline after `now`."""
        times = (self.at + self.limits.drain_work_s, self.at + self.limits.drain_end_s)
        return min((time for time in times if time > now), default=float("inf"))


def limits_of(process: ProcessSlot, limits: Limits, deadlines: DrainDeadlines | None) -> Limits:
    """The limits for this process; one that is only starting may be silent while it imports."""
    if deadlines is None or process.state == "starting":
        return limits
    return msgspec.structs.replace(limits, heartbeat_timeout_s=limits.drain_heartbeat_timeout_s)


def is_sink(group: Group) -> bool:
    return bool(group.stateful) and not group.children


def has_no_worker(workers: WorkerGroup, stream: Stream) -> bool:
    """Whether nobody is left in this group to work for the source."""
    if workers.group.stateful:
        return workers.group.index not in stream.ordered_queues
    return all(replica.process.state == "gone" for replica in workers.replicas)


def still_awaits(in_flight: InFlightFrame, group: Group) -> bool:
    """Whether the group has yet to answer for the frame."""
    if group.index in in_flight.jobs:
        return True
    awaited = not group.stateful and in_flight.waits[group.index] > 0
    return awaited and not skips_frame(group, in_flight)


def remove_jobs(
    in_flight: InFlightFrame, stream: Stream, worker_groups: list[WorkerGroup]
) -> list[int]:
    """Take the frame's jobs out of all queues; the groups whose lanes it stood in."""
    ordered_queues = []
    for index, job in in_flight.jobs.items():
        workers, ordered_queue = worker_groups[index], stream.ordered_queues.get(index)
        if ordered_queue is not None:
            (
                ordered_queue.jobs if job in ordered_queue.jobs else ordered_queue.replica.queue
            ).remove(job)
            ordered_queues.append(index)
        elif not workers.group.stateful:
            workers.queue.remove(job)
    in_flight.jobs.clear()
    return ordered_queues
