"""How a run is drained within a fixed time, whatever its workers do; pure, as `routing` is.

    at once                    frames that no worker has begun are dropped
    drain_heartbeat_timeout_s  a worker without a heartbeat for this long is killed
    drain_work_s               frames in flight are dropped, and workers still at work are killed
    drain_end_s                all processes are killed

A sink is a stateful group without children: it closes the event log or the annotated video. Sinks
are restarted when they die in a drain, and are sent the end of each source. Of any other group,
the frames that need it are dropped once it dies or is late. Where no stateful group is ready yet,
there is nothing to be closed, and all workers are killed at once.
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
        """Whether every process has to be killed."""
        return now >= self.at + self.limits.drain_end_s

    def allow_restart(self, group: Group, now: float) -> bool:
        """Whether a process of the group that dies now gets a successor."""
        return is_sink(group) or (bool(group.stateful) and not self.late(now))

    def due(self, now: float) -> float:
        """Return the next deadline after `now`."""
        times = (self.at + self.limits.drain_work_s, self.at + self.limits.drain_end_s)
        return min((time for time in times if time > now), default=float("inf"))


def limits_of(process: ProcessSlot, limits: Limits, deadlines: DrainDeadlines | None) -> Limits:
    """Return the limits for this process; while one starts and imports it sends no heartbeat."""
    if deadlines is None or process.state == "starting":
        return limits
    return msgspec.structs.replace(limits, heartbeat_timeout_s=limits.drain_heartbeat_timeout_s)


def is_sink(group: Group) -> bool:
    """Whether the group is stateful and nothing depends on it."""
    return bool(group.stateful) and not group.children


def nothing_begun(worker_groups: list[WorkerGroup]) -> bool:
    """Whether no stateful group has ever been ready: none has a state or a file to be closed."""
    stateful = [workers for workers in worker_groups if workers.group.stateful]
    processes = [replica.process for workers in stateful for replica in workers.replicas]
    return bool(processes) and all(
        process.state in ("waiting", "starting") and not process.restarts for process in processes
    )


def is_stuck(in_flight: InFlightFrame, stream: Stream, worker_groups: list[WorkerGroup]) -> bool:
    """Whether a group that has yet to answer for the frame has no process left to do so."""
    return any(
        has_no_process(workers, stream) and still_awaits(workers.group, in_flight)
        for workers in worker_groups
    )


def has_no_process(workers: WorkerGroup, stream: Stream) -> bool:
    """Whether no process of this group is left that could work for the source."""
    if workers.group.stateful:
        return workers.group.index not in stream.queues
    return all(replica.process.state == "gone" for replica in workers.replicas)


def still_awaits(group: Group, in_flight: InFlightFrame) -> bool:
    """Whether the group has yet to answer for the frame."""
    if group.index in in_flight.jobs:
        return True
    awaited = not group.stateful and in_flight.waits[group.index] > 0
    return awaited and not skips_frame(group, in_flight)


def remove_jobs(
    in_flight: InFlightFrame, stream: Stream, worker_groups: list[WorkerGroup]
) -> list[int]:
    """Remove the frame from all queues; return the groups whose ordered queues it was in."""
    queues = []
    for index, job in in_flight.jobs.items():
        workers, queue = worker_groups[index], stream.queues.get(index)
        if queue is not None:
            (queue.jobs if job in queue.jobs else queue.replica.queue).remove(job)
            queues.append(index)
        elif not workers.group.stateful:
            workers.remove(job)
    in_flight.jobs.clear()
    return queues
