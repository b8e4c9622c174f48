"""The status of a run that is under way: tables, and in words what is wrong with it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from streamvis.runners.tables import Table
from streamvis.runtime.faults import duration, faults, is_nearly_full
from streamvis.runtime.metrics import SourceReport, Status
from streamvis.runtime.resource_usage import Disk


def tables(status: Status, out: Path | None = None) -> Iterator[Table | str]:
    """Yield the state and the counts of the sources, the stages, the disk, and what is wrong."""
    columns = ("source", "state", "fps", "camera fps", "age ms", "clock")
    share = "" if status.shard == "1/1" else f", shard {status.shard}"
    yield Table(
        f"{duration(status.wall_s)}{share}", columns, [_state_row(s) for s in status.sources]
    )
    counts = ("admitted", "dropped", "skipped", "errors", "reconnects")
    yield Table("", ("source", *counts), [_count_row(s) for s in status.sources])
    stages = [
        (
            *(g.name, g.count, g.queue, g.restarts, g.fps),
            f"{g.service_ms.p50:.1f} / {g.service_ms.p99:.1f}",
        )
        for g in status.stages
    ]
    yield Table("", ("stage", "done", "queue", "restarts", "fps", "ms"), stages)
    for stage in status.stages:
        if stage.gated:
            share = f"{100 * stage.gated / stage.count:.0f}%"
            yield f"{stage.name}: nothing had moved in {share} of its frames: not looked at"
    if status.nodes:
        rows = [
            (n.name, ", ".join(n.processes), f"{_size(round(n.bytes_in_s))}/s")
            for n in status.nodes
        ]
        yield Table("", ("node", "processes", "pixels from others"), rows)
    for source in status.sources:
        yield from (f"{source.id}: {name} is {text}" for name, text in source.chosen.items())
    if out is not None and (disk := _disk(status, out)):
        yield disk
    yield from problems(status)


def problems(status: Status) -> list[str]:
    """Return a line for each thing that is wrong, in words; empty when all is well."""
    return [fault.text for fault in faults(status)]


def _state_row(s: SourceReport) -> tuple[object, ...]:
    age = s.age_ms if s.age_ms.most else s.latency_ms  # of files: since admission
    ages = f"{age.p50:.0f} / {age.p99:.0f}" if age.most else None
    return s.id, _state(s), s.fps, _camera_rate(s), ages, _clock(s)


def _count_row(s: SourceReport) -> tuple[object, ...]:
    return s.id, s.admitted, sum(s.dropped.values()), s.skipped, s.decode_errors, s.reconnects


def _state(s: SourceReport) -> str:
    state = f"{s.state} ({s.ending})" if s.ending else s.state
    return f"{state} {duration(s.state_s)}" if s.state_s >= 1 else state


def _camera_rate(s: SourceReport) -> str | None:
    """Return the measured and the declared rate of a live source."""
    if not s.measured_fps:
        return None
    return (
        f"{s.measured_fps:.1f} of {s.declared_fps:g}" if s.declared_fps else f"{s.measured_fps:.1f}"
    )


def _clock(s: SourceReport) -> str | None:
    if s.clock_offset_ms is None:
        return s.clock or None
    return f"{s.clock} {s.clock_offset_ms:+.0f} ms"


def _disk(status: Status, out: Path) -> str:
    try:
        usage = shutil.disk_usage(out)
    except OSError as error:
        return f"disk of {out}: {error.strerror}"
    disk = Disk(free_bytes=usage.free, size_bytes=usage.total)
    recorded = sum(source.recorded_bytes for source in status.sources)
    text = f"disk of {out}: {_size(disk.free_bytes)} of {_size(disk.size_bytes)} free"
    text += f", {_size(recorded)} recorded by this run" if recorded else ""
    return text + (": it is nearly full" if is_nearly_full(disk) else "")


def _size(count: int) -> str:
    """Write a number of bytes: 950 MB, 1.2 GB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:  # which is rounded to 3 digits
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
