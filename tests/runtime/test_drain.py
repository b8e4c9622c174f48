"""How a run is drained: lists of facts in, lists of orders out, up to fixed deadlines."""

from itertools import pairwise

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

from streamvis.config import Jipda, MaskRcnn, Pipeline, Placement, Publish, StageSpec, WorkerSpec
from streamvis.messages import Notice
from streamvis.runtime import protocol
from streamvis.runtime.gaps import Gap
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.protocol import BeginItem, EndItem, NoticeItem, StageState
from streamvis.runtime.routing import Core
from streamvis.runtime.supervision import KillProcess, Limits, StartProcess, StopProcess

LIMITS = Limits(drain_heartbeat_timeout_s=2.0, drain_work_s=6.0, drain_end_s=9.0, backoff_s=(0.0,))


def offline(media_us):
    """The notice before the end of a source that is drained."""
    return NoticeItem(
        Notice(source="a", kind="offline", media_us=media_us, reason="the run has ended")
    )


def drained(core, at):
    """The drain begins; the decode process ends at once."""
    orders = core.step(protocol.Drain(at))
    assert StopProcess("decode-a") in orders
    orders += core.step(facts.ended("a", "drained", at))
    return orders + core.step(protocol.ProcessExited("decode-a", "", at))


def tick(core, at, *but):
    """Time passes, and all have a heartbeat but these."""
    orders = []
    for process in core.processes:
        if process.alive and process.name not in but:
            orders += core.step(protocol.Heartbeat(process.name, at))
    return orders + core.step(protocol.Tick(at))


def balance(core):
    stream = core.streams["a"]
    return stream.admitted, stream.dropped.get("drained", 0)


def follow(core, orders, at, processes=("detect.0", "track.0", "publish.0")):
    """Answer all that these workers are sent, and let them end; what each was sent."""
    log = []
    while sends := [
        o
        for o in orders
        if isinstance(o, protocol.SendWork | StopProcess) and o.process in processes
    ]:
        orders = []
        for order in sends:
            if isinstance(order, StopProcess):
                orders += core.step(protocol.ProcessExited(order.process, "", at))
            else:
                log.append((order.process, order.items))
                orders += answer(core, order, at=at)
    return log


def test_frames_that_no_worker_has_begun_are_dropped_and_noticed_before_the_end():
    core = started(CHAIN)
    sends = [order for n in range(4) for order in admit(core, n)]
    assert len(sends) == 2  # the worker has room for two batches
    orders = drained(core, 1.0)
    assert [o.frame.n for o in only(orders, protocol.FrameCompleted) if o.dropped] == [2, 3]
    assert only(orders, protocol.GrantSlots) == []
    assert balance(core) == (2, 2)
    log = follow(core, sends, 1.5)
    received = [items for process, items in log if process == "publish.0"]
    assert [frames(protocol.SendWork("", 0, items, [])) for items in received] == [
        [("a", 0)],
        [("a", 1)],
        [],
    ]
    gap = missing("drained", 2, 3, media_us=120_000)
    assert received[2] == [NoticeItem(gap), offline(120_000), EndItem("a", "drained")]
    assert core.finished
    assert core.failed is None


def test_a_picture_on_its_way_when_the_drain_begins_is_counted():
    core = started(CHAIN, info=msgspec.structs.replace(INFO, live=True))
    core.step(protocol.Drain(1.0))
    late = decoded_frame("a0", 1, gaps=[Gap("overload", 1, 0, 0)])
    assert core.step(facts.admitted("a", late, 1.1)) == []
    assert core.due(1.1) == 0.0  # notices of gaps are due
    assert core.streams["a"].dropped == {"overload": 1, "drained": 1}
    assert balance(core) == (0, 1)


def test_workers_that_are_still_starting_are_killed_at_once():
    """A signal just after the start: nothing was written, so nothing is to be waited for."""
    core = Core(group_stages(CHAIN, one_stage_per_worker(CHAIN)), ["a"], 4, LIMITS)
    core.step(protocol.Tick(0.0))
    for process in ("decode-a", "detect.0"):
        core.step(facts.started(process, 0.5))
    core.step(facts.opened("a", INFO, 0.5))
    orders = core.step(protocol.Drain(1.0))
    killed = [order.process for order in only(orders, KillProcess)]
    assert killed == ["detect.0", "track.0", "publish.0"]
    core.step(facts.ended("a", "drained", 1.0))
    for process in ("decode-a", *killed):
        assert not core.finished
        core.step(protocol.ProcessExited(process, "", 1.0))
    assert core.finished
    assert core.failed is None
    assert core.streams["a"].done


