import itertools
import json
import os
import threading
import time
from contextlib import closing, contextmanager

import msgspec
import numpy as np
import pytest
import zmq
from jsonschema import Draft202012Validator
from published import EPOCH, content, contents, do, info_of, logged, notice_of, packet_of, site_at
from waiting import PATIENCE_S

from streamvis.config import Alarm, Publish, Segment
from streamvis.errors import DataError, RunError
from streamvis.events import retention, topics
from streamvis.events.client import Subscription
from streamvis.events.envelope import Event
from streamvis.events.feed import read_announcement
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.events.mask_attachments import mask_of
from streamvis.messages import (
    Forecast,
    HorizonForecast,
    Score,
    Segmentation,
    ZoneOccupancy,
)
from streamvis.stages import event_codec
from streamvis.stages.publish import opening
from streamvis.stages.publish.stage import PublishStage

NEXT_EPOCH = "01999c82-3d00-7a54-b1d5-0c6d2a7f9e12"
SOURCES = ("cam1", "cam10", "street")
CLASSES = np.array([[0, 0, 0], [1, 1, 0]], np.uint8)


def scene_of(seq, epoch=1, unknown=0.9, came=()):
    """A street in which something unknown stands, and its next 0.3 s."""
    packet = packet_of("street", seq, epoch, ids=None)
    future = HorizonForecast(
        horizon_us=300_000, classes=CLASSES[::-1], zones=(ZoneOccupancy(zone="crossing", p=0.8),)
    )
    judged = [
        Score(made_us=made * 100_000, horizon_us=300_000, miou=0.5, accuracy=0.75) for made in came
    ]
    packet.parts = [
        Segmentation(
            labels=("sky", "road"),
            classes=CLASSES,
            unknown=np.full((1, 1), round(255 * unknown), np.uint8),
        ),
        Forecast(labels=("sky", "road"), horizons=(future,), scores=tuple(judged), warm=seq > 0),
    ]
    return packet


# What a hub sends, in order; each work is answered as a whole. Lists are packets of one call.
WORKS = [
    [[packet_of("cam1", 0, ids=[]), packet_of("cam10", 0, ids=[4])]],
    [[packet_of("cam1", 1), packet_of("cam1", 2, ids=[1, 2]), scene_of(0), scene_of(3, came=[0])]],
    [notice_of("cam1", "stalled"), [packet_of("cam10", 1, ids=None), scene_of(6, came=[3])]],
    [notice_of("cam1", "offline", "gone"), notice_of("cam1", "connecting")],
    [notice_of("cam1", "online"), notice_of("cam1", "epoch", "reconnected")],
    [[packet_of("cam1", 3, epoch=2), packet_of("cam10", 2, ids=[5], ended=[4])]],
    [notice_of("cam1", "gap", "poison"), [packet_of("cam1", 4, epoch=2), scene_of(7, epoch=2)]],
    [notice_of("cam1", "stalled"), notice_of("cam1", "online"), notice_of("cam1", "stalled")],
    [
        notice_of("cam1", "online"),
        [packet_of("cam1", 5, epoch=2, ids=[3], ended=[1])],
        [packet_of("cam10", 3, ids=[4], ended=[5], merged=[[5, 4]])],
        [packet_of("cam10", 4, ids=[4, 6], split=[[4, 6, 200_000]])],
    ],
    [("cam10", "eof")],
    [[packet_of("cam1", 6, epoch=2, ids=[3])], ("cam1", "drained")],
    [[scene_of(10, epoch=2, came=[7]), scene_of(13, epoch=2), scene_of(16, 2, unknown=0)]],
    [[scene_of(19, epoch=2, unknown=0), scene_of(22, 2, unknown=0)], ("street", "eof")],
]
STEPS = sum(len(work) for work in WORKS)


class Killed(Exception):  # noqa: N818 - what the test does, not a fault
    pass


def begun(out, states, bind=None, sources=SOURCES):
    stage = PublishStage(Publish(bind=bind), site_at(out))
    for name in sources:
        stage.begin(info_of(name), states.get(name))
    return stage


def run_through(out, cuts=()):
    """Do all works; die after each of the steps in `cuts`, before its work is answered."""
    states = {}
    taken, deaths, open_ = 0, set(cuts), set(SOURCES)
    stage = begun(out, states)
    for work in WORKS:
        while True:
            try:
                for step in work:
                    do(stage, step)
                    taken += 1
                    if taken in deaths:
                        raise Killed
            except Killed:
                stage.close()
                stage = begun(out, states, sources=open_)
                continue
            ended = {step[0] for step in work if isinstance(step, tuple)}
            states |= {source: stage.state(source) for source in open_ - ended}
            open_ -= ended
            break
    stage.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    run_through(out)
    return out


