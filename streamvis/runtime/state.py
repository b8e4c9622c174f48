"""What `routing` remembers: streams, the frames in flight, and who works on what."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from streamvis.config import StageSpec
from streamvis.messages import Ending, Frame, SourceInfo
from streamvis.runtime.plan import Group
from streamvis.runtime.supervision import Limits, Seat
from streamvis.runtime.wire import End, Missed, Tell

SMOOTH = 0.1  # weight of the last batch in the mean of its group
GAP_S = 1.0  # between two notices of missing pictures for one reason


class Flight(msgspec.Struct, eq=False):
    """One admitted frame on its way through the graph."""

    frame: Frame
    at: float  # when it was admitted
    before_us: int  # media time of the frame before it
    skip: tuple[str, ...]  # stages that do not run for it
    waits: list[int]  # for each group: how many parents have not answered
    left: int  # groups that have not answered
    out: int = 0  # groups that are at it right now
    begun: bool = False  # some worker has had it
    given_up: bool = False  # no group gets it any more
    parts: dict[str, Any] = {}
    jobs: dict[int, "Job"] = {}  # by group, until answered


class Job(msgspec.Struct, eq=False):
    """One thing for one group to do: a frame, or an item that needs no parents' answers."""

    source: str
    flight: Flight | None = None
    item: Tell | End | None = None
    ready: bool = False
    since: float = 0.0  # when it became ready
    deaths: int = 0  # workers that died at it
    out: bool = False  # with a worker now


class Batch(msgspec.Struct, eq=False):
    id: int
    jobs: list[Job]
    packets: int
    at: float  # since when its worker has had nothing else to do first


class Station(msgspec.Struct, eq=False):
    """One replica of a group."""

    seat: Seat
    queue: deque[Job]  # of a stateful group: what is ready, in the order of each source
    sent: deque[Batch]
    load: int = 0  # packets with the worker
    begun: set[str] = set()  # sources that this process of the seat was told of


class Crew(msgspec.Struct, eq=False):
    """A group and its replicas."""

    group: Group
    stations: list[Station]
    queue: deque[Job]  # of a stateless group: what is ready
    packet_s: float = 0.0  # what a worker takes for a packet, smoothed

    def worked(self, packets: int, seconds: float) -> None:
        if packets:
            before = self.packet_s or seconds / packets
            self.packet_s = before + SMOOTH * (seconds / packets - before)

    @property
    def wait_s(self) -> float:
        return self.group.worker.wait_ms / 1000


class Lane(msgspec.Struct, eq=False):
    """A source's jobs for one stateful group, in order; the first ready ones move on."""

    station: Station
    jobs: deque[Job]


class Gaps(msgspec.Struct, eq=False):
    """Missing pictures that the stages have not been told of: one notice a second and reason."""

    untold: dict[str, Missed] = {}  # by reason
    told_s: dict[str, float] = {}  # when the last notice of that reason was

    def add(self, gap: Missed) -> None:
        if before := self.untold.get(gap.reason):
            gap = Missed(
                gap.reason,
                before.count + gap.count,
                min(before.first_n, gap.first_n),
                max(before.last_n, gap.last_n),
            )
        self.untold[gap.reason] = gap

    def due_s(self) -> float:
        """When `take` will have something to give."""
        return min((self._due_s(reason) for reason in self.untold), default=float("inf"))

    def take(self, now_s: float) -> list[Missed]:
        """What is due by now."""
        due = [reason for reason in self.untold if now_s >= self._due_s(reason)]
        self.told_s |= dict.fromkeys(due, now_s)
        return [self.untold.pop(reason) for reason in due]

    def take_all(self) -> list[Missed]:
        gaps, self.untold = list(self.untold.values()), {}
        return gaps

    def _due_s(self, reason: str) -> float:
        return self.told_s.get(reason, -GAP_S) + GAP_S


class Stream(msgspec.Struct, eq=False):
    """A source, its slots and its frames in flight."""

    name: str
    seat: Seat  # of its decode process
    info: SourceInfo | None = None
    epoch: int = 1
    known_epoch: int = 1  # the stream epoch that the stages know of
    last_n: int = -1
    last_us: int = 0
    free: list[str] = []
    granted: set[str] = set()
    granted_at: float = float("-inf")  # the last time
    turn: int = 0  # of its last grant among those to live sources
    slots: frozenset[str] = frozenset()  # free, granted or in flight; older ones are in flight
    flights: dict[int, Flight] = {}
    lanes: dict[int, Lane] = {}  # by stateful group
    told: int = 0  # notices that are not answered yet
    turns: dict[str, int] = {}  # stages with every_s: in which interval they last ran
    finishing: bool = False  # the stateful groups are being told of the end
    open: bool = False  # and may be granted slots
    done: bool = False
    ending: Ending | None = None
    error: str = ""  # the class in errors.py
    message: str = ""
    admitted: int = 0
    poisoned: int = 0
    dropped: dict[str, int] = {}
    gaps: Gaps = msgspec.field(default_factory=Gaps)
    errors: int = 0  # of this epoch
    past_errors: int = 0  # of the epochs before
    save_due: float | None = None  # when the next checkpoint is; None: with no frame since
    saving: bool = False  # no slots are granted, so that a checkpoint can be taken

    @property
    def live(self) -> bool:
        return self.info is not None and self.info.live


def crew_of(group: Group) -> Crew:
    seats = [Seat(f"{group.name}.{replica}") for replica in range(group.worker.replicas)]
    return Crew(group, [Station(seat, deque(), deque()) for seat in seats], deque())


def queued(crew: Crew) -> int:
    """Frames that the group has not answered though their parents have."""
    return len(crew.queue) + sum(len(s.queue) + s.load for s in crew.stations)


def rests(group: Group, flight: Flight) -> bool:
    """Whether all stages of the group skip the frame."""
    return bool(flight.skip) and set(group.names) <= set(flight.skip)


def skipped(stream: Stream, timed: Sequence[StageSpec], media_us: int) -> tuple[str, ...]:
    """The stages that do not run for a frame: they ran already in this interval of media time."""
    skip = []
    for stage in timed:
        turn = int(media_us // (stage.every_s * 1e6))
        if stream.turns.get(stage.name) == turn:
            skip.append(stage.name)
        stream.turns[stage.name] = turn
    return tuple(skip)


def named(crew: Crew) -> str:
    names = crew.group.names
    return f"stage '{names[0]}'" if len(names) == 1 else f"stages {', '.join(map(repr, names))}"


def too_many_deaths(reason: str, limits: Limits) -> str:
    return (
        f"its process died more than {limits.deaths} times in {limits.within_s:g} s, "
        f"the last time: {reason or 'it ended by itself'}"
    )