@pytest.mark.parametrize("first", ["decode-a", "publish.0"])
def test_a_source_that_was_never_open_ends_without_its_workers(first):
    core = Core(group_stages(CHAIN, one_stage_per_worker(CHAIN)), ["a"], 4, LIMITS)
    core.step(protocol.Tick(0.0))
    orders = core.step(protocol.Drain(1.0))
    killed = [order.process for order in only(orders, KillProcess)]
    assert sorted(killed) == ["decode-a", "detect.0", "publish.0", "track.0"]
    for process in sorted(killed, key=lambda name: name != first):
        core.step(protocol.ProcessExited(process, "", 1.0))
    assert core.finished
    assert core.failed is None
    assert (core.streams["a"].done, core.streams["a"].ending) == (True, "drained")


def test_a_publisher_that_is_ready_is_waited_for():
    core = Core(group_stages(CHAIN, one_stage_per_worker(CHAIN)), ["a"], 4, LIMITS)
    core.step(protocol.Tick(0.0))
    for process in ("decode-a", "publish.0"):
        core.step(facts.started(process, 0.5))
    core.step(facts.opened("a", INFO, 0.5))
    assert only(core.step(protocol.Drain(1.0)), KillProcess) == []


def test_a_file_of_which_something_was_dropped_has_not_come_to_its_end():
    core = started(CHAIN)
    sends = [order for n in range(4) for order in admit(core, n)]
    core.step(facts.ended("a", "eof", 0.9))
    core.step(protocol.ProcessExited("decode-a", "", 0.9))
    core.step(protocol.Drain(1.0))
    follow(core, sends, 1.1)
    assert core.finished
    assert core.streams["a"].ending == "drained"
    whole = started(CHAIN)
    (send,) = admit(whole, 0)
    whole.step(facts.ended("a", "eof", 0.9))
    whole.step(protocol.ProcessExited("decode-a", "", 0.9))
    whole.step(protocol.Drain(1.0))
    follow(whole, [send], 1.1)
    assert whole.streams["a"].ending == "eof"


def test_a_stateless_worker_without_heartbeat_is_killed_and_its_frames_are_dropped():
    core = started(CHAIN, limits=LIMITS)
    for n in range(3):
        admit(core, n)
    drained(core, 1.0)
    assert tick(core, 2.9, "detect.0") == []
    (kill,) = tick(core, 3.0, "detect.0")
    assert kill == KillProcess("detect.0", "no heartbeat for 2 s")
    orders = core.step(protocol.ProcessExited("detect.0", "", 3.0))
    assert only(orders, StartProcess) == []
    assert balance(core) == (0, 3)
    log = follow(core, orders, 3.1)
    ended = {process for process, items in log if items[-1] == EndItem("a", "drained")}
    assert ended == {"track.0", "publish.0"}
    assert core.finished
    assert core.failed is None


def test_another_replica_takes_over_the_frames_of_one_without_heartbeat():
    placement = Placement(
        workers=[WorkerSpec(["detect"], replicas=2), WorkerSpec(["track", "publish"])]
    )
    core = started(CHAIN, placement, limits=LIMITS)
    _, second = (admit(core, n)[0] for n in range(2))
    drained(core, 1.0)
    tick(core, 3.0, "detect.0")
    assert core.step(protocol.ProcessExited("detect.0", "", 3.0)) == []
    (again,) = answer(core, second)
    assert (again.process, frames(again)) == ("detect.1", [("a", 0)])
    follow(core, [again], 3.1, ("detect.1", "track+publish.0"))
    assert core.finished
    assert balance(core) == (2, 0)


def test_a_stateful_worker_without_heartbeat_is_restarted():
    core = started(CHAIN, limits=LIMITS)
    (detect,) = admit(core, 0)
    answer(core, detect)
    drained(core, 1.0)
    tick(core, 3.0, "track.0")
    assert core.step(protocol.ProcessExited("track.0", "", 3.0)) == [StartProcess("track.0")]
    follow(core, core.step(facts.started("track.0", 4.0)), 4.0)
    assert core.finished
    assert balance(core) == (1, 0)


def test_a_worker_that_never_answers_is_killed_when_the_time_for_work_is_over():
    core = started(CHAIN, limits=LIMITS)
    admit(core, 0)
    drained(core, 1.0)
    assert core.due(1.0) <= 7.0
    assert tick(core, 6.9) == []
    (kill,) = tick(core, 7.0)
    assert kill == KillProcess("detect.0", "")
    log = follow(core, core.step(protocol.ProcessExited("detect.0", "", 7.0)), 7.1)
    assert log[-1][0] == "publish.0"
    assert log[-1][1][-1] == EndItem("a", "drained")
    assert core.finished
    assert core.failed is None
    assert balance(core) == (0, 1)


