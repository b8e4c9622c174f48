import numpy as np
import pytest
import toys

from streamvis.config import Jipda, MaskRcnn, Pipeline, Publish, StageSpec
from streamvis.errors import RunError
from streamvis.messages import Detections, Frame, Notice, Receipt, SourceInfo
from streamvis.runtime.host import Host
from streamvis.runtime.wire import BeginItem, EndItem, FrameItem, NoticeItem

PIPELINE = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track"]),
    ]
)
INFO = SourceInfo(id="a", label="a", width=1, height=1, fps=25, live=False)


class Diary:
    """A stateful stage that writes down how it is called."""

    def __init__(self, *parts):
        self.parts = parts or [Receipt()]  # what it gives for each packet
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


def task(seq, skip=(), parts=()):
    frame = Frame(source="a", seq=seq, n=seq, media_us=seq, width=1, height=1)
    return FrameItem(frame, list(skip), list(parts))


def notice(kind):
    return NoticeItem(Notice(source="a", kind=kind, media_us=0))


def test_what_is_told_between_two_packets_comes_between_them():
    diary = Diary()
    host = Host(PIPELINE, {"publish": diary})
    items = [BeginItem(INFO, {"publish": b"x"}), task(0), task(1), notice("gap"), task(2)]
    ran = host(items, [])
    assert diary.calls == [
        ("begin", "a", b"x"),
        [(0, []), (1, [])],
        ("notice", "gap"),
        [(2, [])],
    ]
    assert ran.wrote == [["publish"]] * 3
    assert [(state.stage, state.source, state.data) for state in ran.states] == [
        ("publish", "a", b"4")
    ]
    assert [(spent.stage, spent.packets) for spent in ran.spent] == [("publish", 2), ("publish", 1)]


def test_an_ended_source_has_no_state():
    assert (
        Host(PIPELINE, {"publish": Diary()})([BeginItem(INFO, {}), EndItem("a", "eof")], []).states
        == []
    )


def test_parts_go_from_stage_to_stage_and_only_where_they_are_read():
    first, second = Diary(toys.tracks(np.zeros(1, np.int64))), Diary()
    host = Host(PIPELINE, {"track": first, "publish": second})
    ran = host([BeginItem(INFO, {}), task(0, parts=["detect"])], [detections()])
    assert first.calls[-1] == [(0, ["Detections"])]
    assert second.calls[-1] == [(0, ["Tracks"])]
    assert ran.wrote == [["track", "publish"]]
    assert [type(part).__name__ for part in ran.parts] == ["Tracks", "Receipt"]


def detections():
    nothing = np.zeros(0, np.float32)
    return Detections(boxes=nothing, scores=nothing, labels=nothing, masks=nothing)


def test_a_skipped_stage_is_not_called_and_writes_nothing():
    diary = Diary()
    ran = Host(PIPELINE, {"detect": diary})([task(0, skip=["detect"]), task(1)], [])
    assert diary.calls == [[(1, [])]]
    assert ran.wrote == [[], ["detect"]]


def test_a_wrong_number_of_parts_is_an_error():
    with pytest.raises(RunError, match="'detect' gave 2 parts for 1 packets"):
        Host(PIPELINE, {"detect": Diary(Receipt(), Receipt())})([task(0)], [])


def test_every_stage_is_closed_though_one_fails():
    class Stuck(Diary):
        def close(self):
            raise OSError("stuck")

    diary = Diary()
    host = Host(PIPELINE, {"detect": diary, "publish": Stuck()})
    with pytest.raises(OSError, match="stuck"):
        host.close()
    assert diary.calls == ["close"]
