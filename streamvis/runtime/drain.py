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
from streamvis.runtime.state import Crew, Flight, Stream, rests
from streamvis.runtime.supervision import Limits, Seat


class Hurry(msgspec.Struct):
    """The deadlines of a drain that began at `at`."""

    at: float
    limits: Limits

    def late(self, now: float) -> bool:
        """Whether the time for work is over."""
        return now >= self.at + self.limits.hurry_work_s

    def over(self, now: float) -> bool:
        return now >= self.at + self.limits.hurry_end_s

    def due(self, now: float) -> float:
        """The next deadline after `now`."""
        times = (self.at + self.limits.hurry_work_s, self.at + self.limits.hurry_end_s)
        return min((time for time in times if time > now), default=float("inf"))


def patience(seat: Seat, limits: Limits, hurry: Hurry | None) -> Limits:
    """The limits for this process; one that is only starting may be silent while it imports."""
    if hurry is None or seat.state == "starting":
        return limits
    return msgspec.structs.replace(limits, silence_s=limits.hurry_silence_s)


def is_sink(group: Group) -> bool:
    return bool(group.stateful) and not group.children


def lost(crew: Crew, stream: Stream) -> bool:
    """Whether nobody is left in this group to work for the source."""
    if crew.group.stateful:
        return crew.group.index not in stream.lanes
    return all(station.seat.state == "gone" for station in crew.stations)


def needs(flight: Flight, group: Group) -> bool:
    """Whether the group has yet to answer for the frame."""
    if group.index in flight.jobs:
        return True
    awaited = not group.stateful and flight.waits[group.index] > 0
    return awaited and not rests(group, flight)


def withdraw(flight: Flight, stream: Stream, crews: list[Crew]) -> list[int]:
    """Take the frame's jobs out of all queues; the groups whose lanes it stood in."""
    lanes = []
    for index, job in flight.jobs.items():
        crew, lane = crews[index], stream.lanes.get(index)
        if lane is not None:
            (lane.jobs if job in lane.jobs else lane.station.queue).remove(job)
            lanes.append(index)
        elif not crew.group.stateful:
            crew.queue.remove(job)
    flight.jobs.clear()
    return lanes