def test_a_late_sink_is_restarted_and_gets_the_gap_and_the_end():
    placement = Placement(workers=[WorkerSpec(["detect"]), WorkerSpec(["track", "publish"])])
    core = started(CHAIN, placement, limits=LIMITS)
    sink = "track+publish.0"
    first, _ = (answer(core, admit(core, n)[0])[0] for n in range(2))
    states = [StageState("track", "a", b"t"), StageState("publish", "a", b"p")]
    answer(core, first, states=states)
    drained(core, 1.0)
    assert tick(core, 7.0) == [KillProcess(sink, "one call took 2 s or more")]
    orders = core.step(protocol.ProcessExited(sink, "", 7.0))
    assert StartProcess(sink) in orders
    assert balance(core) == (1, 1)
    log = follow(core, core.step(facts.started(sink, 8.0)), 8.0, (sink, "detect.0"))
    begin = BeginItem(INFO, {"track": b"t", "publish": b"p"})
    gap = NoticeItem(missing("drained", 1, 1, media_us=40_000))
    assert log == [(sink, [begin, gap, offline(40_000), EndItem("a", "drained")])]
    assert core.finished
    assert core.failed is None


def test_the_end_waits_for_no_stage_that_hangs():
    core = started(CHAIN, limits=LIMITS)
    (detect,) = admit(core, 0)
    (track,) = answer(core, detect)
    (publish,) = answer(core, track)
    answer(core, publish)
    _, end = only(drained(core, 1.0), protocol.SendWork)
    assert (end.process, end.items) == ("publish.0", [offline(0), EndItem("a", "drained")])
    answer(core, end, at=1.1)
    assert tick(core, 7.0) == [KillProcess("track.0", "")]
    assert core.step(protocol.ProcessExited("track.0", "", 7.0)) == [
        StopProcess("detect.0"),
        StopProcess("publish.0"),
    ]
    core.step(protocol.ProcessExited("publish.0", "", 7.2))
    assert tick(core, 10.0) == [KillProcess("detect.0", "")]  # it does not close
    core.step(protocol.ProcessExited("detect.0", "", 10.0))
    assert core.finished
    assert core.failed is None


def test_a_sink_that_has_ended_all_and_does_not_close_is_killed():
    core = started(CHAIN, limits=LIMITS)
    for end in only(drained(core, 1.0), protocol.SendWork):
        answer(core, end, at=1.1)
    kills = tick(core, 10.0)
    assert [kill.process for kill in kills] == ["detect.0", "track.0", "publish.0"]
    for kill in kills:
        core.step(protocol.ProcessExited(kill.process, "", 10.0))
    assert core.finished
    assert core.failed is None


def test_a_sink_that_never_ends_fails_the_run():
    core = started(CHAIN, limits=LIMITS)
    (detect,) = admit(core, 0)
    (track,) = answer(core, detect)
    answer(core, track)
    drained(core, 1.0)
    tick(core, 7.0)
    core.step(protocol.ProcessExited("publish.0", "", 7.0))
    orders = tick(core, 10.0)
    (fail,) = only(orders, protocol.FailRun)
    assert "stage 'publish' did not end within 9 s" in fail.message
    for kill in only(orders, KillProcess):
        core.step(protocol.ProcessExited(kill.process, "", 10.0))
    assert core.finished


def test_a_source_has_ended_once_the_last_who_was_to_be_given_its_end_is_given_up():
    """The sink has died and waits for its restart when the time of the drain is over."""
    core = started(CHAIN, limits=msgspec.structs.replace(LIMITS, backoff_s=(60.0,)))
    (detect,) = admit(core, 0)
    (track,) = answer(core, detect)
    answer(core, track)
    core.step(protocol.ProcessExited("publish.0", "was killed", 0.5))
    drained(core, 1.0)
    for kill in only(tick(core, 7.0), KillProcess):
        core.step(protocol.ProcessExited(kill.process, "", 7.0))
    assert not core.streams["a"].done
    orders = tick(core, 10.0)
    assert core.streams["a"].done
    assert not any(isinstance(order, StartProcess) for order in orders)


