import numpy as np
import pytest
import toys

from streamvis.config import (
    Appearance,
    Jipda,
    MaskRcnn,
    Pipeline,
    Publish,
    Record,
    StageSpec,
)
from streamvis.errors import RunError
from streamvis.messages import ClipEvent, Detections, Frame, Notice, Receipt, SourceInfo
from streamvis.runtime.host import Host, build_stages
from streamvis.runtime.protocol import (
    BeginItem,
    ClipRequest,
    CutClip,
    EndItem,
    FrameItem,
    NoticeItem,
)
from streamvis.stages.gate import not_looked
from streamvis.stages.protocol import Site

PIPELINE = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track"]),
    ]
)
INFO = SourceInfo(id="a", label="a", width=1, height=1, fps=25, live=False)


class CallRecorder:
    """A stateful stage that records its calls."""

    def __init__(self, *parts):
        self.parts = parts or [Receipt()]  # returned for each packet
        self.calls = []

    def __call__(self, packets):
        self.calls.append([(p.frame.seq, [type(x).__name__ for x in p.parts]) for p in packets])
        return [part for _ in packets for part in self.parts]

    def begin(self, source, state):
        self.calls.append(("begin", source.id, state))

    def state(self, source):
        return b"%d" % len(self.calls)

    def notice(self, notice):
        self.calls.append(("notice", notice.kind))

    def finish(self, source, ending):
        self.calls.append(("finish", source, ending))

    def close(self):
        self.calls.append("close")


def frame_item(seq, skip=(), parts=()):
    frame = Frame(source="a", seq=seq, n=seq, media_us=seq, width=1, height=1)
    return FrameItem(frame, list(skip), list(parts))


def notice(kind):
    return NoticeItem(Notice(source="a", kind=kind, media_us=0))


def test_a_notice_between_two_frames_reaches_the_stage_between_them():
    recorder = CallRecorder()
    host = Host(PIPELINE, {"publish": recorder})
    items = [
        BeginItem(INFO, {"publish": b"x"}),
        frame_item(0),
        frame_item(1),
        notice("gap"),
        frame_item(2),
    ]
    answer, _ = host(7, items, [])
    assert recorder.calls == [
        ("begin", "a", b"x"),
        [(0, []), (1, [])],
        ("notice", "gap"),
        [(2, [])],
    ]
    assert answer.wrote == [["publish"]] * 3
    assert [(state.stage, state.source, state.data) for state in answer.states] == [
        ("publish", "a", b"4")
    ]
    assert [(each.stage, each.packets) for each in answer.times] == [("publish", 2), ("publish", 1)]


UNOPENED = SourceInfo(id="a", label="a", width=0, height=0, fps=0, live=True)


def online(info=INFO):
    return NoticeItem(Notice(source="a", kind="online", media_us=0, info=info))


def test_a_source_that_was_never_open_begins_at_once_only_for_stages_that_follow_its_status():
    track, publish = CallRecorder(toys.tracks(np.zeros(1, np.int64))), CallRecorder()
    host = Host(PIPELINE, {"track": track, "publish": publish})
    states = {"track": b"t", "publish": b"p"}
    answer, _ = host(7, [BeginItem(UNOPENED, states), notice("connecting")], [])
    assert track.calls == []
    assert publish.calls == [("begin", "a", b"p"), ("notice", "connecting")]
    assert [state.stage for state in answer.states] == ["publish"]

    answer, _ = host(
        8, [notice("offline"), online(), frame_item(0, parts=["detect"])], [detections()]
    )
    assert track.calls == [("begin", "a", b"t"), ("notice", "online"), [(0, ["Detections"])]]
    assert publish.calls[2:] == [("notice", "offline"), ("notice", "online"), [(0, ["Tracks"])]]
    assert [state.stage for state in answer.states] == ["track", "publish"]


def test_a_source_that_is_online_again_does_not_begin_again():
    recorder = CallRecorder(toys.tracks(np.zeros(1, np.int64)))
    host = Host(PIPELINE, {"track": recorder})
    host(7, [BeginItem(UNOPENED, {}), online()], [])
    larger = SourceInfo(id="a", label="a", width=2, height=2, fps=25, live=True, epoch=2)
    host(8, [notice("offline"), online(larger)], [])
    assert recorder.calls == [
        ("begin", "a", None),
        *(("notice", kind) for kind in ("online", "offline", "online")),
    ]


