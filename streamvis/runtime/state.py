"""What `routing` remembers: streams, the frames in flight, and who works on what."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from streamvis.config import StageSpec
from streamvis.messages import Ending, Frame, SourceInfo
from streamvis.runtime.plan import Group
from streamvis.runtime.supervision import Limits, ProcessSlot
from streamvis.runtime.wire import EndItem, Gap, NoticeItem

SMOOTH = 0.1  # weight of the last batch in the mean of its group
GAP_S = 1.0  # between two notices of missing pictures for one reason


class InFlightFrame(msgspec.Struct, eq=False):
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
    in_flight: InFlightFrame | None = None
    item: NoticeItem | EndItem | None = None
    ready: bool = False
    since: float = 0.0  # when it became ready
    deaths: int = 0  # workers that died at it
    out: bool = False  # with a worker now


class Batch(msgspec.Struct, eq=False):
    id: int
    jobs: list[Job]
    packets: int
    at: float  # since when its worker has had nothing else to do first


class Replica(msgspec.Struct, eq=False):
    """One replica of a group."""

    process: ProcessSlot
    queue: deque[Job]  # of a stateful group: what is ready, in the order of each source
    sent: deque[Batch]
    load: int = 0  # packets with the worker
    begun: set[str] = set()  # sources that this process of the seat was told of


class WorkerGroup(msgspec.Struct, eq=False):
    """A group and its replicas."""

    group: Group
    replicas: list[Replica]
    queue: deque[Job]  # of a stateless group: what is ready
    packet_s: float = 0.0  # what a worker takes for a packet, smoothed

    def worked(self, packets: int, seconds: float) -> None:
        if packets:
            before = self.packet_s or seconds / packets
            self.packet_s = before + SMOOTH * (seconds / packets - before)

    @property
    def wait_s(self) -> float:
        return self.group.worker.wait_ms / 1000


class OrderedQueue(msgspec.Struct, eq=False):
    """A source's jobs for one stateful group, in order; the first ready ones move on."""

    replica: Replica
    jobs: deque[Job]


class GapNotices(msgspec.Struct, eq=False, rename={"unreported": "untold", "reported_s": "told_s"}):
    """Missing pictures that the stages have not been told of: one notice a second and reason."""

    unreported: dict[str, Gap] = {}  # by reason
    reported_s: dict[str, float] = {}  # when the last notice of that reason was

    def add(self, gap: Gap) -> None:
        if before := self.unreported.get(gap.reason):
            gap = Gap(
                gap.reason,
                before.count + gap.count,
                min(before.first_n, gap.first_n),
                max(before.last_n, gap.last_n),
            )
        self.unreported[gap.reason] = gap

    def due_s(self) -> float:
        """When `take` will have something to give."""
        return min((self._due_s(reason) for reason in self.unreported), default=float("inf"))

    def take(self, now_s: float) -> list[Gap]:
        """What is due by now."""
        due = [reason for reason in self.unreported if now_s >= self._due_s(reason)]
        self.reported_s |= dict.fromkeys(due, now_s)
        return [self.unreported.pop(reason) for reason in due]

    def take_all(self) -> list[Gap]:
        gaps, self.unreported = list(self.unreported.values()), {}
        return gaps

    def _due_s(self, reason: str) -> float:
        return self.reported_s.get(reason, -GAP_S) + GAP_S


class Stream(msgspec.Struct, eq=False):
    """A source, its slots and its frames in flight."""

    name: str
    process: ProcessSlot  # of its decode process
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
    frames_in_flight: dict[int, InFlightFrame] = {}
    ordered_queues: dict[int, OrderedQueue] = {}  # by stateful group
    open_notices: int = 0  # notices that are not answered yet
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
    gaps: GapNotices = msgspec.field(default_factory=GapNotices)
    errors: int = 0  # of this epoch
    past_errors: int = 0  # of the epochs before
    save_due: float | None = None  # when the next checkpoint is; None: with no frame since
    saving: bool = False  # no slots are granted, so that a checkpoint can be taken

    @property
    def live(self) -> bool:
        return self.info is not None and self.info.live


def worker_group_of(group: Group) -> WorkerGroup:
    processes = [ProcessSlot(f"{group.name}.{replica}") for replica in range(group.worker.replicas)]
    return WorkerGroup(
        group, [Replica(process, deque(), deque()) for process in processes], deque()
    )


def queue_length(workers: WorkerGroup) -> int:
    """Frames that the group has not answered though their parents have."""
    return len(workers.queue) + sum(len(s.queue) + s.load for s in workers.replicas)


def skips_frame(group: Group, in_flight: InFlightFrame) -> bool:
    """Whether all stages of the group skip the frame."""
    return bool(in_flight.skip) and set(group.names) <= set(in_flight.skip)


def skipped(stream: Stream, timed: Sequence[StageSpec], media_us: int) -> tuple[str, ...]:
    """The stages that do not run for a frame: they ran already in this interval of media time."""
    skip = []
    for stage in timed:
        turn = int(media_us // (stage.every_s * 1e6))
        if stream.turns.get(stage.name) == turn:
            skip.append(stage.name)
        stream.turns[stage.name] = turn
    return tuple(skip)


def describe_group(workers: WorkerGroup) -> str:
    names = workers.group.names
    return f"stage '{names[0]}'" if len(names) == 1 else f"stages {', '.join(map(repr, names))}"


def too_many_exits(reason: str, limits: Limits) -> str:
    return (
        f"its process died more than {limits.deaths} times in {limits.within_s:g} s, "
        f"the last time: {reason or 'it ended by itself'}"
    )
