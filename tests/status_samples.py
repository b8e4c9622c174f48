"""A status of a run with a camera that is online, one that is away, and a file, in every detail."""

from prometheus_client.parser import text_string_to_metric_families

from streamvis.messages import LineGauges, SourceGauges, ZoneGauges
from streamvis.runtime.metrics import (
    BOUNDS_S,
    Histogram,
    LatencyHistogram,
    Quantiles,
    SourceReport,
    StageReport,
    Status,
)
from streamvis.runtime.resource_usage import Disk, Usage


def scraped(text: str) -> dict[tuple[str, ...], float]:
    """Values as Prometheus' parser reads them, by name and labels: that of the source first."""
    return {
        (sample.name.removeprefix("streamvis_"), *_values(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _values(labels: dict[str, str]) -> list[str]:
    return [value for _, value in sorted(labels.items(), key=lambda item: item[0] != "source")]


def source(name: str, **changes: object) -> SourceReport:
    values: dict[str, object] = {
        "label": f"{name}.mp4",
        "decoded": 0,
        "frames_promised": None,
        "admitted": 0,
        "dropped": {},
        "poisoned": 0,
        "decode_errors": 0,
        "restarts": 0,
        "ending": None,
        "error": "",
        "fps": 0.0,
        "latency_ms": Quantiles(),
    }
    return SourceReport(id=name, **(values | changes))  # type: ignore[arg-type]


def stage(name: str, **changes: object) -> StageReport:
    values: dict[str, object] = {"count": 0, "skipped": 0, "restarts": 0, "queue": 0, "fps": 0.0}
    values |= {"service_ms": Quantiles(), "workers": 1, "ready": 1}
    return StageReport(name=name, **(values | changes))  # type: ignore[arg-type]


def times(*seconds: float) -> Histogram:
    measured = LatencyHistogram()
    for value in seconds:
        measured.add(value)
    return measured.histogram()


GATE = source(
    "gate",
    decoded=120,
    admitted=100,
    dropped={"overload": 15, "drained": 3, "something new": 2},
    poisoned=1,
    decode_errors=4,
    restarts=2,
    state="online",
    state_s=61.5,
    reconnects=5,
    epoch=6,
    declared_fps=25.0,
    measured_fps=12.5,
    skipped=40,
    suspect=7,
    clock="rtcp_sr",
    clock_offset_ms=80.0,
    clock_drift_ppm=-25.0,
    recorded_bytes=5_000_000,
)
YARD = source("yard", state="offline", state_s=12.0, reason="connection refused", attempts=3)
TAPE = source("tape", state="ended", admitted=10, decoded=10, ending="eof", clock="file")
STATUS = Status(
    wall_s=3600.0,
    sources=[GATE, YARD, TAPE],
    stages=[
        stage("detect", count=110, skipped=5, restarts=1, queue=3, workers=2, ready=2),
        stage("publish", count=110),
    ],
    refused_messages=9,
    refused_clients={"unknown_key": 4, "flood": 1},
    processes={},
    latency={"gate": times(0.02, 0.2, 40.0), "tape": times(0.3)},
    age={"gate": times(0.1, 0.4, 45.0)},
    gauges={
        "gate": SourceGauges(
            {"door": ZoneGauges(2, 2.13, 0.99, 35.5, 214), "hall": ZoneGauges(0, 0.1, 0.1, 0, 3)},
            {"line 1": LineGauges(87, 91)},
        )
    },
    service={"detect": times(0.03), "publish": times(0.001)},
)
USAGES = {
    "hub": Usage(resident_bytes=90_000_000, open_fds=40, threads=4, cpu_s=12.5),
    "detect.0": Usage(resident_bytes=900_000_000, open_fds=20, threads=9, cpu_s=3000.0),
}
DISK = Disk(free_bytes=20_000_000_000, size_bytes=100_000_000_000)
assert len(STATUS.age["gate"].counts) == len(BOUNDS_S) + 1
