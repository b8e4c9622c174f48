"""Zones that change reach the stages between two frames: once, in order, also after a crash."""

import facts
import msgspec
import pytest

from streamvis.config import Pipeline, StageSpec
from streamvis.messages import SourceInfo
from streamvis.runtime import protocol
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.reconnect import Reconnect
from streamvis.runtime.routing import Core
from streamvis.runtime.supervision import StartProcess
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.publish import Publish
from streamvis.stages.track import Jipda
from streamvis.zone_layout import Zone, ZoneLayout

TRIANGLE = ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9))
OLD, NEW, NEWER = (
    ZoneLayout(zones=(Zone(name=name, polygon=TRIANGLE),)) for name in ("old", "new", "newer")
)
PIPELINE = Pipeline(
    [
        StageSpec("detect", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track"]),
    ]
)


class Run:
    """A core with source `a`; detect answers at once, and `track` when it is told to."""

    def __init__(self, *, resumed=None, reconnect=None, live=False):
        self.live = live
        groups = group_stages(PIPELINE, one_stage_per_worker(PIPELINE))
        self.core = Core(
            *(groups, ["a"], 8),
            resumed=None if resumed is None else {"a": resumed},
            zones={"a": OLD},
            reconnect={"a": reconnect},
        )
        self.at = 1.0
        self.work = []  # batches that `track` has yet to answer
        self.seen = []  # what `track` got, in order
        self.saved = []
        self.n = 0
        self.give(protocol.Tick(self.at))
        for name in ("detect.0", "track.0", "publish.0", "decode-a"):
            self.give(facts.started(name, self.at))
        self.open()

    def open(self, zones=None):
        epoch = self.core.streams["a"].epoch
        info = SourceInfo(
            id="a",
            label="a",
            width=64,
            height=48,
            fps=25.0,
            live=self.live,
            epoch=epoch,
            zones=zones,
        )
        self.give(facts.opened("a", info, self.at))
        self.give(protocol.SlotsCreated("a", [f"a{epoch}:{i}" for i in range(8)], self.at))

    def give(self, fact):
        for process in self.core.processes:
            process.heartbeat_at = fact.at
        todo = [fact]
        while todo:
            for order in self.core.step(todo.pop(0)):
                todo += self.carry_out(order)

    def carry_out(self, order):
        match order:
            case protocol.SendWork(process, batch, items, _):
                if process == "track.0":
                    self.work.append((batch, items))
                    self.seen += [self.short(item) for item in items]
                else:
                    yield self.answer(process, batch, items)
            case StartProcess("track.0") if self.at > 1.0:
                yield facts.started("track.0", self.at)
            case protocol.SaveCheckpoint():
                self.saved.append(order.checkpoint)

    def answer(self, process, batch, items):
        frames = [item for item in items if isinstance(item, protocol.FrameItem)]
        stage = process.partition(".")[0]
        states = [] if stage == "detect" else [protocol.StageState(stage, "a", b"x")]
        answer = protocol.Answer(batch, [[stage] for _ in frames], states, [])
        return facts.answered(process, answer, [b""] * len(frames), self.at)

    def short(self, item):
        match item:
            case protocol.BeginItem(info, states):
                names = [zone.name for zone in info.zones.zones] if info.zones else None
                return ("begin", names, sorted(states))
            case protocol.NoticeItem(notice) if notice.kind == "zones":
                return ("zones", notice.zones.zones[0].name)
            case protocol.NoticeItem(notice):
                return (notice.kind,)
            case protocol.FrameItem(frame):
                return frame.seq
            case protocol.EndItem():
                return "end"

    def answer_all(self):
        while self.work:
            self.give(self.answer("track.0", *self.work.pop(0)))

    def picture(self):
        self.at += 0.04
        slot = min(self.core.streams["a"].granted)
        decoded = protocol.DecodedFrame(
            *(slot, self.n, self.n * 40_000, 1, "file", 64, 48, 0, []),
        )
        self.n += 1
        self.give(facts.admitted("a", decoded, self.at))

    def set(self, zones):
        self.give(protocol.SetZones("a", zones, self.at))

    def crash(self):
        self.work.clear()
        self.seen.clear()
        self.at += 1
        self.give(protocol.ProcessExited("track.0", "signal 9", self.at))
        self.at += 5
        self.give(protocol.Tick(self.at))


def test_a_source_begins_with_its_zones_and_a_change_stands_before_the_next_frame():
    run = Run()
    run.picture()
    run.answer_all()
    run.set(NEW)
    assert run.seen == [("begin", ["old"], []), 0]
    run.picture()
    run.answer_all()
    run.picture()
    assert run.seen == [("begin", ["old"], []), 0, ("zones", "new"), 1, 2]


def test_only_the_last_of_several_changes_between_two_frames_is_told():
    run = Run()
    run.picture()
    run.set(NEW)
    run.set(NEWER)
    run.picture()
    run.set(NEW)
    run.set(NEWER)  # as it was
    run.picture()
    run.answer_all()
    assert [one for one in run.seen if isinstance(one, tuple)] == [
        ("begin", ["old"], []),
        ("zones", "newer"),
    ]


@pytest.mark.parametrize("answered", [0, 1])
def test_after_a_crash_the_change_comes_again_at_the_same_place(answered):
    run = Run()
    run.picture()
    if answered:
        run.answer_all()
    run.picture()
    run.set(NEW)
    run.picture()
    run.picture()
    run.crash()
    run.answer_all()
    begin = ("begin", ["old"], ["track"] if answered else [])
    assert run.seen == [begin, *range(answered, 2), ("zones", "new"), 2, 3]


def test_a_camera_that_comes_back_keeps_the_zones_that_were_set():
    run = Run(live=True, reconnect=Reconnect())
    run.picture()
    run.answer_all()
    run.give(facts.ended("a", "failed", run.at, message="lost"))
    run.set(NEW)
    run.give(protocol.ProcessExited("decode-a", "", run.at))
    run.at += 30
    run.give(protocol.Tick(run.at))
    run.give(facts.started("decode-a", run.at))
    run.open()
    run.picture()
    run.answer_all()
    assert run.seen[-2:] == [("zones", "new"), 1]
    assert run.core.streams["a"].info.zones is not None


def test_what_the_decode_process_says_of_zones_does_not_count():
    run = Run()
    run.open(zones=NEWER)
    run.picture()
    assert run.seen == [("begin", ["old"], []), 0]


def saved_at(seq, **fields):
    return protocol.SourceCheckpoint(
        **{"info": None, "epoch": 1, "known_epoch": 1, "states": {"track": b"x"}, **fields},
        admitted=seq + 1,
        last_n=seq,
        last_us=seq * 40_000,
    )


def test_a_change_is_saved_soon_with_the_state_of_the_stages():
    run = Run()
    for _ in range(3):
        run.picture()
        run.answer_all()
    assert run.saved == []
    run.set(NEW)
    while not run.saved and run.core.streams["a"].granted:
        run.picture()
        run.answer_all()
    assert run.saved[0].zones == NEW
    saved = msgspec.msgpack.decode(
        msgspec.msgpack.encode(run.saved[0]), type=protocol.SourceCheckpoint
    )
    assert saved.zones == NEW


def test_a_resumed_run_tells_stages_of_zones_that_are_others_now():
    run = Run(resumed=saved_at(4, zones=NEW))  # they are OLD now
    run.n = 5
    run.picture()
    run.picture()
    run.answer_all()
    assert run.seen == [("begin", ["new"], ["track"]), ("zones", "old"), 5, 6]


def test_they_change_after_the_frames_that_are_in_the_log_already():
    run = Run(resumed=saved_at(4, zones=NEW, logged=6))
    run.n = 5
    for _ in range(4):
        run.picture()
    run.answer_all()
    assert run.seen == [("begin", ["new"], ["track"]), 5, 6, ("zones", "old"), 7, 8]


def test_a_resumed_run_with_the_same_zones_tells_nothing():
    run = Run(resumed=saved_at(4, zones=OLD))
    run.n = 5
    run.picture()
    run.answer_all()
    assert run.seen == [("begin", ["old"], ["track"]), 5]