def test_a_source_that_ends_unopened_has_an_end_only_for_stages_that_follow_its_status():
    track, publish = CallRecorder(), CallRecorder()
    host = Host(PIPELINE, {"track": track, "publish": publish})
    answer, _ = host(7, [BeginItem(UNOPENED, {}), notice("offline"), EndItem("a", "failed")], [])
    assert track.calls == []
    assert publish.calls[-1] == ("finish", "a", "failed")
    assert answer.states == []
    assert answer.findings == {}
    host(8, [BeginItem(INFO, {})], [])  # added again
    assert track.calls == [("begin", "a", None)]


def test_events_of_which_a_clip_is_wanted_are_in_the_answer():
    wanted = Receipt(written=2, clips=[ClipEvent("id-1", "action.begin", 40_000)])
    host = Host(PIPELINE, {"publish": CallRecorder(wanted)})
    answer, _ = host(7, [BeginItem(INFO, {}), frame_item(0)], [])
    assert answer.clips == [ClipRequest("a", CutClip("id-1", "action.begin", 40_000))]


def test_an_ended_source_has_no_state():
    host = Host(PIPELINE, {"publish": CallRecorder()})
    answer, _ = host(7, [BeginItem(INFO, {}), EndItem("a", "eof")], [])
    assert answer.states == []


def test_parts_go_from_stage_to_stage_and_only_where_they_are_read():
    first, second = CallRecorder(toys.tracks(np.zeros(1, np.int64))), CallRecorder()
    host = Host(PIPELINE, {"track": first, "publish": second})
    answer, parts = host(7, [BeginItem(INFO, {}), frame_item(0, parts=["detect"])], [detections()])
    assert first.calls[-1] == [(0, ["Detections"])]
    assert second.calls[-1] == [(0, ["Tracks"])]
    assert answer.wrote == [["track", "publish"]]
    assert [type(part).__name__ for part in parts] == ["Tracks", "Receipt"]


def detections():
    nothing = np.zeros(0, np.float32)
    return Detections(boxes=nothing, scores=nothing, labels=nothing, masks=nothing)


def test_a_skipped_stage_is_not_called_and_writes_nothing():
    recorder = CallRecorder()
    answer, _ = Host(PIPELINE, {"detect": recorder})(
        7, [frame_item(0, skip=["detect"]), frame_item(1)], []
    )
    assert recorder.calls == [[(1, [])]]
    assert answer.wrote == [[], ["detect"]]


def test_a_wrong_number_of_parts_is_an_error():
    with pytest.raises(RunError, match="'detect' returned 2 parts for 1 packets"):
        Host(PIPELINE, {"detect": CallRecorder(Receipt(), Receipt())})(7, [frame_item(0)], [])


def test_every_stage_is_closed_though_one_fails():
    class Stuck(CallRecorder):
        def close(self):
            raise OSError("stuck")

    recorder = CallRecorder()
    host = Host(PIPELINE, {"detect": recorder, "publish": Stuck()})
    with pytest.raises(OSError, match="stuck"):
        host.close()
    assert recorder.calls == ["close"]


class Forgetful:
    """A stage without a state, which did not look at the first frame of two."""

    def __call__(self, packets):
        return [not_looked() if p.frame.seq % 2 == 0 else Detections.of([], []) for p in packets]


def test_a_builder_may_give_a_detector_that_remembers_nothing():
    """Its settings say that the stage keeps a state of live sources; this one has no `begin`."""
    host = Host(PIPELINE, {"detect": Forgetful()}, live=True)
    answer, _ = host(7, [BeginItem(INFO, {}), *map(frame_item, range(3))], [])
    assert (answer.wrote, answer.states) == ([["detect"]] * 3, [])


def test_frames_that_a_detector_did_not_look_at_are_counted():
    answer, _ = Host(PIPELINE, {"detect": Forgetful()})(7, [*map(frame_item, range(3))], [])
    assert [(time.stage, time.packets, time.gated) for time in answer.times] == [("detect", 3, 2)]


@pytest.mark.parametrize(
    ("below", "read"),
    [
        ([StageSpec("track", Jipda(), after=["detect"])], False),
        ([StageSpec("embed", Appearance(), after=["detect"])], False),
        ([StageSpec("embed", Appearance(masks=True), after=["detect"])], True),
        ([StageSpec("record", Record(), after=["detect"])], True),
        ([StageSpec("record", Record(masks=False), after=["detect"])], False),
    ],
)
def test_masks_are_predicted_where_a_stage_below_reads_them(below, read):
    pipeline = Pipeline(stages=[StageSpec("detect", MaskRcnn()), *below])
    sites = {}

    def build(spec, site):
        sites[spec.name] = site
        return CallRecorder()

    build_stages(pipeline, ["detect"], Site(device="cpu", pixels=lambda frame: None), build)
    assert sites["detect"].masks is read
