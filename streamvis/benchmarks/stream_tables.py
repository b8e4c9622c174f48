"""The benchmark of many cameras: its arguments as texts, its results as tables."""

import re
from collections.abc import Iterator

from streamvis.benchmarks.process_samples import HUB
from streamvis.benchmarks.streams import StreamLoad, StreamsReport
from streamvis.errors import UsageError
from streamvis.runners.tables import Table

MOST_CAMERAS = 256


def counts_of(text: str) -> list[int]:
    """Parse numbers of cameras, as in `1,2,4`; UsageError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,4}", part) for part in parts):
        raise UsageError(f"--cameras {text}: expected numbers, such as 1,2,4,8")
    counts = [int(part) for part in parts]
    if wrong := [one for one in counts if not 1 <= one <= MOST_CAMERAS]:
        raise UsageError(f"--cameras {text}: {wrong[0]} cameras, expected 1 to {MOST_CAMERAS}")
    return counts


def size_of(text: str) -> tuple[int, int]:
    """Parse a size, as in `640x360`; UsageError for anything else."""
    found = re.fullmatch(r"([0-9]{2,4})[x×]([0-9]{2,4})", text.strip())
    if found is None or min(map(int, found.groups())) < 64:
        raise UsageError(f"--size {text}: expected width and height of 64 or more, as in 640x360")
    return int(found[1]), int(found[2])


def tables(report: StreamsReport) -> Iterator[Table | str]:
    """Yield how each number of cameras fared, then where the CPU time went."""
    width, height = report.size
    pace = f", {report.slow:g} times slower" if report.slow != 1 else ""
    yield (
        f"cameras of {report.fps:g} frames/s{pace}, {width}×{height}, on {report.cores} cores, "
        f"{report.seconds:g} s each"
    )
    yield Table(
        "Cameras",
        (
            *("cameras", "people", "frames/s", "of", "dropped", "p50 ms", "p99 ms", "most ms"),
            *("stages ms", "min/max", "core-ms", "cores", "needed", "hub", "load"),
        ),
        [
            (
                *(one.cameras, one.busy, f"{one.fps:.1f}", f"{one.fps_shown:.1f}", one.dropped),
                *(f"{ms:.0f}" for ms in (one.age_p50_ms, one.age_p99_ms, one.age_most_ms)),
                *(f"{one.stages_ms:.1f}", f"{one.fairness:.2f}", f"{one.core_ms:.1f}"),
                *(f"{one.cores:.2f}", f"{one.cores_needed:.2f}"),
                *(f"{one.hub_share:.1%}", f"{one.load_average:.1f}"),
            )
            for one in report.loads
        ],
    )
    rows = [(load.cameras, _spent(load)) for load in report.loads]
    names = list(dict.fromkeys(name for _, spent in rows for name in spent))
    yield Table(
        "CPU time, core-ms each second",
        ("cameras", *names),
        [(count, *(f"{spent.get(name, 0):.0f}" for name in names)) for count, spent in rows],
    )
    stages = list(dict.fromkeys(name for one in report.loads for name in one.profile.stages))
    yield Table(
        "Stages, core-ms a frame",
        ("cameras", *stages),
        [
            (load.cameras, *(f"{_stage_ms(load, name):.2f}" for name in stages))
            for load in report.loads
        ],
    )


def _stage_ms(load: StreamLoad, name: str) -> float:
    one = load.profile.stages[name]
    return one.user_ms + one.system_ms + one.state_ms


def _spent(load: StreamLoad) -> dict[str, float]:
    """Return the CPU time of a second by kind of process: workers, decode processes, the hub."""
    found: dict[str, float] = {}
    for name, one in load.profile.processes.items():
        kind = name.rpartition(".")[0] or ("decode" if name != HUB else HUB)
        ms = (one.user_ms + one.system_ms) * load.profile.fps
        found[kind] = found.get(kind, 0.0) + ms
    return found
