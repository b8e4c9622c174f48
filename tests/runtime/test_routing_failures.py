"""Processes that die or hang: lists of facts in, lists of orders out."""

import facts
import msgspec
import pytest
from routing_steps import (
    CHAIN,
    DETECT,
    INFO,
    admit,
    answer,
    decoded_frame,
    frames,
    missing,
    only,
    started,
)

from streamvis.config import Placement, WorkerSpec
from streamvis.runtime import protocol
from streamvis.runtime.protocol import Answer, BeginItem, NoticeItem, StageState
from streamvis.runtime.supervision import KillProcess, Limits, StartProcess


def test_a_dead_workers_packets_go_out_again_with_the_state_last_answered():
    core = started(CHAIN)
    tracks = [answer(core, admit(core, n)[0])[0] for n in range(2)]
    answer(core, tracks[0], states=[StageState("track", "a", b"after 0")])
    assert core.step(protocol.ProcessExited("track.0", "killed by SIGKILL", 1.0)) == [
        StartProcess("track.0")
    ]
    (again,) = core.step(facts.started("track.0", 1.1))
    assert again.items[0] == BeginItem(INFO, {"track": b"after 0"})
    assert frames(again) == [("a", 1)]


def test_after_a_death_the_frames_go_one_by_one_and_the_cause_is_given_up():
    placement = Placement(
        workers=[WorkerSpec(["detect"], batch=2, wait_ms=1), WorkerSpec(["track", "publish"])]
    )
    core = started(CHAIN, placement)
    admit(core, 0)
    (pair,) = admit(core, 1)
    assert frames(pair) == [("a", 0), ("a", 1)]
    core.step(protocol.ProcessExited("detect.0", "boom", 0.0))
    (first,) = core.step(facts.started("detect.0", 0.0))
    assert frames(first) == [("a", 0)]
    second, _ = answer(core, first)
    assert frames(second) == [("a", 1)]
    done = core.step(protocol.ProcessExited("detect.0", "boom", 0.1))
    assert only(done, protocol.FrameCompleted)[0].poison
    assert protocol.GrantSlots("a", ["a1"]) in done
    assert core.streams["a"].poisoned == 1
    gap = missing("poison", 1, 1)
    assert [send.items for send in only(done, protocol.SendWork)] == [[NoticeItem(gap)]]


def test_one_death_does_not_make_a_frame_poison():
    core = started(DETECT)
    admit(core, 0)
    core.step(protocol.ProcessExited("detect.0", "boom", 0.0))
    (again,) = core.step(facts.started("detect.0", 0.0))
    assert only(answer(core, again), protocol.FrameCompleted)[0].poison is False


def test_restarts_back_off_and_too_many_fail_the_run():
    core = started(DETECT, limits=Limits(deaths=2, backoff_s=(0.0, 0.5)))
    assert core.step(protocol.ProcessExited("detect.0", "first", 1.0)) == [StartProcess("detect.0")]
    assert core.step(protocol.ProcessExited("detect.0", "second", 2.0)) == []
    assert core.step(protocol.Tick(2.4)) == []
    assert core.step(protocol.Tick(2.5)) == [StartProcess("detect.0")]
    fail, *_ = core.step(protocol.ProcessExited("detect.0", "third", 3.0))
    assert fail.error == "RunError"
    assert "stage 'detect'" in fail.message
    assert "third" in fail.message
    core.step(protocol.ProcessExited("decode-a", "", 3.1))
    assert core.finished


def test_old_deaths_do_not_count():
    core = started(DETECT, limits=Limits(deaths=1, within_s=10))
    for at in (0.0, 20.0, 40.0):
        assert core.step(protocol.ProcessExited("detect.0", "boom", at)) == [
            StartProcess("detect.0")
        ]
        core.step(facts.started("detect.0", at))


def test_a_process_without_heartbeat_is_killed():
    core = started(DETECT, limits=Limits(heartbeat_timeout_s=10))
    core.step(protocol.Heartbeat("decode-a", 9.0))
    assert core.step(protocol.Tick(10.0)) == [KillProcess("detect.0", "no heartbeat for 10 s")]
    assert core.step(protocol.ProcessExited("detect.0", "", 10.1)) == [StartProcess("detect.0")]


def test_a_message_shows_as_much_as_a_heartbeat():
    core = started(DETECT, limits=Limits(heartbeat_timeout_s=10))
    (work,) = only(admit(core, 0, at=5.0), protocol.SendWork)
    answer(core, work, at=9.0)
    (kill,) = core.step(protocol.Tick(15.5))  # the picture is the last that its process has sent
    assert kill == KillProcess("decode-a", "no heartbeat for 10 s")
    assert core.step(protocol.Tick(19.0)) == [KillProcess("detect.0", "no heartbeat for 10 s")]


def test_a_worker_whose_call_never_returns_is_killed():
    core = started(DETECT, limits=Limits(call_timeout_s=5, heartbeat_timeout_s=100))
    admit(core, 0, at=1.0)
    assert core.step(protocol.Tick(5.9)) == []
    assert core.step(protocol.Tick(6.0)) == [KillProcess("detect.0", "one call took 5 s or more")]


@pytest.mark.parametrize(
    "wrong",
    [
        Answer(7, [["detect"]], [], []),
        Answer(1, [], [], []),
        Answer(1, [["detect", "detect"]], [], []),
        Answer(1, [["track"]], [], []),
    ],
)
def test_an_answer_that_does_not_fit_ends_its_worker(wrong):
    core = started(DETECT)
    admit(core, 0)
    (kill,) = core.step(facts.answered("detect.0", wrong, ["x"], 0.0))
    assert kill == KillProcess("detect.0", "its answer does not match its batch")


def test_a_file_goes_on_after_the_last_admitted_picture():
    core = started(DETECT)
    admit(core, 0)
    assert core.step(protocol.ProcessExited("decode-a", "boom", 1.0)) == [StartProcess("decode-a")]
    assert core.step(facts.started("decode-a", 1.1)) == [protocol.OpenSource("a", 1, 0)]
    assert core.step(facts.opened("a", INFO, 1.2)) == [protocol.GrantSlots("a", ["a1", "a2", "a3"])]


def test_a_live_source_goes_on_in_the_next_epoch():
    core = started(CHAIN, info=msgspec.structs.replace(INFO, live=True))
    admit(core, 0)
    core.step(protocol.ProcessExited("decode-a", "boom", 1.0))
    (opened,) = core.step(facts.started("decode-a", 1.1))
    assert (opened.epoch, opened.after_n) == (2, -1)
    assert (opened.last_us, opened.zero_s) == (0, 0.0)  # media time goes on
    info = msgspec.structs.replace(INFO, live=True, epoch=2)
    grant, *_ = core.step(facts.opened("a", info, 1.2))
    core.step(facts.admitted("a", decoded_frame(*grant.slots, 0), 1.3))
    assert core.streams["a"].frames_in_flight[1].frame.epoch == 2
    queue = core.streams["a"].queues[1]
    assert [job.item and job.item.notice.kind for job in queue.jobs] == [
        None,
        "epoch",
        None,
    ]


def test_a_worker_that_dies_while_it_closes_fails_the_run():
    core = started(DETECT)
    core.step(facts.ended("a", "eof", 0.0))
    (fail,) = core.step(protocol.ProcessExited("detect.0", "exit code 1", 0.1))
    assert "closing" in fail.message
