"""The metrics of a run in the data model of Prometheus, from its latest status.

Names follow its conventions: base units, `_total` for counters. Labels have a bounded number of
values: ids of sources, names of stages and of processes, and fixed sets of states and reasons.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from streamvis import __version__
from streamvis.messages import Clock, LineGauges, SourceGauges, ZoneGauges
from streamvis.runtime.metrics import BOUNDS_S, Histogram, SourceReport, Status
from streamvis.runtime.resource_usage import Disk, Usage
from streamvis.runtime.state import SourceState
from streamvis.transport.peers import REASONS as REFUSED

PREFIX = "streamvis_"
STATES: Sequence[str] = get_args(SourceState)
CLOCKS: Sequence[str] = get_args(Clock)
REASONS = ("overload", "drained", "poison")  # of dropped frames; others count as `other`
MOST_SOURCES = 1000  # with metrics; those that have not ended come first
MOST_SHAPES = 2000  # zones with metrics, and as many lines; the first of each source come first

G = TypeVar("G", ZoneGauges, LineGauges)

COUNTER, GAUGE = CounterMetricFamily, GaugeMetricFamily
Family = type[CounterMetricFamily] | type[GaugeMetricFamily]
# (kind, name, what it is, its value in a report or None where it is not known)
Definition = tuple[Family, str, str, Callable[[Any], float | None]]

SOURCE: Sequence[Definition] = (
    (GAUGE, "state_seconds", "Time in the present state.", lambda s: s.state_s),
    (COUNTER, "frames_decoded", "Frames decoded: admitted + dropped.", lambda s: s.decoded),
    (COUNTER, "frames_admitted", "Frames given to the stages.", lambda s: s.admitted),
    (COUNTER, "frames_skipped", "Frames skipped before decoding.", lambda s: s.skipped),
    (COUNTER, "frames_suspect", "Frames that may be damaged by lost data.", lambda s: s.suspect),
    (COUNTER, "frames_poisoned", "Frames given up: workers died of them.", lambda s: s.poisoned),
    (COUNTER, "decode_errors", "Packets and pictures not decodable.", lambda s: s.decode_errors),
    (COUNTER, "reconnects", "Times that the source came back.", lambda s: s.reconnects),
    (GAUGE, "connect_attempts", "Attempts since it was last online.", lambda s: s.attempts),
    (COUNTER, "restarts", "Restarts of its decode process.", lambda s: s.restarts),
    (GAUGE, "stream_epoch", "Number of the present stream epoch.", lambda s: s.epoch),
    (GAUGE, "declared_hertz", "Frame rate the source declares.", lambda s: s.declared_fps or None),
    (GAUGE, "measured_hertz", "Frame rate of arrival.", lambda s: s.measured_fps or None),
    (
        GAUGE,
        "clock_offset_seconds",
        "Arrival - capture time by the camera's clock.",
        lambda s: None if s.clock_offset_ms is None else s.clock_offset_ms / 1e3,
    ),
    (
        GAUGE,
        "clock_drift_ratio",
        "Drift of the camera's clock, seconds per second.",
        lambda s: None if s.clock_drift_ppm is None else s.clock_drift_ppm / 1e6,
    ),
    (COUNTER, "recorded_bytes", "Bytes written to recordings.", lambda s: s.recorded_bytes),
)
STAGE: Sequence[Definition] = (
    (COUNTER, "packets", "Packets answered.", lambda g: g.count),
    (COUNTER, "calls", "Calls, each of a batch of packets.", lambda g: g.calls),
    (COUNTER, "packets_skipped", "Packets it did not run for, by every_s.", lambda g: g.skipped),
    (
        COUNTER,
        "packets_gated",
        "Of the packets, without movement: not analysed.",
        lambda g: g.gated,
    ),
    (GAUGE, "queue_packets", "Packets that wait for it or are with it.", lambda g: g.queue),
    (COUNTER, "restarts", "Restarts of its workers after a crash.", lambda g: g.restarts),
    (GAUGE, "workers", "Worker processes that it should have.", lambda g: g.workers),
    (GAUGE, "ready_workers", "Worker processes that are ready.", lambda g: g.ready),
)
PROCESS: Sequence[Definition] = (
    (
        GAUGE,
        "resident_memory_bytes",
        "Memory, with the shared memory that it maps.",
        lambda p: p.resident_bytes,
    ),
    (GAUGE, "open_fds", "Open file descriptors.", lambda p: p.open_fds),
    (GAUGE, "threads", "Threads.", lambda p: p.threads),
    (COUNTER, "cpu_seconds", "CPU time, user and system.", lambda p: p.cpu_s),
)

# A correction may lower a count: a counter would be taken as begun anew, and counted twice.
ZONE: Sequence[tuple[str, str, Callable[[ZoneGauges], float]]] = (
    ("people", "People who have entered and not left.", lambda z: z.people),
    ("expected_people", "Expected number of people.", lambda z: z.mean),
    (
        "occupied_probability",
        "Probability that at least one person is inside.",
        lambda z: z.p_occupied,
    ),
    ("longest_stay_seconds", "Stay of who is inside for longest.", lambda z: z.longest_s),
    ("entries", "Visits so far; corrections may lower it.", lambda z: z.entries),
)


def exposition(
    status: Status, processes: Mapping[str, Usage], disk: Disk | None, age_s: float
) -> bytes:
    """Return the metrics in the text format of Prometheus."""
    return text_of(families(status, processes, disk, age_s))


def text_of(metrics: Iterable[Metric]) -> bytes:
    """Return metrics in the text format of Prometheus."""
    return generate_latest(_Collected(list(metrics)))


def families(
    status: Status, processes: Mapping[str, Usage], disk: Disk | None, age_s: float
) -> Iterator[Metric]:
    """Yield every metric of the run; one without a known value has no samples.

    `processes` and `disk` are what its processes and the disk of its output use, `age_s` is the
    time since the status.
    """
    sources = sorted(status.sources, key=lambda s: s.state == "ended")[:MOST_SOURCES]
    ids = {source.id for source in sources}
    yield from _numbers("source", SOURCE, ((s.id, s) for s in sources))
    yield _one_hot(
        "source_state",
        "1 for the present state, 0 for the others.",
        "state",
        STATES,
        ((s.id, s.state) for s in sources),
    )
    yield _one_hot(
        "source_clock",
        "1 for the clock of its capture times, 0 for the others.",
        "clock",
        CLOCKS,
        ((s.id, s.clock) for s in sources if s.clock),
    )
    yield _dropped(sources)
    gauges = [(s.id, status.gauges[s.id]) for s in sources if s.id in status.gauges]
    yield from _zones(gauges)
    yield _crossings(gauges)
    yield _histogram(
        "source_latency_seconds",
        "Time from the admission of a frame until every stage has answered it.",
        "source",
        ((name, times) for name, times in status.latency.items() if name in ids),
    )
    yield _histogram(
        "source_age_seconds",
        "Time from the capture of a live frame until every stage has answered it.",
        "source",
        ((name, times) for name, times in status.age.items() if name in ids),
    )
    yield from _numbers("stage", STAGE, ((stage.name, stage) for stage in status.stages))
    yield _histogram(
        "stage_service_seconds",
        "Time of a stage for one packet.",
        "stage",
        status.service.items(),
    )
    yield from _numbers("process", PROCESS, processes.items())
    yield from _run(status, disk, age_s)


def _run(status: Status, disk: Disk | None, age_s: float) -> Iterator[Metric]:
    yield InfoMetricFamily(
        f"{PREFIX}build",
        "Versions of streamvis and Python.",
        {"version": __version__, "python": platform.python_version()},
    )
    yield COUNTER(
        f"{PREFIX}refused_messages",
        "Messages that no process of this run has sent.",
        status.refused_messages,
    )
    refused = COUNTER(
        f"{PREFIX}feed_refused", "Connections to the feed that were refused.", labels=["reason"]
    )
    for reason in REFUSED:
        refused.add_metric([reason], status.refused_clients.get(reason, 0))
    yield refused
    yield GAUGE(f"{PREFIX}uptime_seconds", "Time since the run began.", status.wall_s)
    yield GAUGE(f"{PREFIX}status_age_seconds", "Age of these numbers; the hub renews them.", age_s)
    free = GAUGE(f"{PREFIX}out_free_bytes", "Free space on the disk of --out.")
    size = GAUGE(f"{PREFIX}out_size_bytes", "Size of the disk of --out.")
    if disk is not None:
        free.add_metric([], disk.free_bytes)
        size.add_metric([], disk.size_bytes)
    yield from (free, size)


def _numbers(
    what: str, definitions: Sequence[Definition], reports: Iterable[tuple[str, object]]
) -> Iterator[Metric]:
    """Yield a metric for each definition, with a sample for each named report."""
    rows = list(reports)
    for kind, name, text, value_in in definitions:
        family = kind(f"{PREFIX}{what}_{name}", text, labels=[what])
        for label, report in rows:
            if (value := value_in(report)) is not None:
                family.add_metric([label], value)
        yield family


def _one_hot(
    name: str, text: str, label: str, values: Sequence[str], sources: Iterable[tuple[str, str]]
) -> Metric:
    family = GAUGE(f"{PREFIX}{name}", text, labels=["source", label])
    for source, present in sources:
        for value in values:
            family.add_metric([source, value], float(value == present))
    return family


def _dropped(sources: Iterable[SourceReport]) -> Metric:
    family = COUNTER(
        f"{PREFIX}source_frames_dropped",
        "Frames decoded, then dropped.",
        labels=["source", "reason"],
    )
    for source in sources:
        counts = {reason: source.dropped.get(reason, 0) for reason in REASONS}
        other = sum(source.dropped.values()) - sum(counts.values())
        for reason, count in counts.items() | {("other", other)}:
            family.add_metric([source.id, reason], count)
    return family


def _zones(gauges: Sequence[tuple[str, SourceGauges]]) -> Iterator[Metric]:
    rows = _shared([(source, [*one.zones.items()]) for source, one in gauges])
    for name, text, value_in in ZONE:
        family = GAUGE(f"{PREFIX}zone_{name}", text, labels=["source", "zone"])
        for source, zone, numbers in rows:
            family.add_metric([source, zone], value_in(numbers))
        yield family


def _crossings(gauges: Sequence[tuple[str, SourceGauges]]) -> Metric:
    family = GAUGE(
        f"{PREFIX}line_crossings",
        "Crossings so far; corrections may lower it.",
        labels=["source", "line", "direction"],
    )
    rows: list[tuple[str, str, LineGauges]]
    rows = _shared([(source, [*one.lines.items()]) for source, one in gauges])
    for source, line, totals in rows:
        family.add_metric([source, line, "in"], totals.in_total)
        family.add_metric([source, line, "out"], totals.out_total)
    return family


def _shared(named: Sequence[tuple[str, Sequence[tuple[str, G]]]]) -> list[tuple[str, str, G]]:
    """Return at most MOST_SHAPES rows: source, name, numbers; the first of each source first."""
    rows = [
        (place, source, name, numbers)
        for source, listed in named
        for place, (name, numbers) in enumerate(listed)
    ]
    rows = sorted(rows, key=lambda row: row[0])[:MOST_SHAPES]
    return [row[1:] for row in rows]


def _histogram(name: str, text: str, label: str, rows: Iterable[tuple[str, Histogram]]) -> Metric:
    family = HistogramMetricFamily(f"{PREFIX}{name}", text, labels=[label])
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    for value, times in rows:
        buckets = list(zip(bounds, times.counts, strict=True))
        family.add_metric([value], buckets, times.sum_s)
    return family


class _Collected:
    """Metrics where prometheus-client expects a registry."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        return self._metrics