def test_the_story_of_a_source(undisturbed):
    events = logged(undisturbed)
    assert [event.type for event in events["cam1"]] == [
        *("source.online", "track.begin", "track.update", "track.begin"),
        *("source.stalled", "source.offline", "source.connecting", "source.online"),
        *("track.end", "track.end", "source.epoch", "track.begin", "source.gap", "track.update"),
        *("source.stalled", "source.online", "source.stalled", "source.online"),
        *("track.end", "track.begin", "track.update", "track.end"),
    ]
    assert [event.type for event in events["cam10"]] == [
        *("source.online", "track.begin", "track.end", "track.begin"),
        *("track.merge", "track.end", "track.begin", "track.split", "track.update", "track.begin"),
        *("track.end", "track.end", "source.eof"),
    ]
    assert [event.type for event in events["street"]] == [
        *("source.online", "scene.update", "forecast.segmentation"),
        *("scene.update", "forecast.scored", "forecast.segmentation"),
        *("unknown.begin", "scene.update", "forecast.scored", "forecast.segmentation"),
        *("unknown.end", "source.epoch", "scene.update", "forecast.segmentation"),
        *("scene.update", "forecast.scored", "forecast.segmentation"),
        *("unknown.begin", "scene.update", "forecast.segmentation"),
        *("scene.update", "forecast.segmentation"),
        *("scene.update", "forecast.segmentation"),
        *("unknown.end", "scene.update", "forecast.segmentation", "source.eof"),
    ]
    ids = [e.what.track.id for e in events["cam1"] if e.family == "track"]
    assert ids[-1] == "cam1:2:3"


def test_every_logged_event_fits_the_schema(undisturbed):
    schema = Draft202012Validator(event_codec().json_schema())
    with LogReader(undisturbed / "events.db") as log:
        rows = list(log.events())
    for row in rows:
        schema.validate(json.loads(row.payload))
    assert len({row.type for row in rows}) == 17


def test_offsets_count_per_source_and_tseq_per_topic(undisturbed):
    for events in logged(undisturbed).values():
        assert [event.offset for event in events] == list(range(len(events)))
        for family in ("track", "source", "scene", "unknown", "forecast"):
            tseqs = [event.tseq for event in events if event.family == family]
            assert tseqs == list(range(1, len(tseqs) + 1))


def test_every_event_names_its_run_its_pipeline_and_the_time(undisturbed):
    events = [event for events in logged(undisturbed).values() for event in events]
    assert {(event.epoch, event.prov.pipeline) for event in events} == {(EPOCH, "abc")}
    assert all(event.time.emit_us > 1_700_000_000_000_000 for event in events)
    assert len({event.id for event in events}) == len(events)


@pytest.mark.parametrize("cut", range(1, STEPS + 1))
def test_a_death_after_any_step_leaves_no_trace_in_the_log(cut, tmp_path, undisturbed):
    run_through(tmp_path, [cut])
    assert contents(tmp_path) == contents(undisturbed)
    assert [e.id for e in logged(tmp_path)["cam1"]] == [e.id for e in logged(undisturbed)["cam1"]]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_many_deaths_leave_no_trace_either(every, tmp_path, undisturbed):
    run_through(tmp_path, range(1, 3 * STEPS, every + 1))
    assert contents(tmp_path) == contents(undisturbed)


def test_without_a_log_the_state_that_rode_along_is_enough():
    a, states = begun(None, {}), {}
    for work in WORKS[:6]:
        for step in work:
            do(a, step)
        states = {source: a.state(source) for source in SOURCES}
    b = begun(None, states)
    for work in WORKS[6:9]:
        for stage, step in itertools.product((a, b), work):
            do(stage, step)
    assert [a.state(source) for source in SOURCES] == [b.state(source) for source in SOURCES]


def test_receipts_say_how_much_was_written(tmp_path):
    with closing(begun(tmp_path, {})) as stage:
        packets = [packet_of("cam1", 0, ids=[1, 2]), packet_of("cam1", 1, ids=None)]
        assert [receipt.written for receipt in stage(packets)] == [2, 0]
        assert [receipt.written for receipt in stage(packets)] == [0, 0]


