"""The state of a run that `routing` decides on: sources, frames in flight, queues and workers."""

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from streamvis.config import StageSpec
from streamvis.messages import Ending, Frame, SourceInfo, StageRun
from streamvis.runtime.gaps import Gap, GapNotices
from streamvis.runtime.plan import Group
from streamvis.runtime.protocol import DecodedFrame, EndItem, NoticeItem
from streamvis.runtime.reconnect import Reconnect
from streamvis.runtime.supervision import Limits, ProcessSlot
from streamvis.sources.picture import StreamStats
from streamvis.zone_layout import ZoneLayout

SourceState = Literal["connecting", "online", "stalled", "offline", "ended"]

SMOOTHING = 0.1  # weight of the last batch in the mean duration of a packet


class InFlightFrame(msgspec.Struct, eq=False):
    """An admitted frame that not every group has answered."""

    frame: Frame
    at: float  # time of admission
    before_us: int  # media time of the frame before it
    skip: tuple[str, ...]  # stages that do not run for it
    waits: list[int]  # for each group: how many parents have not answered
    left: int  # groups that have not answered
    out: int = 0  # groups that process it now
    begun: bool = False  # a worker has received it
    given_up: bool = False  # no group gets it any more
    lost: bool = False  # pixels are gone: groups that read them wait until it is decoded again
    deferred: list[int] = []  # those groups, whose parents have answered
    parts: dict[str, Any] = {}
    ran: dict[str, StageRun] = {}  # by stage, if a stage reads it
    node: str = ""  # of its pixels
    jobs: dict[int, "Job"] = {}  # by group, until answered


class Job(msgspec.Struct, eq=False):
    """One unit of work for one group: a frame, or an item that waits for no parents."""

    source: str
    in_flight: InFlightFrame | None = None
    item: NoticeItem | EndItem | None = None
    ready: bool = False
    since: float = 0.0  # when it became ready
    deaths: int = 0  # workers that died while processing it
    out: bool = False  # with a worker now


class Batch(msgspec.Struct, eq=False):
    """Jobs that were sent to a worker in one message."""

    id: int
    jobs: list[Job]
    packets: int
    at: float  # when the batches before it were answered, or when it was sent
    begins: list[str] = []  # sources whose begin item is in it


class Replica(msgspec.Struct, eq=False):
    """One worker of a group."""

    process: ProcessSlot
    queue: deque[Job]  # of a stateful group: ready jobs, in the order of each source
    sent: deque[Batch]
    load: int = 0  # packets with the worker
    begun: set[str] = set()  # sources whose begin item this process has received
    packet_s: float = 0.0  # smoothed duration of one packet
    node: str = ""  # on which it runs
    sources: int = 0  # whose jobs it gets, of a stateful group

    def add_batch(self, packets: int, seconds: float) -> None:
        if packets:
            before = self.packet_s or seconds / packets
            self.packet_s = before + SMOOTHING * (seconds / packets - before)

    def busy_s(self, at: float) -> float:
        """Return for how long the worker has been at its present batch."""
        return at - self.sent[0].at if self.sent else 0.0


class WorkerGroup(msgspec.Struct, eq=False):
    """The replicas of a group, and the queues that they share if it is stateless."""

    group: Group
    replicas: list[Replica]
    queues: dict[str, deque[Job]] = {}  # of a stateless group: ready jobs, by the node of the
    # pixels that they read
    interval_s: float = 0.0  # smoothed time between two packets that became ready; 0: unknown
    arrived_at: float | None = None  # when the last one did

    def queue_of(self, job: Job) -> deque[Job]:
        """Return the queue of a job: near its pixels, if the group reads them."""
        near = self.group.reads_pixels and job.in_flight is not None
        node = job.in_flight.node if near and job.in_flight is not None else ""
        return self.queues.setdefault(node, deque())

    def remove(self, job: Job) -> None:
        """Take a job out of its queue; its frame has not moved since it was queued."""
        self.queue_of(job).remove(job)

    def takers(self, node: str) -> list[Replica]:
        """Return the replicas that take the jobs of a node: those there, or all without any."""
        near = [one for one in self.replicas if one.node == node and one.process.alive]
        return near or self.replicas

    def add_arrival(self, at: float) -> None:
        """Note that a packet has become ready, if batches wait for packets."""
        if self.wait_s:
            if self.arrived_at is not None:
                seconds = at - self.arrived_at
                before = self.interval_s or seconds
                self.interval_s = before + SMOOTHING * (seconds - before)
            self.arrived_at = at

    def may_fill(self, packets: int, seconds: float) -> bool:
        """Whether a batch that has these packets is likely to be full within so much time."""
        missing = self.group.worker.batch - packets
        return missing * self.interval_s <= seconds

    @property
    def wait_s(self) -> float:
        return self.group.worker.wait_ms / 1000


