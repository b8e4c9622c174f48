"""Lists of facts in, lists of orders out."""

import facts
import msgspec
import pytest

from streamvis.config import (
    Jipda,
    MaskRcnn,
    Pipeline,
    Placement,
    Publish,
    Record,
    StageSpec,
    WorkerSpec,
)
from streamvis.messages import Notice, SourceInfo
from streamvis.runtime import protocol
from streamvis.runtime.gaps import Gap
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.protocol import (
    Answer,
    BeginItem,
    DecodedFrame,
    EndItem,
    FrameItem,
    NoticeItem,
    SourceCheckpoint,
    StageState,
)
from streamvis.runtime.routing import Core
from streamvis.runtime.supervision import KillProcess, Limits, StartProcess, StopProcess

INFO = SourceInfo(id="a", label="a", width=4, height=2, fps=25, live=False)
CHAIN = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track"]),
    ]
)
DETECT = Pipeline(stages=[StageSpec("detect", MaskRcnn())])


def started(pipeline, placement=None, window=4, sources=("a",), limits=None, info=INFO):
    """A core whose processes are up and whose sources are open, with slots granted."""
    core = Core(
        group_stages(pipeline, placement or one_stage_per_worker(pipeline)), sources, window, limits
    )
    orders = core.step(protocol.Tick(0.0))
    assert orders == [StartProcess(process.name) for process in core.processes]
    for order in orders:
        core.step(facts.started(order.process, 0.0))
    for name in sources:
        assert core.step(facts.opened(name, msgspec.structs.replace(info, id=name), 0.0)) == []
        slots = [f"{name}{i}" for i in range(window)]
        at_once = [[slot] for slot in slots[:2]] if info.live else [slots]
        assert core.step(protocol.SlotsCreated(name, slots, 0.0)) == [
            protocol.GrantSlots(name, each) for each in at_once
        ]
    return core


def decoded_frame(slot, n, ms=None, gaps=()):
    media_us = (40 * n if ms is None else ms) * 1000
    return DecodedFrame(slot, n, media_us, 0, "file", 4, 2, 0, list(gaps))


def admit(core, n, at=0.0, source="a", **settings):
    return core.step(facts.admitted(source, decoded_frame(f"{source}{n}", n, **settings), at))


def answer(core, send, at=0.0, states=()):
    """The worker answers: each stage of its group wrote a part named after itself and the frame."""
    tasks = [item for item in send.items if isinstance(item, FrameItem)]
    names = send.process.rpartition(".")[0].split("+")
    wrote = [[name for name in names if name not in task.skip] for task in tasks]
    blobs = [
        f"{name}/{task.frame.source}/{task.frame.seq}"
        for task, ran in zip(tasks, wrote, strict=True)
        for name in ran
    ]
    return core.step(
        facts.answered(send.process, Answer(send.id, wrote, list(states), []), blobs, at)
    )


def only(orders, kind):
    return [order for order in orders if isinstance(order, kind)]


def missing(reason, first_n, last_n, count=None, media_us=0):
    return Notice(
        source="a",
        kind="gap",
        media_us=media_us,
        first_n=first_n,
        last_n=last_n,
        reason=reason,
        count=last_n - first_n + 1 if count is None else count,
    )


def frames(send):
    return [(i.frame.source, i.frame.seq) for i in send.items if isinstance(i, FrameItem)]


def test_a_frame_goes_down_a_chain_and_gives_its_slot_back():
    core = started(CHAIN)
    (to_detect,) = admit(core, 0, at=1.0)
    frame = core.streams["a"].frames_in_flight[0].frame
    assert (frame.seq, frame.n, frame.slot) == (0, 0, "a0")
    assert to_detect == protocol.SendWork("detect.0", 1, [FrameItem(frame)], [])
    (to_track,) = answer(core, to_detect)
    expected = [BeginItem(INFO, {}), FrameItem(frame, parts=["detect"])]
    assert to_track == protocol.SendWork("track.0", 2, expected, ["detect/a/0"])
    (to_publish,) = answer(core, to_track)
    expected = [BeginItem(INFO, {}), FrameItem(frame, parts=["track"])]
    assert to_publish == protocol.SendWork("publish.0", 3, expected, ["track/a/0"])
    parts = {name: f"{name}/a/0" for name in ("detect", "track", "publish")}
    assert answer(core, to_publish, at=1.5) == [
        protocol.FrameCompleted(frame, parts, (), False, 0.5),
        protocol.GrantSlots("a", ["a0"]),
    ]


