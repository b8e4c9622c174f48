"""The lives of the run's processes, as decisions: when to start, restart, stop and kill each.

A seat is a place for one process; its successors after deaths take the same seat. Pure: time
comes in as an argument, and what is to be done goes out as orders.
"""

from typing import Literal

import msgspec

ProcessState = Literal["waiting", "starting", "ready", "stopping", "dying", "gone"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the hub is, in seconds."""

    deaths: int = 5  # more of them within `within_s` fail the run
    within_s: float = 60.0
    backoff_s: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)  # after the 1st, 2nd, … recent death
    heartbeat_timeout_s: float = (
        60.0  # without a heartbeat: a thread beats even while a stage computes
    )
    call_timeout_s: float = 900.0  # for one batch: a network may compile for minutes at its first
    decode_stop_s: float = 3.0  # for a decode process to end politely
    checkpoint_s: float = 30.0  # from the first frame after one checkpoint of a file to the next
    stage_close_s: float = 10.0  # for a worker to close its stages
    drain_heartbeat_timeout_s: float = 2.0  # as `silence_s`, while the run is drained
    drain_work_s: float = 6.0  # from the drain on; then frames in flight are dropped
    drain_end_s: float = 9.0  # from the drain on; then whatever still runs is killed


class StartProcess(msgspec.Struct, frozen=True):
    process: str


class StopProcess(msgspec.Struct, frozen=True):
    """Ask the process to end in good order."""

    process: str


class KillProcess(msgspec.Struct, frozen=True):
    """End it for certain, then report its death."""

    process: str
    reason: str  # empty when nothing is wrong


Order = StartProcess | StopProcess | KillProcess


class ProcessSlot(msgspec.Struct):
    name: str
    state: ProcessState = "waiting"
    due: float = 0.0  # waiting: when to start; stopping: when to kill
    heartbeat_at: float = 0.0  # last sign of life
    deaths: list[float] = []  # the recent ones
    restarts: int = 0
    retiring: bool = False  # its next death is its end

    @property
    def alive(self) -> bool:
        return self.state in ("starting", "ready", "stopping")


def advance(process: ProcessSlot, at: float, limits: Limits) -> Order | None:
    """What the time alone asks for."""
    if process.state == "waiting" and at >= process.due:
        process.state, process.heartbeat_at = "starting", at
        return StartProcess(process.name)
    if process.state == "stopping" and at >= process.due:
        return kill(process, "it did not end when asked to")
    if process.alive and at >= process.heartbeat_at + limits.heartbeat_timeout_s:
        return kill(process, f"no sign of life for {limits.heartbeat_timeout_s:g} s")
    return None


def next_due(process: ProcessSlot, limits: Limits) -> float:
    """When `advance` will have something to say."""
    if process.state in ("waiting", "stopping"):
        return process.due
    return process.heartbeat_at + limits.heartbeat_timeout_s if process.alive else float("inf")


def kill(process: ProcessSlot, reason: str) -> KillProcess:
    process.state = "dying"
    return KillProcess(process.name, reason)


def stop(process: ProcessSlot, at: float, timeout_s: float) -> Order | None:
    """Let it end: politely when it listens, at once when it is only starting."""
    process.retiring = True
    if process.state == "waiting":
        process.state = "gone"
    if process.state == "starting":
        return kill(process, "")
    if process.state == "ready":
        process.state, process.due = "stopping", at + timeout_s
        return StopProcess(process.name)
    return None


def record_exit(process: ProcessSlot, at: float, limits: Limits) -> bool:
    """Note a death and plan the successor; False when there were too many."""
    process.deaths = [*(t for t in process.deaths if t > at - limits.within_s), at]
    if len(process.deaths) > limits.deaths:
        process.state = "gone"
        return False
    backoff = limits.backoff_s[min(len(process.deaths), len(limits.backoff_s)) - 1]
    process.state, process.due = "waiting", at + backoff
    process.restarts += 1
    return True
