"""The status of a run that is under way: tables, and in words what is wrong with it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from streamvis.runners.tables import Table
from streamvis.runtime.metrics import SourceReport, StageReport, Status

PATIENCE_S = 5.0  # a source that connects for longer is worth a line
OTHER_RATE = 0.2  # share by which the measured frame rate may differ from the declared one
MANY_LOST = 0.05  # share of pictures that are dropped or skipped
BEHIND_MS, AHEAD_MS = 5000.0, 500.0  # from which a camera's clock is called wrong: the time that a
# picture takes to arrive looks like a clock that is behind
STEADY_S = 30.0  # online for so long, a frame rate is that of the camera
LITTLE_SPACE = 0.03  # share of the disk that is free


def tables(status: Status, out: Path | None = None) -> Iterator[Table | str]:
    """Yield the state and the counts of the sources, the stages, the disk, and what is wrong."""
    columns = ("source", "state", "fps", "camera fps", "age ms", "clock")
    yield Table(duration(status.wall_s), columns, [_state_row(s) for s in status.sources])
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
    if out is not None and (disk := _disk(status, out)):
        yield disk
    yield from problems(status)


def problems(status: Status) -> list[str]:
    """Return a line for each thing that is wrong, in words; empty when all is well."""
    found = [line for source in status.sources for line in _problems_of(source)]
    found += [line for stage in status.stages for line in _stage_problems(stage)]
    if refused := status.refused_clients:
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items()))
        found.append(f"the feed has refused connections ({counts}); the log says whose")
    return found


def duration(seconds: float) -> str:
    """Write a duration with one or two units: 12 s, 3 min, 2 h 5 min, 4 d 3 h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


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
        disk = shutil.disk_usage(out)
    except OSError as error:
        return f"disk of {out}: {error.strerror}"
    recorded = sum(source.recorded_bytes for source in status.sources)
    text = f"disk of {out}: {_size(disk.free)} of {_size(disk.total)} free"
    text += f", {_size(recorded)} recorded by this run" if recorded else ""
    return text + (": it is nearly full" if disk.free < LITTLE_SPACE * disk.total else "")


def _problems_of(s: SourceReport) -> Iterator[str]:
    yield from _state_problem(s)
    if s.state == "ended":
        return
    pictures = s.decoded + s.skipped
    lost = sum(s.dropped.values()) + s.skipped
    if lost > MANY_LOST * pictures:
        reasons = dict(s.dropped) | ({"skipped": s.skipped} if s.skipped else {})
        counts = ", ".join(f"{reason} {n}" for reason, n in reasons.items() if n)
        yield f"{s.id}: {lost / pictures:.0%} of its pictures were not analysed ({counts})"
    if s.suspect:
        yield f"{s.id}: {s.suspect} pictures may be damaged, since data before them was lost"
    if s.decode_errors:
        yield f"{s.id}: {s.decode_errors} errors of decoding"
    rates = s.measured_fps and s.declared_fps
    if rates and s.state_s > STEADY_S and abs(s.measured_fps / s.declared_fps - 1) > OTHER_RATE:
        yield (
            f"{s.id} delivers {s.measured_fps:.1f} frames/s, though it declares "
            f"{s.declared_fps:g}: the measured rate counts"
        )
    if s.clock_offset_ms is not None and not -AHEAD_MS <= s.clock_offset_ms <= BEHIND_MS:
        side = "behind" if s.clock_offset_ms > 0 else "ahead of"
        away = duration(abs(s.clock_offset_ms) / 1000)
        yield f"{s.id}: its clock is {away} {side} ours; set its time server (NTP)"


def _state_problem(s: SourceReport) -> Iterator[str]:
    """Yield why a source delivers nothing."""
    lasts = f"{s.id} {s.state} for {duration(s.state_s)}"
    match s.state:
        case "offline":
            yield f"{lasts}: {s.reason or 'no reason given'}{_attempts(s)}"
        case "stalled":
            yield f"{lasts}: {s.reason or 'connected, but nothing arrives'}"
        case "connecting" if s.reason or s.attempts > 1 or s.state_s > PATIENCE_S:
            yield f"{lasts}: {s.reason or 'no picture yet'}{_attempts(s)}"
        case "ended" if s.error:
            yield f"{s.id} has failed: {s.error}"


def _attempts(s: SourceReport) -> str:
    if not s.attempts:
        return ""
    waits = "" if s.next_attempt_s is None else f", next in {s.next_attempt_s:.0f} s"
    return f" (attempt {s.attempts}{waits})"


def _stage_problems(stage: StageReport) -> Iterator[str]:
    if stage.restarts:
        times = "once" if stage.restarts == 1 else f"{stage.restarts} times"
        yield f"stage {stage.name}: its process was restarted {times}; the log says why"


def _size(count: int) -> str:
    """Write a number of bytes: 950 MB, 1.2 GB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
