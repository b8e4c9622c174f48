"""The way of frames through stages: lists of facts in, lists of orders out."""

import facts
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
from streamvis.runtime import protocol
from streamvis.runtime.gaps import Gap
from streamvis.runtime.protocol import BeginItem, EndItem, FrameItem, NoticeItem
from streamvis.runtime.supervision import StopProcess


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


def test_every_decode_process_and_replica_has_a_process_slot():
    assert [process.name for process in started(CHAIN, sources=("a", "b")).processes] == [
        "decode-a",
        "decode-b",
        "detect.0",
        "track.0",
        "publish.0",
    ]