def test_a_stage_with_two_parents_waits_for_both():
    diamond = Pipeline(
        stages=[
            StageSpec("detect", MaskRcnn()),
            StageSpec("left", Jipda(), after=["detect"]),
            StageSpec("right", Publish(), after=["detect", "left"]),
            StageSpec("record", Record(), after=["left", "right"]),
        ]
    )
    core = started(diamond)
    (detect,) = admit(core, 0)
    (left,) = answer(core, detect)
    (right,) = answer(core, left)
    (record,) = answer(core, right)
    assert record.process == "record.0"
    assert record.items[1].parts == ["detect", "left"]  # what it reads, not all there is


def test_work_goes_to_the_least_loaded_replica_with_credit():
    placement = Placement(workers=[WorkerSpec(["detect"], replicas=2)])
    core = started(DETECT, placement, window=8)
    sends = [order for n in range(6) for order in admit(core, n)]
    assert [s.process for s in sends] == ["detect.0", "detect.1", "detect.0", "detect.1"]
    (more, *_) = only(answer(core, sends[1]), protocol.SendWork)
    assert (more.process, frames(more)) == ("detect.1", [("a", 4)])


def test_a_stateful_stage_sees_seq_order_whatever_replicas_do():
    placement = Placement(
        workers=[
            WorkerSpec(["detect"], replicas=2),
            WorkerSpec(["track"], batch=4),
            WorkerSpec(["publish"]),
        ]
    )
    core = started(CHAIN, placement)
    first, second = (admit(core, n)[0] for n in range(2))
    assert (first.process, second.process) == ("detect.0", "detect.1")
    assert answer(core, second) == []
    (send,) = answer(core, first)
    assert frames(send) == [("a", 0), ("a", 1)]


def test_sources_are_spread_over_stateful_replicas_and_stay():
    placement = Placement(
        workers=[WorkerSpec(["detect"]), WorkerSpec(["track"], replicas=2), WorkerSpec(["publish"])]
    )
    core = started(CHAIN, placement, sources=("a", "b"))
    for n in range(2):
        for source, process in (("a", "track.0"), ("b", "track.1")):
            (detect,) = admit(core, n, source=source)
            (track,) = answer(core, detect)
            assert track.process == process
            (publish,) = answer(core, track)
            answer(core, publish)


def test_an_incomplete_batch_waits_its_time_and_no_longer():
    placement = Placement(workers=[WorkerSpec(["detect"], batch=3, wait_ms=5)])
    core = started(DETECT, placement, window=8)
    assert admit(core, 0, at=1.0) == []
    assert core.due() == 1.005
    assert core.step(protocol.Tick(1.004)) == []
    (send,) = core.step(protocol.Tick(1.005))
    assert frames(send) == [("a", 0)]
    assert admit(core, 1, at=2.0) == admit(core, 2, at=2.0) == []  # it is busy: they gather
    (send,) = admit(core, 3, at=2.0)
    assert frames(send) == [("a", 1), ("a", 2), ("a", 3)]


def test_batches_gather_across_sources():
    placement = Placement(workers=[WorkerSpec(["detect"], batch=2, wait_ms=5)])
    core = started(DETECT, placement, sources=("a", "b"))
    assert admit(core, 0, source="b") == []
    (send,) = admit(core, 0, source="a")
    assert frames(send) == [("b", 0), ("a", 0)]


def test_every_s_goes_by_media_time_and_children_still_run():
    pipeline = Pipeline(
        stages=[
            StageSpec("detect", MaskRcnn(), every_s=0.1),
            StageSpec("track", Jipda(), after=["detect"]),
        ]
    )
    core = started(pipeline, window=8)
    ran = []
    for n, ms in enumerate([0, 40, 80, 120, 300, 310, 400]):
        (send,) = admit(core, n, ms=ms)
        if ran_here := send.process == "detect.0":
            (send,) = answer(core, send)
        ran.append(ran_here)
        assert send.items[-1].parts == (["detect"] if ran_here else [])
        (done, _) = answer(core, send)
        assert done.skipped == (() if ran_here else ("detect",))
    assert ran == [True, False, False, True, True, False, True]
    assert core.skipped == {"detect": 3}


def test_a_skipped_stage_keeps_the_order_of_its_children():
    """Frame 1 skips the detector, but the tracker still sees frame 0 first."""
    pipeline = Pipeline(
        stages=[
            StageSpec("detect", MaskRcnn(), every_s=1.0),
            StageSpec("track", Jipda(), after=["detect"]),
        ]
    )
    core = started(pipeline)
    (detect,) = admit(core, 0)
    assert admit(core, 1) == []
    track, again = answer(core, detect)
    assert frames(track) + frames(again) == [("a", 0), ("a", 1)]


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


