"""The life of sources, decided by the core: facts in, orders out, without clocks."""

import itertools
import random

import facts
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.config import Pipeline, StageSpec
from streamvis.messages import SourceInfo
from streamvis.runtime import protocol
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.reconnect import Reconnect, pause_s
from streamvis.runtime.routing import Core
from streamvis.runtime.supervision import KillProcess, StartProcess, StopProcess
from streamvis.sources.picture import StreamStats
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.publish import Publish
from streamvis.stages.track import Jipda

PIPELINE = Pipeline(
    [
        StageSpec("detect", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track"]),
    ]
)


class Cameras:
    """A core whose workers are ready; answers of workers are given at once, without parts."""

    def __init__(self, *names, serve=False, give_up_s=None, resumed=None):
        reconnect = Reconnect(give_up_s=give_up_s)
        groups = group_stages(PIPELINE, one_stage_per_worker(PIPELINE))
        self.core = Core(
            groups,
            names,
            window=4,
            resumed=resumed,
            reconnect=dict.fromkeys(names, reconnect),
            labels={name: f"rtsp://{name}/main" for name in names},
            serve=serve,
            chance=random.Random(1),
        )
        self.notices = []  # (source, kind, reason) that the publisher got
        self.begun = []  # SourceInfo of each begin of the publisher
        self.ended = []
        self.frames = []  # (source, epoch, media_us) of frames at the publisher
        self.log = []
        self.opened = []
        self.process_orders = []
        self.give(protocol.Tick(0.0))
        for name in ("detect.0", "track.0", "publish.0"):
            self.give(facts.started(name, 0.0))

    def give(self, fact):
        for process in self.core.processes:
            process.heartbeat_at = fact.at
        todo = [fact]
        while todo:
            for order in self.core.step(todo.pop(0)):
                todo += self.carry_out(order, fact.at)

    def carry_out(self, order, at):
        match order:
            case protocol.SendWork(process, batch, items, _):
                frames = [i for i in items if isinstance(i, protocol.FrameItem)]
                stage = process.partition(".")[0]
                if stage == "publish":
                    self.publish(items)
                begun = [i.info.id for i in items if isinstance(i, protocol.BeginItem)]
                states = [protocol.StageState(stage, name, b"x") for name in begun]
                states = states if stage != "detect" else []
                answer = protocol.Answer(batch, [[stage] for _ in frames], states, [])
                yield facts.answered(process, answer, [b""] * len(frames), at)
            case protocol.LogEntry():
                self.log.append(order)
            case protocol.OpenSource():
                self.opened.append(order)
            case KillProcess(process, reason):
                self.process_orders.append((at, order))
                yield protocol.ProcessExited(process, reason, at)
            case StartProcess() | StopProcess():
                self.process_orders.append((at, order))

    def publish(self, items):
        for item in items:
            match item:
                case protocol.NoticeItem(notice):
                    self.notices.append((notice.source, notice.kind, notice.reason))
                case protocol.BeginItem(info, _):
                    self.begun.append(info)
                case protocol.EndItem(source, ending):
                    self.ended.append((source, ending))
                case protocol.FrameItem(frame):
                    self.frames.append((frame.source, frame.epoch, frame.media_us))

    # what happens to a camera

    def start(self, name, at):
        self.give(facts.started(f"decode-{name}", at))

    def open(self, name, at, width=64, **info):
        epoch = self.core.streams[name].epoch
        opened = SourceInfo(
            id=name,
            label=f"rtsp://{name}/main",
            width=width,
            height=48,
            fps=25.0,
            **{"live": True, **info},
            epoch=epoch,
        )
        self.give(facts.opened(name, opened, at))
        slots = [f"{name}{epoch}:{i}" for i in range(4)]
        self.give(protocol.SlotsCreated(name, slots, at))

    def picture(self, name, at, media_us, n=0, **details):
        if not self.core.streams[name].granted:  # other cameras had the grants
            self.give(protocol.Tick(at + 0.3))
        slot = min(self.core.streams[name].granted)
        size = {"width": 64, "height": 48, **details}
        decoded = protocol.DecodedFrame(
            slot=slot, n=n, media_us=media_us, capture_us=1, clock="arrival", errors=0, **size
        )
        self.give(facts.admitted(name, decoded, at))

    def lose(self, name, at, message="the connection was lost"):
        self.give(facts.ended(name, "failed", at, message=message))

    def kinds(self, name):
        return [kind for source, kind, _ in self.notices if source == name]

    def attempts(self, name):
        process = f"decode-{name}"
        return [at for at, order in self.process_orders if order == StartProcess(process)]

    def run_until(self, at):
        """Let time pass, to each decision that is due."""
        while (due := self.core.due()) < at:
            self.give(protocol.Tick(due))
        self.give(protocol.Tick(at))


@pytest.fixture
def cameras():
    cameras = Cameras("a")
    cameras.start("a", 1.0)
    return cameras


def test_a_camera_is_connecting_then_online(cameras):
    assert cameras.kinds("a") == ["connecting"]
    assert cameras.begun[0].width == 0  # told of before its size is known
    cameras.open("a", 2.0)
    assert cameras.kinds("a") == ["connecting", "online"]
    assert cameras.core.streams["a"].state == "online"


def test_a_lost_camera_is_offline_then_online_in_the_next_epoch_with_media_time_going_on(cameras):
    cameras.open("a", 2.0)
    cameras.picture("a", 2.0, 0)
    cameras.picture("a", 3.0, 1_000_000)
    cameras.lose("a", 4.0)
    assert cameras.core.streams["a"].state == "offline"
    cameras.run_until(6.0)
    cameras.start("a", 6.0)
    (_, again) = cameras.opened
    assert (again.epoch, again.last_us, again.zero_s) == (2, 1_000_000, 2.0)
    cameras.open("a", 6.5)
    assert cameras.kinds("a") == [
        *("connecting", "online", "offline"),
        *("connecting", "epoch", "online"),
    ]
    cameras.picture("a", 6.5, 4_500_000)
    assert cameras.frames[-1] == ("a", 2, 4_500_000)
    report = cameras.core.streams["a"]
    assert (report.reconnects, report.attempts) == (1, 1)


def test_pauses_double_up_to_the_longest_and_are_shortened_by_chance():
    assert [pause_s(n, 0.0, 1.0, 60.0) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pause_s(10**6, 0.0, 1.0, 60.0) == 60
    assert pause_s(3, 0.999999, 1.0, 60.0) == pytest.approx(2, abs=1e-4)


def test_a_camera_that_stays_away_is_tried_after_these_pauses(cameras):
    at = 1.0
    pauses = []
    for _ in range(8):
        cameras.give(facts.refused("decode-a", "SourceError", "nobody there", at))
        stream = cameras.core.streams["a"]
        assert stream.process.state == "waiting"
        pauses.append(stream.process.due - at)
        at = stream.process.due
        cameras.give(protocol.Tick(at))
        cameras.start("a", at)
    for pause, most in zip(pauses, [1, 2, 4, 8, 16, 30, 30, 30], strict=True):
        assert most / 2 < pause <= most
    assert len(set(pauses[5:])) == 3
    # the log has the first, and ever fewer
    assert [e.fields["attempts"] for e in cameras.log if e.event == "source offline"] == [
        1,
        2,
        4,
        8,
    ]
    assert cameras.kinds("a").count("offline") == 8


def test_a_camera_that_was_steady_is_tried_again_soon(cameras):
    for _ in range(5):
        cameras.lose("a", 1.0)
        cameras.run_until(cameras.core.streams["a"].process.due)
        cameras.start("a", 1.0)
    cameras.open("a", 10.0)
    cameras.picture("a", 10.0, 0)
    cameras.picture("a", 25.0, 15_000_000, n=1)
    cameras.lose("a", 30.0)
    assert cameras.core.streams["a"].process.due - 30.0 <= 1.0
    cameras.run_until(40.0)
    for attempts in (2, 3, 4):  # it stays away
        cameras.start("a", 40.0)
        cameras.give(facts.refused("decode-a", "SourceError", "nobody there", 40.0))
        assert cameras.core.streams["a"].attempts == attempts
        cameras.run_until(cameras.core.streams["a"].process.due)


def test_a_camera_that_connects_and_sends_nothing_is_tried_ever_less(cameras):
    at = 1.0
    for _ in range(6):
        cameras.open("a", at)
        cameras.lose("a", at + 20.0)
        at = cameras.core.streams["a"].process.due
        cameras.give(protocol.Tick(at))
        cameras.start("a", at)
    assert cameras.core.streams["a"].attempts == 6


def test_silence_is_a_stall_and_its_end_is_online_in_the_same_epoch(cameras):
    cameras.open("a", 2.0)
    cameras.give(protocol.Received("decode-a", protocol.Silence(False, 2.5), 5.0))
    assert cameras.core.streams["a"].state == "stalled"
    cameras.give(protocol.Received("decode-a", protocol.Silence(True, 0.1), 6.0))
    assert cameras.core.streams["a"].state == "online"
    assert cameras.kinds("a") == ["connecting", "online", "stalled", "online"]
    assert cameras.core.streams["a"].epoch == 1


def test_a_decode_process_without_progress_is_killed(cameras):
    cameras.run_until(60.0)  # it never opens
    killed = [order for _, order in cameras.process_orders if isinstance(order, KillProcess)]
    assert [order.process for order in killed][:1] == ["decode-a"]
    assert cameras.core.streams["a"].attempts >= 1


def test_a_stalled_camera_whose_process_never_ends_is_killed(cameras):
    cameras.open("a", 2.0)
    cameras.give(protocol.Received("decode-a", protocol.Silence(False, 2.5), 5.0))
    cameras.run_until(4000.0)
    assert ("a", "offline") in {(source, kind) for source, kind, _ in cameras.notices}
    assert cameras.core.streams["a"].state != "stalled"


def test_a_decode_process_that_stands_still_is_a_stall_until_its_next_heartbeat(cameras):
    cameras.open("a", 2.0)
    core = cameras.core
    for at in range(3, 16):  # the workers live
        for process in core.processes:
            if process.name != "decode-a":
                process.heartbeat_at = float(at)
        for order in core.step(protocol.Tick(float(at))):
            list(cameras.carry_out(order, float(at)))
    assert core.streams["a"].state == "stalled"
    assert "sign of life" in core.streams["a"].reason
    cameras.give(protocol.Heartbeat("decode-a", 16.0))
    assert core.streams["a"].state == "online"


def test_waiting_for_a_key_frame_is_progress(cameras):
    for at in range(1, 60):
        cameras.give(protocol.Tick(float(at)))
        waiting = protocol.Waiting("waiting for a key frame")
        cameras.give(protocol.Received("decode-a", waiting, float(at)))
    stream = cameras.core.streams["a"]
    assert (stream.state, stream.reason) == ("connecting", "waiting for a key frame")
    assert not [o for _, o in cameras.process_orders if isinstance(o, KillProcess)]


def test_an_absent_camera_holds_nobody_back_and_joins_later():
    cameras = Cameras("a", "b", "c")
    for name in "abc":
        cameras.start(name, 1.0)
    cameras.give(facts.refused("decode-c", "SourceError", "refused the connection", 1.5))
    for name in "ab":
        cameras.open(name, 2.0)
        cameras.picture(name, 2.0, 0)
    assert {source for source, *_ in cameras.frames} == {"a", "b"}
    cameras.run_until(3.0)
    cameras.start("c", 3.0)
    cameras.open("c", 3.5)
    cameras.picture("c", 3.5, 0)
    assert cameras.frames[-1] == ("c", 1, 0)  # it was never online before: its first epoch
    assert not cameras.core.failed


def test_time_stamps_that_begin_anew_are_another_epoch(cameras):
    cameras.open("a", 2.0)
    cameras.picture("a", 2.0, 0)
    cameras.picture("a", 2.1, 40_000, n=1, restarted=True)
    assert [epoch for _, epoch, _ in cameras.frames] == [1, 2]
    assert ("a", "epoch", "its time stamps began anew") in cameras.notices
    cameras.lose("a", 3.0)
    assert cameras.core.streams["a"].epoch == 3


def test_a_change_of_size_is_told(cameras):
    cameras.open("a", 2.0)
    cameras.picture("a", 2.0, 0)
    cameras.picture("a", 2.1, 40_000, n=1, width=32)
    assert cameras.kinds("a") == ["connecting", "online", "online"]
    assert cameras.core.streams["a"].info.width == 32
    assert [e.fields["now"] for e in cameras.log if "size" in e.event] == ["32x48"]


def test_a_source_is_given_up_only_when_asked():
    cameras = Cameras("a", give_up_s=20.0)
    cameras.start("a", 1.0)
    at = 1.0
    while cameras.core.streams["a"].ending is None and at < 100:
        cameras.give(facts.refused("decode-a", "SourceError", "nobody there", at))
        at = max(at + 0.1, cameras.core.streams["a"].process.due)
        cameras.give(protocol.Tick(at))
        if cameras.core.streams["a"].process.state == "starting":
            cameras.start("a", at)
    assert 20 < at < 60
    stream = cameras.core.streams["a"]
    assert (stream.ending, stream.error) == ("failed", "SourceError")
    assert "nobody there; given up after 2" in stream.message
    assert cameras.ended == [("a", "failed")]
    last = cameras.log[-1]
    assert (last.event, last.level) == ("source failed", "error")
    assert last.fields["reason"] == stream.message


def test_what_another_attempt_cannot_mend_ends_the_source(cameras):
    cameras.give(facts.refused("decode-a", "UsageError", "no such option", 1.0))
    assert cameras.core.streams["a"].ending == "failed"


def test_an_address_that_turns_out_to_be_a_file_ends_when_it_is_lost(cameras):
    cameras.open("a", 2.0, live=False)
    cameras.lose("a", 3.0)
    assert cameras.core.streams["a"].ending == "failed"


# sources that come and go


def test_a_source_joins_a_run_and_the_others_lose_nothing(cameras):
    cameras.open("a", 2.0)
    cameras.picture("a", 2.0, 0)
    cameras.give(protocol.AddSource("b", Reconnect(), 3.0, "rtsp://b/main"))
    assert cameras.attempts("b") == [3.0]
    cameras.start("b", 3.2)
    cameras.open("b", 3.5)
    cameras.picture("b", 3.5, 0)
    cameras.picture("a", 3.6, 40_000, n=1)
    assert cameras.frames == [("a", 1, 0), ("b", 1, 0), ("a", 1, 40_000)]
    assert [info.id for info in cameras.begun] == ["a", "b"]


def test_a_removed_source_ends_and_may_come_back_in_another_epoch():
    cameras = Cameras("a", serve=True)
    cameras.start("a", 1.0)
    cameras.open("a", 2.0)
    cameras.picture("a", 2.0, 0)
    cameras.give(protocol.RemoveSource("a", 3.0))
    assert ("decode-a") in [o.process for _, o in cameras.process_orders if type(o) is StopProcess]
    cameras.give(facts.ended("a", "drained", 3.1))
    cameras.give(protocol.ProcessExited("decode-a", "", 3.2))
    assert cameras.ended == [("a", "drained")]
    assert cameras.notices[-1] == ("a", "offline", "removed")
    assert not cameras.core.finished  # it serves
    cameras.give(protocol.AddSource("a", Reconnect(), 10.0))
    cameras.start("a", 10.0)
    cameras.open("a", 10.5)
    assert cameras.opened[-1].epoch == 2
    assert cameras.begun[-1].epoch == 2
    cameras.picture("a", 10.5, 8_500_000)
    assert cameras.frames[-1] == ("a", 2, 8_500_000)


def test_a_source_that_is_tried_again_is_removed_at_once():
    cameras = Cameras("a", serve=True)
    cameras.start("a", 1.0)
    cameras.lose("a", 1.0)
    cameras.give(protocol.RemoveSource("a", 1.1))
    assert cameras.core.streams["a"].done


def test_a_name_that_is_in_the_run_is_not_added_again(cameras):
    cameras.open("a", 2.0)
    before = cameras.core.streams["a"]
    cameras.give(protocol.AddSource("a", Reconnect(), 3.0))
    assert cameras.core.streams["a"] is before


@pytest.mark.parametrize("state", ["online", "waiting"])
def test_a_restart_connects_at_once(cameras, state):
    cameras.open("a", 2.0)
    if state == "waiting":
        cameras.lose("a", 3.0)
    cameras.give(protocol.RestartSource("a", 3.1))
    assert cameras.attempts("a")[-1] == 3.1
    cameras.start("a", 3.2)
    cameras.open("a", 3.3)
    assert cameras.core.streams["a"].epoch == 2


def test_a_drain_ends_a_service_with_and_without_sources():
    for names in ([], ["a"]):
        cameras = Cameras(*names, serve=True)
        for name in names:
            cameras.start(name, 1.0)
            cameras.lose(name, 1.0)
        cameras.give(protocol.Drain(2.0))
        for name in ("detect.0", "track.0", "publish.0"):
            cameras.give(protocol.ProcessExited(name, "", 2.1))
        assert cameras.core.finished


def test_measurements_are_kept_and_recorded_bytes_add_up(cameras):
    cameras.open("a", 2.0)
    for at, count in ((3.0, 10), (4.0, 20)):
        measured = protocol.Measured(StreamStats(fps=24.8, recorded_bytes=count))
        cameras.give(protocol.Received("decode-a", measured, at))
    cameras.lose("a", 5.0)
    assert cameras.core.streams["a"].recorded == 20


def test_skipped_pictures_are_counted_apart(cameras):
    cameras.open("a", 2.0)
    gaps = [protocol.Gap("skipped", 3, 0, 2), protocol.Gap("overload", 2, 3, 4)]
    cameras.picture("a", 2.0, 0, n=5, gaps=gaps)
    stream = cameras.core.streams["a"]
    assert (stream.skipped, stream.dropped, stream.admitted) == (3, {"overload": 2}, 1)


def test_missing_frames_are_logged_once_a_minute(cameras):
    cameras.open("a", 2.0)
    for second in range(2, 150):
        gaps = [protocol.Gap("overload", 5, 0, 4)]
        cameras.picture("a", float(second), second * 1_000_000, n=second, gaps=gaps)
    logged = [(e.fields["overload"]) for e in cameras.log if e.event == "frames missing"]
    assert logged == [5, 300, 300]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["start", "open", "picture", "lose", "die", "stall", "go", "remove", "add"]
        ),
        st.sampled_from(["a", "b"]),
        st.floats(0.01, 40),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(EVENTS)
def test_whatever_happens_media_time_grows_and_epochs_are_told(events):
    cameras = Cameras("a", "b", serve=True)
    at = 1.0
    numbers = {"a": 0, "b": 0}
    for what, name, pause in events:
        at += pause
        cameras.run_until(at)
        stream = cameras.core.streams[name]
        match what:
            case "start" if stream.process.state == "starting":
                cameras.start(name, at)
            case "open" if stream.process.state == "ready" and not stream.open:
                if stream.state == "connecting":
                    cameras.open(name, at)
            case "picture" if stream.open and stream.granted:
                zero = at if stream.zero_s is None else stream.zero_s
                numbers[name] += 1
                media_us = max(round((at - zero) * 1e6), stream.last_us + 1)
                cameras.picture(name, at, media_us, n=numbers[name])
            case "lose" if stream.process.state == "ready":
                cameras.lose(name, at)
            case "die" if stream.process.alive:
                cameras.give(protocol.ProcessExited(f"decode-{name}", "killed", at))
            case "stall" | "go" if stream.open:
                silence = protocol.Silence(what == "go", 3.0)
                cameras.give(protocol.Received(f"decode-{name}", silence, at))
            case "remove":
                cameras.give(protocol.RemoveSource(name, at))
                if stream.process.state == "stopping":
                    cameras.give(protocol.ProcessExited(f"decode-{name}", "", at))
            case "add" if stream.done and stream.process.state == "gone":
                cameras.give(protocol.AddSource(name, Reconnect(), at))
    for name in "ab":
        own = [(epoch, us) for source, epoch, us in cameras.frames if source == name]
        assert own == sorted(own)
        assert all(a[1] < b[1] for a, b in itertools.pairwise(own))
        # a stage knows of each epoch: by a notice, or by the begin of a source that came back
        told = cameras.kinds(name).count("epoch")
        begun = sum(info.id == name for info in cameras.begun)
        assert len({epoch for epoch, _ in own}) <= told + begun
        # online is never told twice in a row without another size
        kinds = [k for k in cameras.kinds(name) if k not in ("epoch", "gap")]
        assert ("online", "online") not in list(itertools.pairwise(kinds))


def test_a_resumed_camera_begins_in_its_next_stream_epoch_before_it_is_open():
    before = SourceInfo(
        id="a", label="rtsp://a/main", width=64, height=48, fps=25.0, live=True, epoch=1
    )
    saved = protocol.SourceCheckpoint(
        info=before, epoch=2, known_epoch=1, admitted=7, last_n=-1, last_us=320_000
    )
    cameras = Cameras("a", resumed={"a": saved})
    cameras.start("a", 1.0)
    (begun,) = cameras.begun
    assert (begun.width, begun.epoch) == (0, 2)
    assert cameras.kinds("a") == ["connecting"]


def test_a_source_that_was_removed_while_it_connects_leaves_nothing_due():
    """A time in the past that no tick resolves would keep the hub busy for ever."""
    cameras = Cameras("a", serve=True)
    cameras.run_until(1.0)
    cameras.start("a", 1.0)
    cameras.give(protocol.RemoveSource("a", 2.0))
    cameras.give(protocol.ProcessExited("decode-a", "", 2.5))
    assert cameras.core.streams["a"].process.state == "gone"
    cameras.give(protocol.Tick(50.0))
    assert cameras.core.due() > 50.0


def test_what_a_decode_process_sends_after_the_end_of_its_source_reaches_no_stage(cameras):
    """A stage that is told of a source that it has ended would fail."""
    cameras.open("a", 2.0)
    cameras.picture("a", 2.0, 0)
    cameras.give(facts.ended("a", "failed", 3.0, error="RunError", message="/dev/shm is full"))
    assert cameras.ended == [("a", "failed")]
    told = len(cameras.notices)
    for message in (protocol.ClipSaved("e1", "clips/e1.mp4"), protocol.Silence(False, 3.0)):
        cameras.give(protocol.Received("decode-a", message, 3.1))
    assert len(cameras.notices) == told
    assert cameras.core.streams["a"].state == "ended"


def test_each_loss_of_a_camera_that_was_online_is_logged(cameras):
    for attempt in range(5):
        at = 10.0 * attempt
        cameras.run_until(at + 2.0)
        if attempt:
            cameras.start("a", at + 2.0)
        cameras.open("a", at + 3.0)
        cameras.lose("a", at + 4.0)
    assert [entry.event for entry in cameras.log] == ["source online", "source offline"] * 5
