"""The lives of the run's processes, as decisions: when to start, restart, stop and kill each.

A seat is a place for one process; its successors after deaths take the same seat. Pure: time
comes in as an argument, and what is to be done goes out as orders.
"""

from typing import Literal

import msgspec

STATES = Literal["waiting", "starting", "ready", "stopping", "dying", "gone"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the hub is, in seconds."""

    deaths: int = 5  # more of them within `within_s` fail the run
    within_s: float = 60.0
    backoff_s: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)  # after the 1st, 2nd, … recent death
    silence_s: float = 60.0  # without a heartbeat: a thread beats even while a stage computes
    call_s: float = 900.0  # for one batch: a network may compile for minutes at its first
    drain_s: float = 3.0  # for a decode process to end politely
    checkpoint_s: float = 30.0  # from the first frame after one checkpoint of a file to the next
    close_s: float = 10.0  # for a worker to close its stages
    hurry_silence_s: float = 2.0  # as `silence_s`, while the run is drained
    hurry_work_s: float = 6.0  # from the drain on; then frames in flight are dropped
    hurry_end_s: float = 9.0  # from the drain on; then whatever still runs is killed


class Start(msgspec.Struct, frozen=True):
    seat: str


class Halt(msgspec.Struct, frozen=True):
    """Ask the process to end in good order."""

    seat: str


class Kill(msgspec.Struct, frozen=True):
    """End it for certain, then report its death."""

    seat: str
    reason: str  # empty when nothing is wrong


Order = Start | Halt | Kill


class Seat(msgspec.Struct):
    name: str
    state: STATES = "waiting"
    due: float = 0.0  # waiting: when to start; stopping: when to kill
    beat: float = 0.0  # last sign of life
    deaths: list[float] = []  # the recent ones
    restarts: int = 0
    leaving: bool = False  # its next death is its end

    @property
    def alive(self) -> bool:
        return self.state in ("starting", "ready", "stopping")


def advance(seat: Seat, at: float, limits: Limits) -> Order | None:
    """What the time alone asks for."""
    if seat.state == "waiting" and at >= seat.due:
        seat.state, seat.beat = "starting", at
        return Start(seat.name)
    if seat.state == "stopping" and at >= seat.due:
        return kill(seat, "it did not end when asked to")
    if seat.alive and at >= seat.beat + limits.silence_s:
        return kill(seat, f"no sign of life for {limits.silence_s:g} s")
    return None


def next_due(seat: Seat, limits: Limits) -> float:
    """When `advance` will have something to say."""
    if seat.state in ("waiting", "stopping"):
        return seat.due
    return seat.beat + limits.silence_s if seat.alive else float("inf")


def kill(seat: Seat, reason: str) -> Kill:
    seat.state = "dying"
    return Kill(seat.name, reason)


def stop(seat: Seat, at: float, patience_s: float) -> Order | None:
    """Let it end: politely when it listens, at once when it is only starting."""
    seat.leaving = True
    if seat.state == "waiting":
        seat.state = "gone"
    if seat.state == "starting":
        return kill(seat, "")
    if seat.state == "ready":
        seat.state, seat.due = "stopping", at + patience_s
        return Halt(seat.name)
    return None


def bury(seat: Seat, at: float, limits: Limits) -> bool:
    """Note a death and plan the successor; False when there were too many."""
    seat.deaths = [*(t for t in seat.deaths if t > at - limits.within_s), at]
    if len(seat.deaths) > limits.deaths:
        seat.state = "gone"
        return False
    backoff = limits.backoff_s[min(len(seat.deaths), len(limits.backoff_s)) - 1]
    seat.state, seat.due = "waiting", at + backoff
    seat.restarts += 1
    return True
