"""Counts and times of a run, in memory that does not grow with its length."""

import math
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path

import msgspec

from streamvis.config import StageSpec
from streamvis.errors import RunError
from streamvis.files import replace
from streamvis.logs import redacted
from streamvis.messages import Findings, SourceGauges, SourceInfo
from streamvis.runtime.plan import Group
from streamvis.runtime.protocol import Answer, FrameCompleted, PixelsReceived, StageTime
from streamvis.runtime.recent import TAKEN, RecentCounts, RecentPictures
from streamvis.runtime.routing import Core
from streamvis.runtime.state import Stream

RATIO = 1.02  # between the bounds of a bucket: quantiles are accurate to 1 %
LOG_RATIO = math.log(RATIO)
SHORTEST_S = 1e-6
STATUS_S = 1.0  # between two statuses
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of a latency in milliseconds; zeros when nothing was timed."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    most: float = 0.0


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """The number of durations up to each bound, to 2 % of the bound."""

    counts: list[int]  # up to each of BOUNDS_S, then all
    sum_s: float


class SourceReport(msgspec.Struct, frozen=True, kw_only=True):
    """The frames of a source: decoded = admitted + the sum of dropped."""

    id: str
    label: str
    decoded: int
    frames_promised: int | None  # by the index of the file; None: no index, or an estimate only
    admitted: int
    dropped: dict[str, int]  # by reason
    poisoned: int  # admitted, then given up, since two workers died while processing them
    decode_errors: int
    restarts: int  # of its decode process
    ending: str | None  # eof, drained, failed; None: it has not ended
    error: str  # why it failed
    fps: float
    latency_ms: Quantiles  # from admission until every leaf has answered
    found: Findings | None = None  # once it has ended; None: no stage publishes
    state: str = "connecting"  # connecting, online, stalled, offline, ended
    state_s: float = 0.0  # for how long
    reason: str = ""  # of that state, such as why it is offline
    attempts: int = 0  # to connect, since it was last online
    next_attempt_s: float | None = None  # until the next attempt; None: none is due
    reconnects: int = 0  # times that it came back
    epoch: int = 1  # stream epoch
    declared_fps: float = 0.0  # 0: unknown
    measured_fps: float = 0.0  # of arrival; 0: unknown, and of files
    skipped: int = 0  # pictures that were not decoded, since the stages are too slow
    suspect: int = 0  # pictures that may be damaged, since data before them was lost
    clock: str = ""  # of capture times: file, arrival or rtcp_sr
    clock_offset_ms: float | None = None  # arrival − capture time of the camera
    clock_drift_ppm: float | None = None  # of the camera's clock
    age_ms: Quantiles = Quantiles()  # of a live source, from capture until every leaf has answered
    recorded_bytes: int = 0
    chosen: dict[str, str] = {}  # what `auto` comes to, by stage and setting: track.space


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """The work of a stage."""

    name: str
    count: int  # packets it answered
    skipped: int  # packets that it did not run for, by every_s
    restarts: int  # of the processes that host it
    queue: int  # frames that wait for it or that it processes
    fps: float
    service_ms: Quantiles  # one packet's share of the call
    workers: int = 0  # processes that host it
    ready: int = 0  # of them
    calls: int = 0  # of it: each answers a batch of packets
    largest_batch: int = 0  # packets in one call
    gated: int = 0  # packets of `count` that its gate kept from its network: nothing had moved
    device: str = ""  # on which the placement has it; its `fallback`, where that is absent
    last_exit: str = ""  # why one of its processes was last restarted


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a cluster, as far as this run uses it."""

    name: str  # its address, and what tells it from others there
    processes: list[str]  # of this run, such as detect.0 and decode-gate
    frames_in: int  # whose pixels have come from other nodes
    bytes_in: int  # of these pixels
    bytes_in_s: float  # a second, since the last status


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run; rates are those since the last status."""

    wall_s: float
    sources: list[SourceReport]
    stages: list[StageReport]
    refused_messages: int = 0
    refused_clients: dict[str, int] = {}  # connections to the feed that were refused, by reason
    processes: dict[str, int] = {}  # process ids by name, such as decode-gate and detect.0
    latency: dict[str, Histogram] = {}  # by source, as `latency_ms`
    gauges: dict[str, SourceGauges] = {}  # of zones and lines, by source
    age: dict[str, Histogram] = {}  # by live source, as `age_ms`
    service: dict[str, Histogram] = {}  # by stage, as `service_ms`
    shard: str = "1/1"  # which share of the sources it has
    nodes: list[NodeReport] = []  # of a cluster
    late_messages: int = 0  # of processes that had been given up, such as after a partition
    recent: dict[str, RecentPictures] = {}  # of the last minute, by source


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run; rates are those of the time in which frames were in flight."""

    wall_s: float
    sources: list[SourceReport]
    stages: list[StageReport]
    interrupted: str = ""  # SIGINT, SIGTERM or SIGHUP, when one of them ended it
    error: str = ""  # why the run failed
    refused_messages: int = 0
    pipeline: str = ""  # hash of its configuration
    epoch: str = ""  # uuid7 of the run
    shard: str = "1/1"  # which share of the sources it had


class LatencyHistogram:
    """A histogram of durations with buckets of equal ratio."""

    def __init__(self) -> None:
        self._buckets: defaultdict[int, int] = defaultdict(int)
        self._most = 0.0
        self._sum = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        seconds = max(seconds, 0.0)  # clocks of cameras may be ahead
        bucket = int(math.log(max(seconds, SHORTEST_S) / SHORTEST_S) / LOG_RATIO)
        self._buckets[bucket] += times
        self._most = max(self._most, seconds)
        self._sum += seconds * times

    def quantiles(self) -> Quantiles:
        p50, p95, p99 = (self._quantile(q) for q in (0.5, 0.95, 0.99))
        return Quantiles(p50=p50, p95=p95, p99=p99, most=round(self._most * 1e3, 4))

    def histogram(self) -> Histogram:
        counts = [0] * (len(BOUNDS_S) + 1)
        for bucket, count in self._buckets.items():
            counts[bisect_left(BOUNDS_S, SHORTEST_S * RATIO ** (bucket + 0.5))] += count
        return Histogram(counts=list(accumulate(counts)), sum_s=self._sum)

    def _quantile(self, share: float) -> float:
        left = share * sum(self._buckets.values())
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                middle = SHORTEST_S * RATIO ** (bucket + 0.5)
                return round(min(middle, self._most) * 1e3, 4)
        return 0.0


class StageWork:
    """The calls of a stage so far."""

    def __init__(self) -> None:
        self.times = LatencyHistogram()  # one packet's share of a call
        self.packets = self.calls = 0
        self.largest = 0  # packets in one call
        self.gated = 0  # packets that its gate kept from its network

    def add(self, call: StageTime) -> None:
        self.times.add(call.seconds / max(call.packets, 1), call.packets)
        self.packets += call.packets
        self.gated += call.gated
        self.calls += 1
        self.largest = max(self.largest, call.packets)


class Meter:
    """Collects the times of stages and frames, and computes rates."""

    def __init__(self, at: float, shard: str = "1/1") -> None:
        self.start = at
        self._shard = shard
        self.findings: dict[str, Findings] = {}  # by source that has ended
        self.refused_clients: Counter[str] = Counter()  # of the feed, by reason
        self.gauges: dict[str, SourceGauges] = {}  # of zones and lines, by source
        self.late_messages = 0
        self._pixels: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])  # frames and bytes
        # from other nodes, by process
        self._chosen: dict[str, tuple[SourceInfo, dict[str, str]]] = {}  # by source
        self._work: defaultdict[str, StageWork] = defaultdict(StageWork)  # by stage
        # by source, of all and of live ones
        self._latency: defaultdict[str, LatencyHistogram] = defaultdict(LatencyHistogram)
        self._age: defaultdict[str, LatencyHistogram] = defaultdict(LatencyHistogram)
        self._first, self._last = float("inf"), at  # when frames were in flight
        self._status_at = at
        self._status_counts: Counter[tuple[str, str]] = Counter()
        self._recent = RecentCounts()

    def add_answer(self, answer: Answer) -> None:
        for call in answer.times:
            self._work[call.stage].add(call)
        if answer.findings:
            self.findings.update(answer.findings)

    def add_pixels(self, process: str, received: PixelsReceived) -> None:
        self._pixels[process][0] += received.frames
        self._pixels[process][1] += received.size

    def add_frame(self, frame: FrameCompleted, at: float) -> None:
        if frame.dropped:
            return
        self._first = min(self._first, at - frame.seconds)
        self._last = at
        source = frame.frame.source
        self._latency[source].add(frame.seconds)
        if frame.frame.clock != "file" and frame.frame.capture_us:
            self._age[source].add(time.time() - frame.frame.capture_us / 1e6)

    def status(
        self, core: Core, at: float, refused: int = 0, processes: dict[str, int] | None = None
    ) -> Status:
        seconds = max(at - self._status_at, 1e-9)
        seen = self._rates(core)
        rates = Counter(seen)
        rates.subtract(self._status_counts)
        self._status_at, self._status_counts = at, seen
        sources, stages = self._reports(
            core, at, {key: max(n, 0) / seconds for key, n in rates.items()}
        )
        return Status(
            wall_s=round(at - self.start, 3),
            sources=sources,
            stages=stages,
            refused_messages=refused,
            refused_clients=dict(self.refused_clients),
            processes=processes or {},
            gauges={name: one for name, one in self.gauges.items() if name in core.streams},
            latency={name: times.histogram() for name, times in self._latency.items()},
            age={name: times.histogram() for name, times in self._age.items()},
            service={name: work.times.histogram() for name, work in self._work.items()},
            nodes=self._nodes(core, rates, seconds),
            late_messages=self.late_messages,
            shard=self._shard,
            recent=self._recent.update(
                at,
                {
                    name: {TAKEN: one.admitted, "skipped": one.skipped, **one.dropped}
                    for name, one in core.streams.items()
                },
            ),
        )

    def summary(self, core: Core, at: float) -> Summary:
        seconds = max(self._last - self._first, 1e-9)
        sources, stages = self._reports(
            core, at, {key: n / seconds for key, n in self._rates(core).items()}
        )
        return Summary(
            wall_s=round(at - self.start, 3), sources=sources, stages=stages, shard=self._shard
        )

    def _rates(self, core: Core) -> "Counter[tuple[str, str]]":
        counts = Counter({("stage", name): work.packets for name, work in self._work.items()})
        for name, stream in core.streams.items():
            counts["source", name] = stream.admitted - len(stream.frames_in_flight)
        counts.update({("pixels", name): size for name, (_, size) in self._pixels.items()})
        return counts

    def _nodes(
        self, core: Core, new: "Counter[tuple[str, str]]", seconds: float
    ) -> list[NodeReport]:
        """Report the nodes of a cluster, with the processes that run there now."""
        homes: defaultdict[str, list[str]] = defaultdict(list)
        for workers in core.worker_groups:
            for replica in workers.replicas:
                homes[replica.node].append(replica.process.name)
        for stream in core.streams.values():
            if stream.process.alive:
                homes[stream.node].append(stream.process.name)
        homes.pop("", None)  # not of a cluster, or not started yet
        return [
            NodeReport(
                name=node,
                processes=names,
                frames_in=sum(self._pixels[name][0] for name in names),
                bytes_in=sum(self._pixels[name][1] for name in names),
                bytes_in_s=round(sum(max(new["pixels", name], 0) for name in names) / seconds, 1),
            )
            for node, names in sorted(homes.items())
        ]

    def _reports(
        self, core: Core, at: float, fps: dict[tuple[str, str], float]
    ) -> tuple[list[SourceReport], list[StageReport]]:
        sources = [
            _source(
                stream,
                at,
                fps.get(("source", name), 0.0),
                self._latency.get(name, LatencyHistogram()),
                self._age.get(name, LatencyHistogram()),
                self.findings.get(name),
                self._chosen_for(core, stream),
            )
            for name, stream in core.streams.items()
        ]
        stages = [
            self._stage(core, group, stage, fps.get(("stage", stage.name), 0.0))
            for group in core.groups
            for stage in group.stages
        ]
        return sources, stages

    def _chosen_for(self, core: Core, stream: Stream) -> dict[str, str]:
        """Return what the stages chose for an open source; asked once for each opening."""
        if stream.info is None:
            return {}
        info, chosen = self._chosen.get(stream.name, (None, {}))
        if info is not stream.info:
            stages = [stage for group in core.groups for stage in group.stages]
            chosen = {
                f"{stage.name}.{setting}": text
                for stage in stages
                for setting, text in stage.run.chosen(stream.info).items()
            }
            self._chosen[stream.name] = stream.info, chosen
        return chosen

    def _stage(self, core: Core, group: Group, stage: StageSpec, fps: float) -> StageReport:
        processes = [replica.process for replica in core.worker_groups[group.index].replicas]
        name = stage.name
        work = self._work.get(name) or StageWork()
        last = max(processes, key=lambda process: max(process.deaths, default=0.0))
        return StageReport(
            name=name,
            count=work.packets,
            skipped=core.skipped[name],
            restarts=sum(process.restarts for process in processes),
            queue=core.queue_length(group.index),
            fps=round(fps, 2),
            service_ms=work.times.quantiles(),
            workers=len(processes),
            ready=sum(process.state == "ready" for process in processes),
            calls=work.calls,
            largest_batch=work.largest,
            gated=work.gated,
            device=group.worker.device if stage.run.torch else "cpu",
            last_exit=redacted(last.last_exit),
        )


def write_summary(summary: Summary, out: Path) -> None:
    """Write `out/summary.json` as a whole; RunError when that fails."""
    path = out / "summary.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace(path, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


def _source(
    stream: Stream,
    at: float,
    fps: float,
    latency: LatencyHistogram,
    age: LatencyHistogram,
    found: Findings | None,
    chosen: dict[str, str],
) -> SourceReport:
    stats = stream.stats
    return SourceReport(
        id=stream.name,
        label=stream.known.label,
        decoded=stream.admitted + sum(stream.dropped.values()),
        frames_promised=stream.info.promised if stream.info else None,
        admitted=stream.admitted,
        dropped=dict(stream.dropped),
        poisoned=stream.poisoned,
        decode_errors=stream.past_errors + stream.errors,
        restarts=stream.process.restarts,
        ending=stream.ending if stream.done else None,
        error=stream.message,
        fps=round(fps, 2),
        latency_ms=latency.quantiles(),
        found=found,
        state=stream.state,
        state_s=round(max(at - stream.state_at, 0.0), 1) if stream.state_at else 0.0,
        reason=stream.reason,
        attempts=stream.attempts,
        next_attempt_s=_next_attempt_s(stream, at),
        reconnects=stream.reconnects,
        epoch=stream.epoch,
        declared_fps=stream.info.fps if stream.info else 0.0,
        measured_fps=round(stats.fps, 2),
        skipped=stream.skipped,
        suspect=stream.suspect,
        clock=stream.clock,
        clock_offset_ms=None if stats.offset_us is None else round(stats.offset_us / 1e3, 1),
        clock_drift_ppm=None if stats.drift_ppm is None else round(stats.drift_ppm, 1),
        age_ms=age.quantiles(),
        recorded_bytes=stream.recorded + stats.recorded_bytes,
        chosen=chosen,
    )


def _next_attempt_s(stream: Stream, at: float) -> float | None:
    """Return for how long the source still waits before it is connected again."""
    if stream.state != "offline" or stream.process.state != "waiting":
        return None
    return round(max(stream.process.due - at, 0.0), 1)