def test_a_fatal_error_is_kept_and_the_run_ends_in_good_order():
    core = started(CHAIN, limits=Limits(deaths=0))
    sends = [order for n in range(4) for order in admit(core, n)]
    _, track = answer(core, sends[0])
    fail, *orders = core.step(protocol.ProcessExited("detect.0", "boom", 1.0))
    assert isinstance(fail, protocol.FailRun)
    assert StopProcess("decode-a") in orders
    assert not core.finished
    orders += core.step(facts.ended("a", "drained", 1.0))
    orders += core.step(protocol.ProcessExited("decode-a", "", 1.0))
    log = follow(core, [track, *orders], 1.1)
    ended = {process for process, items in log if items[-1] == EndItem("a", "drained")}
    assert ended == {"track.0", "publish.0"}
    assert balance(core) == (1, 3)
    assert core.finished
    assert core.failed is fail


def test_a_refusal_of_the_publisher_ends_the_others():
    core = started(CHAIN)
    (detect,) = admit(core, 0)
    (track,) = answer(core, detect)
    answer(core, track)
    fail, *_ = core.step(facts.refused("publish.0", "RunError", "no space left", 1.0))
    assert fail == protocol.FailRun("RunError", "no space left")
    core.step(protocol.ProcessExited("decode-a", "", 1.0))
    orders = core.step(protocol.ProcessExited("publish.0", "", 1.0))
    follow(core, orders, 1.1)
    assert core.finished
    assert core.failed is fail
    assert balance(core) == (0, 1)


def test_a_refusal_before_anything_is_up_ends_the_run():
    core = started(DETECT)
    core.step(facts.refused("detect.0", "WeightsError", "does not fit", 1.0))
    core.step(protocol.ProcessExited("detect.0", "exit code 1", 1.1))
    core.step(protocol.ProcessExited("decode-a", "", 1.1))
    assert core.finished
    assert core.failed == protocol.FailRun("WeightsError", "does not fit")


def test_a_frame_that_skips_stages_between_others_is_dropped_with_a_notice():
    """Frame 1 skips the detector and waits for frame 0 in front of the tracker."""
    pipeline = Pipeline(
        stages=[
            StageSpec("detect", MaskRcnn(), every_s=0.05),
            StageSpec("track", Jipda(), after=["detect"]),
            StageSpec("publish", Publish(), after=["track"]),
        ]
    )
    core = started(pipeline)
    sends = [order for n in range(3) for order in admit(core, n)]
    assert [frames(send) for send in sends] == [[("a", 0)], [("a", 2)]]
    drained(core, 1.0)
    log = follow(core, sends, 1.1)
    received = [item for process, items in log if process == "publish.0" for item in items]
    assert NoticeItem(missing("drained", 1, 1, media_us=80_000)) in received
    assert balance(core) == (2, 1)
    assert core.finished


@pytest.mark.parametrize("live", [True, False])
def test_overload_is_noticed_once_a_second_with_exact_counts(live):
    """By arrival for live sources, by media time for files: here they differ tenfold."""
    core = started(CHAIN, window=1, info=msgspec.structs.replace(INFO, live=live))
    notices = []
    for n in range(0, 500, 5):
        at = n * 0.004
        gaps = [Gap("overload", 4, n + 1, n + 4), Gap("decode", 1, n, n)]
        orders = core.step(facts.admitted("a", decoded_frame("a0", n + 5, gaps=gaps), at))
        for process, items in follow(core, orders, at):
            notices += [item.notice for item in items if isinstance(item, NoticeItem)]
            assert process
    orders = core.step(facts.ended("a", "eof", 2.0))
    for process, items in follow(core, orders, 2.0, ("track.0", "publish.0")):
        notices += [item.notice for item in items if isinstance(item, NoticeItem)]
        assert process
    each = [notice for notice in notices if notice.reason == "overload"]
    assert sum(notice.count for notice in each) == 2 * 400  # for two stages
    assert core.streams["a"].dropped == {"overload": 400}
    assert len(each) == 2 * (3 if live else 21)
    ranges = [(notice.first_n, notice.last_n) for notice in each[::2]]
    assert ranges[0][0] == 1
    assert ranges[-1][1] == 499
    assert all(last < first for (_, last), (first, _) in pairwise(ranges))


def test_the_gaps_of_a_camera_that_stalls_are_noticed_after_a_second():
    core = started(CHAIN, window=4, info=msgspec.structs.replace(INFO, live=True))
    for n, at in ((1, 0.1), (3, 0.2)):
        gaps = [Gap("overload", 1, n - 1, n - 1)]
        core.step(facts.admitted("a", decoded_frame(f"a{n // 2}", n, gaps=gaps), at))
    assert core.due() <= 1.1
    core.step(protocol.Tick(1.05))
    assert core.streams["a"].gaps.unreported == {"overload": Gap("overload", 1, 2, 2)}
    core.step(protocol.Tick(1.1))
    assert core.streams["a"].gaps.unreported == {}


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