class OrderedQueue(msgspec.Struct, eq=False):
    """The jobs of a source for one stateful group, in order; ready ones leave from the front."""

    replica: Replica
    jobs: deque[Job]


class Stream(msgspec.Struct, eq=False):
    """A source with its slots, queues and frames in flight."""

    name: str
    process: ProcessSlot  # of its decode process
    reconnect: Reconnect | None = None  # of a source that is connected again when it is lost
    label: str = ""
    state: SourceState = "connecting"
    state_at: float = 0.0  # time of the last change of state
    reason: str = ""  # of the state, such as why it is offline
    attempts: int = 0  # to connect that failed in a row
    reconnects: int = 0
    deadline: float = float("inf")  # of this attempt: without progress its process is killed
    online_at: float = 0.0  # time of the last connection
    admitted_at: float = 0.0  # time of the last frame
    absent_since: float | None = None  # time since which there is no picture
    zero_s: float | None = None  # of a live source: time at media time 0
    frozen: bool = False  # stalled, since its decode process sends no heartbeats
    why_epoch: str = ""  # why the next stream epoch begins
    leaving: str = ""  # why it leaves the run before its end
    stats: StreamStats = StreamStats()  # of this epoch's process
    recorded: int = 0  # bytes by the processes before
    skipped: int = 0
    suspect: int = 0
    missing: dict[str, int] = {}  # pictures by reason that are to be logged
    missing_due: float = 0.0  # time of the next log entry about them
    clock: str = ""  # of the last frame
    info: SourceInfo | None = None
    sent_n: int = -1  # number of the last picture that this decode process has sent
    lost: int = 0  # frames in flight whose pixels are gone
    node: str = ""  # on which it is decoded
    epoch: int = 1
    known_epoch: int = 1  # the stream epoch that the stages have a notice of
    zones: ZoneLayout | None = None  # None: the pipeline counts none
    known_zones: ZoneLayout | None = None  # that the stages have a notice of, or have begun with
    logged: int = -1  # seq of the last frame in the log of a resumed run
    last_n: int = -1
    last_us: int = 0
    free: list[str] = []
    granted: set[str] = set()
    granted_at: float = float("-inf")  # time of the last grant
    turn: int = 0  # of its last grant among those to live sources
    slots: frozenset[str] = frozenset()  # free, granted or in flight; older ones are in flight
    frames_in_flight: dict[int, InFlightFrame] = {}  # by seq
    queues: dict[int, OrderedQueue] = {}  # by stateful group
    opened_queues: set[int] = set()  # groups that it has or had a queue for
    open_notices: int = 0  # notices and ends that are not answered yet
    turns: dict[str, int] = {}  # stages with every_s: the interval of their last run
    finishing: bool = False  # the stateful groups have been sent the end
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
    save_due: float | None = None  # time of the next checkpoint; None: no frame since the last
    saving: bool = False  # no slots are granted, so that a checkpoint can be taken

    @property
    def live(self) -> bool:
        return self.info is not None and self.info.live

    @property
    def reconnects_when_lost(self) -> bool:
        """Whether the source is connected again; over HTTP it may turn out to be a file."""
        return self.reconnect is not None and (self.info is None or self.info.live)

    @property
    def known(self) -> SourceInfo:
        """What is known of the source; of one that was never open, no more than its name."""
        return self.info or SourceInfo(
            id=self.name,
            label=self.label or self.name,
            width=0,
            height=0,
            fps=0.0,
            live=self.reconnect is not None,
            epoch=self.epoch,
        )

    def count(self, gap: Gap) -> None:
        """Count the pictures of a gap, and keep it for the next notice."""
        if gap.reason == "skipped":
            self.skipped += gap.count
        elif gap.reason != "decode":
            self.dropped[gap.reason] = self.dropped.get(gap.reason, 0) + gap.count
        self.gaps.add(gap)