def test_updates_are_sampled_as_configured(tmp_path):
    with closing(PublishStage(Publish(bind=None, update_every_s=0.25), site_at(tmp_path))) as stage:
        stage.begin(info_of("cam1"), None)
        for seq in range(8):  # 100 ms apart
            stage([packet_of("cam1", seq)])
    frames = [event.frame.n for event in logged(tmp_path)["cam1"] if event.family == "track"]
    assert frames == [0, 3, 6]


def test_shares_and_forecasts_are_sampled_too_and_alarms_are_not(tmp_path):
    with closing(PublishStage(Publish(bind=None, update_every_s=9), site_at(tmp_path))) as stage:
        stage.begin(info_of("street"), None)
        stage([scene_of(seq, unknown=0.9 if seq < 8 else 0) for seq in range(15)])
    told = [(e.type, e.frame.n) for e in logged(tmp_path)["street"][1:]]
    assert told == [
        *(("scene.update", 0), ("forecast.segmentation", 0)),
        *(("unknown.begin", 5), ("unknown.end", 13)),
    ]


def test_what_is_unknown_enough_is_configured(tmp_path):
    alarm = Alarm(p=0.95, min_s=0)
    site = site_at(tmp_path, segment=Segment(unknown=alarm))
    with closing(PublishStage(Publish(bind=None), site)) as stage:
        stage.begin(info_of("street"), None)
        stage([scene_of(0, unknown=0.9), scene_of(1, unknown=1.0)])
    told = [e.frame.n for e in logged(tmp_path)["street"] if e.family == "unknown"]
    assert told == [1]


def test_the_next_run_goes_on_in_the_same_log(tmp_path):
    for epoch in (EPOCH, NEXT_EPOCH):
        with closing(PublishStage(Publish(bind=None), site_at(tmp_path, epoch))) as stage:
            stage.begin(info_of("cam1"), None)
            stage([packet_of("cam1", 0)])
            stage.finish("cam1", "eof")
    events = logged(tmp_path)["cam1"]
    assert [event.offset for event in events] == list(range(8))
    assert [event.epoch for event in events] == [EPOCH] * 4 + [NEXT_EPOCH] * 4
    first, second = ([content(e) for e in part] for part in (events[:4], events[4:]))
    assert [(e.what, e.tseq, e.time) for e in first] == [(e.what, e.tseq, e.time) for e in second]
    with LogReader(tmp_path / "events.db") as log:
        cursor = log.cursors()["cam1"]
    assert (cursor.epoch, cursor.first, cursor.next, cursor.ending) == (NEXT_EPOCH, 4, 8, "eof")


def test_a_state_of_something_else(tmp_path):
    with (
        closing(PublishStage(Publish(bind=None), site_at(tmp_path))) as stage,
        pytest.raises(RunError, match="cam1: the publisher cannot read the state"),
    ):
        stage.begin(info_of("cam1"), b"noise")


