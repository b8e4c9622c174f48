"""The benchmark of clusters: its arguments as texts, its results as tables and charts."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from streamvis.benchmarks.cluster import ClusterLoad, ClusterReport
from streamvis.errors import UsageError
from streamvis.runners.tables import Table

MOST = 10_000
CHART, LOST_CHART = "cluster.png", "lost-node.png"


def counts_of(text: str, option: str = "--cameras") -> list[int]:
    """Parse numbers, as in `1,10,100`; UsageError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,5}", part) and 1 <= int(part) <= MOST for part in parts):
        raise UsageError(f"{option} {text}: expected numbers from 1 to {MOST}, such as 1,10,100")
    return [int(part) for part in parts]


def tables(report: ClusterReport) -> Iterator[Table | str]:
    """Yield how each cluster fared, then the limit, the lost node, and the comparison."""
    costs = report.costs
    yield (
        f"cameras of {report.fps:g} frames/s, {report.seconds:g} s in virtual time; assumed: "
        f"{costs.hop_us:g} µs of the hub for a hop, {costs.detect_ms:g} ms of a GPU for a frame "
        f"and {costs.call_ms:g} for a call, {costs.track_ms:g} ms to track, "
        f"{costs.publish_ms:g} to publish"
    )
    yield Table(
        "Clusters",
        (
            *("cameras", "GPUs", "hubs", "done", "frames/s", "p50 ms", "p99 ms", "min/max"),
            *("hub", "detect", "track", "publish", "core µs"),
        ),
        [_row(one) for one in report.loads],
    )
    if report.cameras_per_hub is not None:
        yield f"most cameras of one hub: {report.cameras_per_hub}"
    if (lost := report.lost) is not None:
        yield Table(
            f"{lost.cameras} cameras, {lost.gpus} GPUs on {lost.nodes} nodes, {lost.hubs} hubs; "
            f"one node gone for {lost.seconds:g} s; all is back {lost.back_s:g} s after it",
            ("", "done", "p99 ms"),
            [
                (name, f"{share:.3f}", f"{lost.age_p99_ms[name]:.0f}")
                for name, share in lost.share.items()
            ],
        )
    if report.real:
        yield Table(
            "Workers that sleep: real, and simulated",
            ("cameras", "done", "sim.", "p50 ms", "sim.", "p99 ms", "sim."),
            [
                (
                    *(one.cameras, f"{one.done:.3f}", f"{one.simulated_done:.3f}"),
                    *(f"{one.age_p50_ms:.0f}", f"{one.simulated_p50_ms:.0f}"),
                    *(f"{one.age_p99_ms:.0f}", f"{one.simulated_p99_ms:.0f}"),
                )
                for one in report.real
            ],
        )


def draw(report: ClusterReport, folder: Path) -> Iterator[Path]:
    """Draw the report into `cluster.png` and `lost-node.png`; yield their paths."""
    from streamvis.viz import plots

    sizes = sorted({one.gpus for one in report.loads})
    rows = {f"{size} GPUs": [one for one in report.loads if one.gpus == size] for size in sizes}
    values: dict[str, Callable[[ClusterLoad], float]] = {
        "frames/s": lambda one: one.fps,
        "age of events, p99, s": lambda one: one.age_p99_ms / 1e3,
        "fairness: fewest frames of a camera over most": lambda one: one.fairness,
        "share of its time that the busiest hub works": lambda one: one.hub,
        "CPU time of the core for a message, µs": lambda one: one.core_us,
    }
    panels = {
        title: {
            name: ([float(one.cameras) for one in loads], [value(one) for one in loads])
            for name, loads in rows.items()
        }
        for title, value in values.items()
    }
    plots.stacked(folder / CHART, panels, x="cameras", log_x=True)
    yield folder / CHART
    if (lost := report.lost) is not None:
        seconds = [float(second - lost.second[0]) for second in lost.second]
        title = f"frames/s of {lost.cameras} cameras, one of {lost.nodes} nodes lost"
        panels = {
            title: {"": (seconds, lost.fps)},
            "age of events, p99 of the hub that has the node, ms": {"": (seconds, lost.p99_ms)},
        }
        plots.stacked(folder / LOST_CHART, panels, x="s")
        yield folder / LOST_CHART


def _row(one: ClusterLoad) -> tuple[object, ...]:
    shares = (one.hub, one.detect, one.track, one.publish)
    return (
        *(one.cameras, one.gpus, one.hubs, f"{one.done:.3f}", f"{one.fps:.1f}"),
        *(f"{one.age_p50_ms:.0f}", f"{one.age_p99_ms:.0f}", f"{one.fairness:.2f}"),
        *(f"{share:.2f}" for share in shares),
        f"{one.core_us:.0f}",
    )