def worker_group_of(group: Group) -> WorkerGroup:
    names = [f"{group.name}.{index}" for index in range(group.worker.replicas)]
    replicas = [Replica(ProcessSlot(name), deque(), deque()) for name in names]
    return WorkerGroup(group, replicas)


def decoder_name(source: str) -> str:
    """Return the name of the process slot of a source's decode process."""
    return f"decode-{source}"


def queue_length(workers: WorkerGroup) -> int:
    """Count the frames that the group has yet to answer and whose parents have answered."""
    queued = sum(map(len, workers.queues.values()))
    return queued + sum(len(r.queue) + r.load for r in workers.replicas)


def replica_with_fewest_sources(workers: WorkerGroup, node: str = "") -> Replica:
    """Return the replica for another source, if possible one on the node of its pixels."""
    replicas = workers.takers(node) if workers.group.reads_pixels else workers.replicas
    return min(replicas, key=lambda r: (r.process.state == "gone", r.sources, r.node != node))


def node_of(slot: str) -> str:
    """Return the node of a slot; empty for the hub's, whose slots do not name it."""
    node, named, _ = slot.partition("@")
    return node if named else ""


def segment_of(slot: str) -> str:
    """Return the segment of a slot: all but its offset."""
    return slot.rpartition(":")[0]


def frame_of(stream: Stream, decoded: DecodedFrame) -> Frame:
    """Return the next frame of the source, for a picture that is admitted."""
    wall_us = stream.info.wall_us(decoded.media_us) if stream.info else 0
    return Frame(
        source=stream.name,
        seq=stream.admitted,
        n=decoded.n,
        media_us=decoded.media_us,
        width=decoded.width,
        height=decoded.height,
        slot=decoded.slot,
        epoch=stream.epoch,
        capture_us=decoded.capture_us or wall_us,
        clock=decoded.clock,
        suspect=decoded.suspect,
    )


def skips_frame(group: Group, in_flight: InFlightFrame) -> bool:
    """Whether all stages of the group skip the frame."""
    return bool(in_flight.skip) and set(group.names) <= set(in_flight.skip)


def stages_to_skip(
    stream: Stream, timed: Sequence[StageSpec], media_us: int, *, suspect: bool = False
) -> tuple[str, ...]:
    """Return the stages that do not run for this picture.

    Those are stages with `every_s` that already ran in this interval of media time, and those with
    `skip_suspect` if it is suspect.
    """
    skip = []
    for stage in timed:
        if stage.skip_suspect and suspect:
            skip.append(stage.name)
        elif stage.every_s > 0:
            turn = int(media_us // (stage.every_s * 1e6))
            if stream.turns.get(stage.name) == turn:
                skip.append(stage.name)
            stream.turns[stage.name] = turn
    return tuple(skip)


def describe_group(workers: WorkerGroup) -> str:
    """Name the stages of a group in an error text."""
    names = workers.group.names
    return f"stage '{names[0]}'" if len(names) == 1 else f"stages {', '.join(map(repr, names))}"


def too_many_exits(reason: str, limits: Limits) -> str:
    return (
        f"its process died more than {limits.deaths} times in {limits.within_s:g} s, "
        f"the last time: {reason or 'it ended by itself'}"
    )