def test_drops_of_a_live_source_are_counted_and_noticed_in_order():
    core = started(CHAIN)
    (detect,) = admit(core, 0)
    core.step(facts.admitted("a", decoded_frame("a1", 5, gaps=[Gap("overload", 4, 1, 4)]), 0.0))
    assert core.streams["a"].dropped == {"overload": 4}
    (track,) = answer(core, detect)
    assert frames(track) == [("a", 0)]
    assert track.items[-1] == NoticeItem(missing("overload", 1, 4))


def test_the_end_is_sent_to_all_after_the_last_answer():
    core = started(CHAIN)
    (detect,) = admit(core, 0)
    assert core.step(facts.ended("a", "eof", 0.0)) == [StopProcess("decode-a")]
    assert core.step(protocol.ProcessExited("decode-a", "", 0.0)) == []
    (track,) = answer(core, detect)
    (publish,) = answer(core, track)
    *_, first, second = answer(core, publish)
    assert {end.process: end.items for end in (first, second)} == {
        "track.0": [EndItem("a", "eof")],
        "publish.0": [EndItem("a", "eof")],
    }
    assert answer(core, first) == []
    assert answer(core, second) == [
        StopProcess("detect.0"),
        StopProcess("track.0"),
        StopProcess("publish.0"),
    ]
    for name in ("detect.0", "track.0", "publish.0"):
        assert not core.finished
        core.step(protocol.ProcessExited(name, "", 0.0))
    assert core.finished
    assert core.failed is None


def test_a_source_without_frames_ends_too():
    core = started(CHAIN)
    core.step(facts.ended("a", "failed", 0.0, message="torn"))
    (track,) = core._replicas["track.0"][1].sent
    offline, end = (job.item for job in track.jobs)
    assert (offline.notice.kind, offline.notice.reason) == ("offline", "torn")
    assert end == EndItem("a", "failed")
    assert core.streams["a"].message == "torn"


def test_a_drain_admits_nothing_more_and_finishes_what_is_in_flight():
    core = started(DETECT)
    (send,) = admit(core, 0)
    assert core.step(protocol.Drain(1.0)) == [StopProcess("decode-a")]
    orders = answer(core, send)
    assert only(orders, protocol.GrantSlots) == []
    ended = core.step(facts.ended("a", "drained", 1.1, gaps=[Gap("drained", 1, 1, 1)]))
    assert ended == [StopProcess("detect.0")]
    assert core.streams["a"].dropped == {"drained": 1}


def test_a_decode_process_that_does_not_stop_in_a_drain_is_killed():
    core = started(DETECT, limits=Limits(decode_stop_s=3, drain_heartbeat_timeout_s=10))
    core.step(protocol.Drain(1.0))
    assert core.due() == 4.0
    assert core.step(protocol.Tick(4.0)) == [
        KillProcess("decode-a", "it did not end when asked to")
    ]
    assert core.step(protocol.ProcessExited("decode-a", "", 4.1)) == [StopProcess("detect.0")]
    assert core.streams["a"].ending == "drained"


def test_a_drain_before_anything_started_ends_the_run():
    core = Core(group_stages(DETECT, one_stage_per_worker(DETECT)), ["a"], 4)
    assert core.step(protocol.Drain(0.0)) == []
    assert core.finished


def test_a_drain_while_processes_start_kills_them():
    core = Core(group_stages(DETECT, one_stage_per_worker(DETECT)), ["a"], 4)
    core.step(protocol.Tick(0.0))
    assert core.step(protocol.Drain(0.1)) == [KillProcess("decode-a", "")]
    assert core.step(protocol.ProcessExited("decode-a", "", 0.2)) == [KillProcess("detect.0", "")]
    core.step(protocol.ProcessExited("detect.0", "", 0.3))
    assert core.finished
    assert core.failed is None


def test_a_worker_that_dies_while_it_closes_fails_the_run():
    core = started(DETECT)
    core.step(facts.ended("a", "eof", 0.0))
    (fail,) = core.step(protocol.ProcessExited("detect.0", "exit code 1", 0.1))
    assert "closing" in fail.message


def test_every_decode_process_and_replica_has_a_process_slot():
    assert [process.name for process in started(CHAIN, sources=("a", "b")).processes] == [
        "decode-a",
        "decode-b",
        "detect.0",
        "track.0",
        "publish.0",
    ]


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


LIVE = msgspec.structs.replace(INFO, live=True)


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