def test_a_log_that_cannot_be_evicted_from_leaves_nothing_open(tmp_path, monkeypatch):
    def refuses(log, retention):
        raise RunError("it cannot be opened")

    monkeypatch.setattr(opening, "evictor_of", refuses)
    files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RunError, match="it cannot be opened"):
        PublishStage(Publish(bind=None, keep_days=1), site_at(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == files


def test_what_cannot_be_opened_leaves_nothing_open(tmp_path):
    (tmp_path / "events.db").write_bytes(b"letter" * 1000)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(DataError):
        PublishStage(Publish(bind="tcp://127.0.0.1:*"), site_at(tmp_path))
    with pytest.raises(RunError, match="cannot make the output directory"):
        PublishStage(Publish(bind=None), site_at(tmp_path / "events.db"))
    with closing(begun(None, {}, "tcp://127.0.0.1:*")) as stage, pytest.raises(RunError):
        PublishStage(Publish(bind=stage.endpoint), site_at(tmp_path / "new"))
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files


@pytest.mark.parametrize("bind", [None, "none"])
def test_no_feed(bind):
    with closing(PublishStage(Publish(bind=bind), site_at(None))) as stage:
        assert stage.endpoint is None


@contextmanager
def hearing(endpoint, *topics):
    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    for one in topics:
        sub.subscribe(one)
    sub.connect(endpoint)
    try:
        yield lambda: heard(sub)
    finally:
        sub.close(linger=0)
        context.term()


def heard(sub):
    assert sub.poll(1000 * PATIENCE_S), "nothing came"
    topic, tseq, payload, *_ = sub.recv_multipart()
    return topic.decode(), int.from_bytes(tseq), payload


def published(rows):
    return [
        (topics.of(row.source, row.type.partition(".")[0]), row.tseq, row.payload) for row in rows
    ]


def test_what_is_logged_is_published_as_it_is(tmp_path):
    with closing(begun(tmp_path, {}, "tcp://127.0.0.1:*")) as stage:
        assert read_announcement(tmp_path)[:2] == (stage.endpoint, EPOCH)
        with hearing(stage.endpoint, "sv1/") as hear:
            while hear()[0] != "sv1/_sys/":  # it listens
                pass
            stage([packet_of("cam1", 0, ids=[1, 2])])
            stage.notice(notice_of("cam10", "stalled"))
            got = [hear()]
            while got[-1][:2] != ("sv1/cam10/source/", 2):
                got.append(hear())
        with LogReader(tmp_path / "events.db") as log:
            expected = published(row for row in log.events() if row.offset > 0)
        assert len(expected) == 3
        assert [one for one in got if one in expected] == expected
    assert read_announcement(tmp_path) is None


def test_a_successor_listens_where_its_predecessor_did_and_repeats_what_was_not_answered(tmp_path):
    first = begun(tmp_path, {}, "tcp://127.0.0.1:*")
    endpoint = first.endpoint
    first([packet_of("cam1", 0)])
    state = first.state("cam1")
    unanswered = [packet_of("cam1", 1), packet_of("cam1", 2)]
    first(unanswered)
    first._outbox._feed.close()  # it dies: the note of where it listened stays
    first._outbox._replay.close()
    first._outbox._log.close()
    replay = read_announcement(tmp_path).replay

    with (
        closing(PublishStage(Publish(bind="tcp://127.0.0.1:*"), site_at(tmp_path))) as second,
        hearing(endpoint, "sv1/cam1/track/", "sv1/_sys/") as hear,
    ):
        assert second.endpoint == endpoint
        assert read_announcement(tmp_path).replay == replay
        while hear()[0] != "sv1/_sys/":  # it listens
            pass
        second.begin(info_of("cam1"), state)
        second(unanswered)
        second([packet_of("cam1", 3)])
        got = [hear()]
        while got[-1][:2] != ("sv1/cam1/track/", 4):
            got.append(hear())
    with LogReader(tmp_path / "events.db") as log:
        expected = published(log.events("cam1", types=["track"]))
    assert [one for one in got if one[0] == "sv1/cam1/track/"] == expected[1:]


def test_the_replay_server_of_a_run_knows_what_was_published(tmp_path):
    with closing(begun(tmp_path, {}, "tcp://127.0.0.1:*")) as stage:
        with hearing(stage.endpoint, "sv1/_sys/") as hear:
            endpoint = event_codec().decode(hear()[2]).what.hb.replay
        assert endpoint == read_announcement(tmp_path).replay
        stage([packet_of("cam1", 0, ids=[1, 2])])
        with zmq.Context() as context, context.socket(zmq.REQ) as client:
            client.connect(endpoint)
            client.send(b'{"get":"snapshot"}')
            assert client.poll(1000 * PATIENCE_S), "no reply"
            sources = msgspec.json.decode(client.recv())["sources"]
        assert {name: one["offset"] for name, one in sources.items()} == {
            "cam1": 2,
            "cam10": 0,
            "street": 0,
        }
        types = [event["type"] for event in sources["cam1"]["events"]]
        assert types == ["source.online", "track.begin", "track.begin"]


@pytest.mark.parametrize("settings", [{"replay": False}, {}])
def test_without_a_log_or_when_not_wanted_there_is_no_replay(settings, tmp_path):
    site = site_at(tmp_path if settings else None)
    config = Publish(bind="tcp://127.0.0.1:*", **settings)
    with (
        closing(PublishStage(config, site)) as stage,
        hearing(stage.endpoint, "sv1/_sys/") as hear,
    ):
        assert "replay" not in msgspec.json.decode(hear()[2])["hb"]


def test_frames_are_published_while_somebody_subscribes_to_them(tmp_path):
    stage = begun(tmp_path, {}, "tcp://127.0.0.1:*")
    seq = itertools.count()

    def wanted():
        return stage._outbox.wants_frames("cam1")

    def until(state):
        deadline = time.monotonic() + PATIENCE_S
        while wanted() is not state:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with closing(stage), hearing(stage.endpoint, "sv1/") as everything:
        everything()
        stage([packet_of("cam1", next(seq), ids=[1])])
        assert not wanted()  # the prefix alone asks for none
        with hearing(stage.endpoint, "sv1/cam1/frame/") as frames:
            until(True)
            assert not stage._outbox.wants_frames("cam10")
            stage([packet_of("cam1", next(seq), ids=[1, 2]), packet_of("cam1", next(seq), ids=[])])
            got = [frames(), frames()]
        until(False)
        stage([packet_of("cam1", next(seq), ids=[1])])
    events = [event_codec().decode(payload) for _, _, payload in got]
    assert [(event.tseq, event.offset, event.frame.seq) for event in events] == [
        *((1, -1, 1), (2, -1, 2)),
    ]
    ids = [[track.id for track in event.what.tracks] for event in events]
    assert ids == [["cam1:1:1", "cam1:1:2"], []]
    assert "frame" not in {event.family for event in logged(tmp_path)["cam1"]}


def test_masks_are_on_the_live_feed_and_nowhere_else(tmp_path):
    config = Publish(bind="tcp://127.0.0.1:*", attach=("masks",))
    heard_of: list[Event] = []
    with closing(PublishStage(config, site_at(tmp_path))) as stage:
        stage.begin(info_of("street"), None)
        events = iter(Subscription(stage.endpoint, event_codec(), "street", timeout_s=20))
        with closing(events), hearing(stage.endpoint, "sv1/street/", "sv1/_sys/") as hear:
            inbox = threading.Thread(target=lambda: heard_of.extend(itertools.islice(events, 2)))
            while hear()[0] != "sv1/_sys/":  # it listens, and takes no notice of what is attached
                pass
            inbox.start()
            seq = itertools.count()
            while inbox.is_alive():
                stage([scene_of(next(seq), unknown=0)])
                inbox.join(0.05)
            topics = {hear()[0] for _ in range(4)}
        first = logged(tmp_path)["street"]
    assert topics >= {"sv1/street/scene/", "sv1/street/forecast/"}
    by_type = {event.type: event for event in heard_of if event.family in ("scene", "forecast")}
    np.testing.assert_array_equal(mask_of(by_type["scene.update"]), CLASSES)
    np.testing.assert_array_equal(mask_of(by_type["forecast.segmentation"]), CLASSES[::-1])
    told = {event.id: event for event in first}
    for event in by_type.values():
        assert told[event.id] == msgspec.structs.replace(event, attachments=())


def test_without_a_feed_no_masks_are_made(tmp_path):
    with closing(PublishStage(Publish(bind=None, attach=("masks",)), site_at(tmp_path))) as stage:
        stage.begin(info_of("street"), None)
        stage([scene_of(0)])
    assert logged(tmp_path)["street"][1].what.scene.mask is None


@pytest.mark.parametrize("finished", [True, False])
def test_subscribers_are_told_of_the_end_of_a_run_and_not_of_a_worker_that_failed(finished):
    stage = PublishStage(Publish(bind="tcp://127.0.0.1:*"), site_at(None))
    stage.begin(info_of("cam1"), None)
    subscription = Subscription(
        stage.endpoint, event_codec(), family="hb", timeout_s=2, until_ended=True
    )
    events = iter(subscription)
    next(events)  # it listens
    if finished:
        stage.finish("cam1", "eof")
    stage.close()
    assert all(event.type == "hb" for event in events)
    assert subscription.inbox.ended == finished


def test_old_hours_of_the_log_are_evicted_while_events_are_published(tmp_path, monkeypatch):
    monkeypatch.setattr(retention, "LOOK_S", 0.05)
    hour_ago = time.time() - 7200
    with closing(LogWriter(tmp_path / "events.db", now=lambda: hour_ago)) as log:
        log.commit([Row("old", 0, 1, "track.update", 0, b"{}")], [Cursor("old", "", 0, 1, "", b"")])
    config = Publish(bind=None, keep_days=0.5 / 24)
    with closing(PublishStage(config, site_at(tmp_path))) as stage:
        stage.begin(info_of("cam1"), None)
        stage([packet_of("cam1", 0)])
        deadline = time.monotonic() + PATIENCE_S
        with LogReader(tmp_path / "events.db") as log:
            while log.oldest("old") == 0 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert log.oldest("old") == 1
    assert [event.type for event in logged(tmp_path)["cam1"]] == ["source.online", "track.begin"]
