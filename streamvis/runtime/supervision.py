"""Decides when to start, restart, stop and kill the processes of a run.

A process slot holds one process at a time: after a death its successor takes the same slot. The
functions are pure: time comes in as an argument, and orders go out.
"""

from typing import Literal

import msgspec

ProcessState = Literal["waiting", "starting", "ready", "stopping", "dying", "gone"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Timeouts of the hub in seconds, and how many deaths of a process it tolerates."""

    deaths: int = 5  # more of them within `within_s` fail the run
    within_s: float = 60.0
    backoff_s: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)  # after the 1st, 2nd, … recent death
    heartbeat_timeout_s: float = 60.0  # a thread sends heartbeats even while a stage computes
    call_timeout_s: float = 900.0  # for one batch: a network may compile for minutes at its first
    decode_stop_s: float = 3.0  # for a decode process to exit after it was asked to
    checkpoint_s: float = 30.0  # from the first frame after one checkpoint of a file to the next
    stage_close_s: float = 10.0  # for a worker to close its stages
    drain_heartbeat_timeout_s: float = 4.0  # as `heartbeat_timeout_s`, while the run is drained
    drain_work_s: float = 6.0  # from the drain on; then frames in flight are dropped
    drain_end_s: float = 9.0  # from the drain on; then all processes are killed


class StartProcess(msgspec.Struct, frozen=True):
    """Start a process for this slot."""

    process: str


class StopProcess(msgspec.Struct, frozen=True):
    """Ask the process to exit in good order."""

    process: str


class KillProcess(msgspec.Struct, frozen=True):
    """Kill the process, then report its exit."""

    process: str
    reason: str  # empty in normal operation


Order = StartProcess | StopProcess | KillProcess


class ProcessSlot(msgspec.Struct):
    """The place of one process and its successors."""

    name: str
    state: ProcessState = "waiting"
    due: float = 0.0  # waiting: when to start; stopping: when to kill
    heartbeat_at: float = 0.0  # time of the last heartbeat
    deaths: list[float] = []  # the recent ones
    restarts: int = 0
    retiring: bool = False  # it gets no successor
    last_exit: str = ""  # why the process ended that had to be restarted

    @property
    def alive(self) -> bool:
        return self.state in ("starting", "ready", "stopping")


def advance(process: ProcessSlot, at: float, limits: Limits) -> Order | None:
    """Return the order that is due at this time, if any."""
    if process.state == "waiting" and at >= process.due:
        process.state, process.heartbeat_at = "starting", at
        return StartProcess(process.name)
    if process.state == "stopping" and at >= process.due:
        return kill(process, "it did not end when asked to")
    if process.alive and at >= process.heartbeat_at + limits.heartbeat_timeout_s:
        return kill(process, f"no heartbeat for {limits.heartbeat_timeout_s:g} s")
    return None


def next_due(process: ProcessSlot, limits: Limits) -> float:
    """Return the time at which `advance` returns an order next."""
    if process.state in ("waiting", "stopping"):
        return process.due
    return process.heartbeat_at + limits.heartbeat_timeout_s if process.alive else float("inf")


def kill(process: ProcessSlot, reason: str) -> KillProcess:
    process.state = "dying"
    return KillProcess(process.name, reason)


def stop(process: ProcessSlot, at: float, timeout_s: float) -> Order | None:
    """End the process for good: ask it once it is ready, kill it while it is starting."""
    process.retiring = True
    if process.state == "waiting":
        process.state = "gone"
    if process.state == "starting":
        return kill(process, "")
    if process.state == "ready":
        process.state, process.due = "stopping", at + timeout_s
        return StopProcess(process.name)
    return None


def record_exit(process: ProcessSlot, at: float, limits: Limits, reason: str = "") -> bool:
    """Record the death of the process and plan its successor; False when there were too many."""
    process.last_exit = reason
    process.deaths = [*(t for t in process.deaths if t > at - limits.within_s), at]
    if len(process.deaths) > limits.deaths:
        process.state = "gone"
        return False
    backoff = limits.backoff_s[min(len(process.deaths), len(limits.backoff_s)) - 1]
    process.state, process.due = "waiting", at + backoff
    process.restarts += 1
    return True
