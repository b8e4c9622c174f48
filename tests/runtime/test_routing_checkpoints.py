"""Checkpoints of sources, and runs that resume from them: facts in, orders out."""

import facts
import msgspec
from routing_steps import CHAIN, DETECT, INFO, admit, answer, decoded_frame, only, started

from streamvis.runtime import protocol
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.protocol import BeginItem, SourceCheckpoint
from streamvis.runtime.routing import Core
from streamvis.runtime.supervision import Limits, StartProcess


def test_a_checkpoint_is_taken_once_all_is_answered_and_slots_are_granted_again():
    core = started(DETECT, window=2, limits=Limits(checkpoint_s=10))
    (send,) = only(admit(core, 0, at=1.0), protocol.SendWork)
    assert answer(core, send, at=11.5)[-1] == protocol.GrantSlots(
        "a", ["a0"]
    )  # none was due at its admission
    (send,) = only(admit(core, 1, at=12.0), protocol.SendWork)
    assert (
        only(answer(core, send, at=12.5), protocol.SaveCheckpoint | protocol.GrantSlots) == []
    )  # a0 is still to come
    (send,) = only(core.step(facts.admitted("a", decoded_frame("a0", 2), 13.0)), protocol.SendWork)
    kept, grant = only(answer(core, send, at=13.5), protocol.SaveCheckpoint | protocol.GrantSlots)
    assert (kept.source, kept.checkpoint.admitted, kept.checkpoint.last_n) == ("a", 3, 2)
    assert sorted(grant.slots) == ["a0", "a1"]
    (send,) = only(core.step(facts.admitted("a", decoded_frame("a0", 3), 14.0)), protocol.SendWork)
    assert (
        only(answer(core, send, at=14.5), protocol.SaveCheckpoint) == []
    )  # the time runs from here


def test_a_checkpoint_waits_for_no_decode_process_that_has_died():
    core = started(DETECT, window=2, limits=Limits(checkpoint_s=1))
    (first,) = only(admit(core, 0, at=1.0), protocol.SendWork)
    answer(core, first, at=1.0)
    (second,) = only(admit(core, 1, at=3.0), protocol.SendWork)
    answer(core, second, at=3.0)
    (kept,) = only(core.step(protocol.ProcessExited("decode-a", "", 4.0)), protocol.SaveCheckpoint)
    core.step(protocol.Tick(5.0))
    core.step(facts.started("decode-a", 5.0))
    (grant,) = core.step(facts.opened("a", INFO, 5.0))
    assert (kept.checkpoint.at, grant.source) == ((1, 1), "a")


def test_a_source_resumes_from_its_checkpoint():
    saved = SourceCheckpoint(
        info=INFO,
        epoch=1,
        known_epoch=1,
        admitted=7,
        last_n=8,
        last_us=320_000,
        states={"track": b"seven"},
    )
    done = msgspec.structs.replace(saved, ending="eof")
    groups = group_stages(CHAIN, one_stage_per_worker(CHAIN))
    core = Core(groups, ("a", "b"), 2, resumed={"a": saved, "b": done})
    starts = core.step(protocol.Tick(0.0))
    assert StartProcess("decode-b") not in starts
    joined = [order for s in starts for order in core.step(facts.started(s.process, 0.0))]
    assert joined == [protocol.OpenSource("a", 1, 8)]
    core.step(facts.opened("a", INFO, 0.0))
    core.step(protocol.SlotsCreated("a", ["a0", "a1"], 0.0))
    (send,) = only(core.step(facts.admitted("a", decoded_frame("a0", 9), 1.0)), protocol.SendWork)
    assert send.items[0].frame.seq == 7
    (send,) = only(answer(core, send), protocol.SendWork)
    assert send.items[0] == BeginItem(INFO, {"track": b"seven"})
