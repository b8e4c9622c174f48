"""When processes are started, restarted, stopped and killed."""

import pytest

from streamvis.runtime.supervision import (
    KillProcess,
    Limits,
    ProcessSlot,
    StartProcess,
    StopProcess,
    advance,
    next_due,
    record_exit,
    stop,
)

LIMITS = Limits(deaths=2, within_s=10.0, backoff_s=(0.0, 0.5), heartbeat_timeout_s=5.0)


def process(state="ready", **fields):
    return ProcessSlot("detect.0", state, **fields)


def test_a_waiting_process_is_started_when_it_is_due():
    slot = process("waiting", due=2.0)
    assert advance(slot, 1.9, LIMITS) is None
    assert next_due(slot, LIMITS) == 2.0
    assert advance(slot, 2.0, LIMITS) == StartProcess("detect.0")
    assert (slot.state, slot.heartbeat_at) == ("starting", 2.0)


@pytest.mark.parametrize("state", ["starting", "ready", "stopping"])
def test_a_process_without_heartbeat_is_killed_at_the_timeout(state):
    slot = process(state, heartbeat_at=1.0, due=100.0)
    assert advance(slot, 5.9, LIMITS) is None
    assert advance(slot, 6.0, LIMITS) == KillProcess("detect.0", "no heartbeat for 5 s")
    assert next_due(slot, LIMITS) == float("inf")


@pytest.mark.parametrize(
    ("state", "order", "after"),
    [
        ("waiting", None, "gone"),
        ("starting", KillProcess("detect.0", ""), "dying"),
        ("ready", StopProcess("detect.0"), "stopping"),
        ("dying", None, "dying"),
    ],
)
def test_stopping_depends_on_the_state(state, order, after):
    slot = process(state)
    assert stop(slot, 1.0, 3.0) == order
    assert (slot.state, slot.retiring) == (after, True)


def test_a_process_that_does_not_stop_is_killed():
    slot = process(heartbeat_at=1.0)
    stop(slot, 1.0, 3.0)
    assert advance(slot, 4.0, LIMITS) == KillProcess("detect.0", "it did not end when asked to")


def test_restarts_back_off_until_there_were_too_many_deaths():
    slot = process()
    assert record_exit(slot, 1.0, LIMITS)
    assert (slot.state, slot.due, slot.restarts) == ("waiting", 1.0, 1)
    assert record_exit(slot, 2.0, LIMITS)
    assert slot.due == 2.5
    assert not record_exit(slot, 3.0, LIMITS)
    assert slot.state == "gone"


def test_deaths_before_the_window_do_not_count():
    slot = process()
    assert all(record_exit(slot, at, LIMITS) for at in (0.0, 9.0, 18.5, 28.0))
