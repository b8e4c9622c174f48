"""Who is granted slots, and when: lists of facts in, lists of orders out."""

import facts
import msgspec
import pytest
from routing_steps import DETECT, INFO, LIVE, admit, answer, decoded_frame, frames, only, started

from streamvis.runtime import protocol
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.protocol import FrameItem
from streamvis.runtime.routing import Core


def test_a_slot_that_was_not_granted_ends_the_decode_process():
    core = started(DETECT)
    admit(core, 0)
    (kill,) = core.step(facts.admitted("a", decoded_frame("a0", 1), 0.0))
    assert (kill.process, "a0" in kill.reason) == ("decode-a", True)


def test_no_more_frames_in_flight_than_slots_when_pictures_grow():
    core = started(DETECT, window=2)
    admit(core, 0)
    assert core.step(protocol.SlotsCreated("a", ["big0", "big1"], 0.0)) == [
        protocol.GrantSlots("a", ["big0"])
    ]
    (send,) = core.step(facts.admitted("a", decoded_frame("big0", 1), 0.0))
    assert frames(send) == [("a", 1)]
    orders = answer(
        core,
        protocol.SendWork(
            "detect.0", 1, [FrameItem(core.streams["a"].frames_in_flight[0].frame)], []
        ),
    )
    assert orders[0] == protocol.FreeSlot("a", "a0")
    assert orders[2] == protocol.GrantSlots("a", ["big1"])


@pytest.mark.parametrize("live", [True, False])
def test_a_live_source_is_granted_slots_once_a_worker_is_ready(live):
    core = Core(group_stages(DETECT, one_stage_per_worker(DETECT)), ["a"], 2)
    core.step(protocol.Tick(0.0))
    decode, worker = (process.name for process in core.processes)
    core.step(facts.started(decode, 0.0))
    core.step(facts.opened("a", msgspec.structs.replace(INFO, live=live), 0.0))
    grant = protocol.GrantSlots("a", ["a0"] if live else ["a0", "a1"])
    assert core.step(protocol.SlotsCreated("a", ["a0", "a1"], 0.0)) == ([] if live else [grant])
    orders = core.step(facts.started(worker, 9.0))
    assert (grant in orders) == live


def test_cameras_take_turns_and_wait_until_a_worker_has_room():
    """The worker has one frame in work and one waiting: more would only grow old."""
    core = Core(group_stages(DETECT, one_stage_per_worker(DETECT)), ["a", "b", "c"], 4)
    for order in core.step(protocol.Tick(0.0)):
        core.step(facts.started(order.process, 0.0))
    orders, admitted, sends = [], [], []
    for name in "abc":
        core.step(facts.opened(name, msgspec.structs.replace(LIVE, id=name), 0.0))
        orders += core.step(protocol.SlotsCreated(name, [f"{name}{i}" for i in range(4)], 0.0))
    for n in range(60):
        (grant, *left) = only(orders, protocol.GrantSlots)
        at = 0.12 * n
        orders = core.step(facts.admitted(grant.source, decoded_frame(*grant.slots, n), at))
        admitted.append(grant.source)
        sends += only(orders, protocol.SendWork)
        orders = [*left, *only(orders, protocol.GrantSlots)]
        assert core.queue_length(0) <= 2
        if n:
            orders += answer(core, sends.pop(0), at=at)
            sends += only(orders, protocol.SendWork)
    assert all(abs(admitted.count(name) - 20) <= 1 for name in "abc")


@pytest.mark.parametrize(("seconds", "granted"), [(0.01, 4), (0.15, 2)])
def test_where_frames_are_done_quickly_a_camera_may_send_some_at_once(seconds, granted):
    """So that a hiccup of the machine drops none."""
    core = started(DETECT, info=LIVE)
    (send,) = only(admit(core, 0), protocol.SendWork)
    answer(core, send, at=seconds)
    assert len(core.streams["a"].granted) == granted


def test_a_camera_that_sends_nothing_does_not_hold_back_the_others():
    core = Core(group_stages(DETECT, one_stage_per_worker(DETECT)), ["a", "b", "c"], 4)
    for order in core.step(protocol.Tick(0.0)):
        core.step(facts.started(order.process, 0.0))
    for name in "abc":
        core.step(facts.opened(name, msgspec.structs.replace(LIVE, id=name), 0.0))
        core.step(protocol.SlotsCreated(name, [f"{name}{i}" for i in range(4)], 0.0))
    assert core.step(protocol.Tick(0.1)) == []
    assert core.step(protocol.Tick(0.3)) == [
        protocol.GrantSlots("b", ["b0"]),
        protocol.GrantSlots("c", ["c0"]),
    ]
