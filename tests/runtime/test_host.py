import numpy as np
import pytest
import toys

from streamvis.config import Jipda, MaskRcnn, Pipeline, Publish, StageSpec
from streamvis.errors import RunError
from streamvis.messages import Detections, Frame, Notice, Receipt, SourceInfo
from streamvis.runtime.host import Host
from streamvis.runtime.protocol import BeginItem, EndItem, FrameItem, NoticeItem

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
