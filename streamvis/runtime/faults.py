"""What is wrong with a run, in words, with what to do about it; pure."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from streamvis.runtime.metrics import SourceReport, StageReport, Status
from streamvis.runtime.recent import RecentPictures
from streamvis.runtime.resource_usage import Disk

PATIENCE_S = 5.0  # a source that connects for longer is worth a line
OTHER_RATE = 0.2  # share by which the measured frame rate may differ from the declared one
MANY_LOST = 0.05  # share of pictures that are dropped or skipped
BEHIND_MS, AHEAD_MS = 5000.0, 500.0  # from which a camera's clock is called wrong: the time that a
# picture takes to arrive looks like a clock that is behind
STEADY_S = 30.0  # online for so long, a frame rate is that of the camera
LITTLE_SPACE = 0.03  # share of the disk that is free

STATES, METRICS = "docs/operations.md, States of a source", "docs/operations.md, Metrics"
LOG, DISK = "docs/operations.md, The log", "docs/operations.md, Disk and memory"
FEED = "docs/security.md, The feed"

Weight = Literal["error", "warning"]  # error: something is not processed now


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong."""

    weight: Weight  # error: something is not processed; warning: it is, but look at it
    about: str  # id of the source, name of the stage, `feed` or `disk`
    text: str  # what is wrong
    to_do: str  # what to do about it
    see: str  # file and section of the documentation


def faults(status: Status, disk: Disk | None = None) -> list[Fault]:
    """Return what is wrong, errors first; nothing when all is well."""
    none = RecentPictures(0, {})
    found = [
        fault
        for source in status.sources
        for fault in _of_source(source, status.recent.get(source.id, none))
    ]
    found += [fault for stage in status.stages for fault in _of_stage(stage)]
    if refused := status.refused_clients:
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items()))
        found.append(
            _warning(
                "feed",
                f"the feed has refused connections ({counts}); the log says whose",
                "give clients that may read the feed a key; look for the others by their address",
                FEED,
            )
        )
    if disk is not None and is_nearly_full(disk):
        found.append(
            Fault(
                weight="error",
                about="disk",
                text=f"the disk of the output directory is nearly full: "
                f"{disk.free_bytes / disk.size_bytes:.0%} of it is free",
                to_do="make room, or set keep_days and keep_gb of publish and of the recordings",
                see=DISK,
            )
        )
    return sorted(found, key=lambda fault: fault.weight)


def is_nearly_full(disk: Disk) -> bool:
    """Whether little of the disk is free."""
    return disk.free_bytes < LITTLE_SPACE * disk.size_bytes


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


def _of_source(s: SourceReport, recent: RecentPictures) -> Iterator[Fault]:
    yield from _of_state(s)
    if s.state == "ended":
        return
    lost = sum(recent.lost.values())
    pictures = recent.taken + lost
    if lost > MANY_LOST * pictures:
        counts = ", ".join(f"{reason} {n}" for reason, n in recent.lost.items())
        yield _warning(
            s.id,
            f"{s.id}: {lost / pictures:.0%} of its pictures of the last minute were not analysed "
            f"({counts})",
            "the stage whose queue is full is too slow: give it a smaller picture, every_s, or a "
            "faster device",
        )
    if s.suspect:
        yield _warning(
            s.id,
            f"{s.id}: {s.suspect} pictures may be damaged, since data before them was lost",
            "look at the network between; transport: tcp loses less",
        )
    if s.decode_errors:
        yield _warning(
            s.id,
            f"{s.id}: {s.decode_errors} errors of decoding",
            "look at the network between, and at the settings of the camera's encoder",
        )
    rates = s.measured_fps and s.declared_fps
    if rates and s.state_s > STEADY_S and abs(s.measured_fps / s.declared_fps - 1) > OTHER_RATE:
        yield _warning(
            s.id,
            f"{s.id} delivers {s.measured_fps:.1f} frames/s, though it declares "
            f"{s.declared_fps:g}: the measured rate counts",
            "look at the camera's settings for darkness and for bandwidth",
        )
    if s.clock_offset_ms is not None and not -AHEAD_MS <= s.clock_offset_ms <= BEHIND_MS:
        side = "behind" if s.clock_offset_ms > 0 else "ahead of"
        away = duration(abs(s.clock_offset_ms) / 1000)
        yield _warning(
            s.id,
            f"{s.id}: its clock is {away} {side} ours; set its time server (NTP)",
            "set the time server in the camera, and that of this machine",
        )


def _of_state(s: SourceReport) -> Iterator[Fault]:
    """Yield why a source delivers nothing."""
    lasts = f"{s.id} {s.state} for {duration(s.state_s)}"
    match s.state:
        case "offline":
            text = f"{lasts}: {s.reason or 'no reason given'}{_attempts(s)}"
        case "stalled":
            text = f"{lasts}: {s.reason or 'connected, but nothing arrives'}"
        case "connecting" if s.reason or s.attempts > 1 or s.state_s > PATIENCE_S:
            text = f"{lasts}: {s.reason or 'no picture yet'}{_attempts(s)}"
        case "ended" if s.error:
            text = f"{s.id} has failed: {s.error}"
        case _:
            return
    yield Fault(weight="error", about=s.id, text=text, to_do=_TO_DO[s.state], see=STATES)


_TO_DO = {
    "offline": "it is connected again by itself; the table of reasons says what to look at",
    "stalled": "look at the network and the load of the camera; raise stall_s, or use "
    "transport: tcp",
    "connecting": "wait for its next key frame; the table of reasons says what to look at",
    "ended": "repair what the error names, then start it again: streamvis sources restart",
}


def _attempts(s: SourceReport) -> str:
    if not s.attempts:
        return ""
    waits = "" if s.next_attempt_s is None else f", next in {s.next_attempt_s:.0f} s"
    return f" (attempt {s.attempts}{waits})"


def _of_stage(stage: StageReport) -> Iterator[Fault]:
    if stage.restarts:
        times = "once" if stage.restarts == 1 else f"{stage.restarts} times"
        why = f", the last time: {stage.last_exit}" if stage.last_exit else "; the log says why"
        yield _warning(
            stage.name,
            f"stage {stage.name}: its process was restarted {times}{why}",
            "look for its last output in the log; more than five in a minute end the run",
            LOG,
        )


def _warning(about: str, text: str, to_do: str, see: str = METRICS) -> Fault:
    return Fault(weight="warning", about=about, text=text, to_do=to_do, see=see)
