"""The publisher of live sources: absent, lost, connected again, removed and added again."""

from contextlib import closing

import msgspec
import pytest
from factories import source
from published import contents, do, info_of, logged, notice_of, packet_of, site_at

from streamvis.config import Publish
from streamvis.events.log import LogReader
from streamvis.messages import Notice, SourceInfo
from streamvis.stages.protocol import LogPosition
from streamvis.stages.publish.stage import PublishStage

UNOPENED = source("cam1", label="rtsp://cam1", width=0, height=0, fps=0, live=True)
CAMERA = source("cam1", label="rtsp://cam1", fps=25, live=True)


def publisher(out):
    return PublishStage(Publish(bind=None, update_every_s=0), site_at(out))


def opened_as(info):
    return Notice(source="cam1", kind="online", media_us=0, info=info)


def types_of(out, first=0):
    return [event.type for event in logged(out)["cam1"][first:]]


def test_an_absent_source_has_events_until_it_fails(tmp_path):
    with closing(publisher(tmp_path)) as stage:
        stage.begin(UNOPENED, None)
        stage.notice(notice_of("cam1", "connecting"))
        stage.notice(notice_of("cam1", "offline", "refused"))
        stage.finish("cam1", "failed")
    assert types_of(tmp_path) == ["source.connecting", "source.offline"]


def test_thousands_of_attempts_are_each_published_once_though_the_publisher_restarts(tmp_path):
    outage = [
        notice_of("cam1", kind, f"attempt {n}")
        for n in range(700)
        for kind in ("connecting", "offline")
    ]
    stage = publisher(tmp_path)
    stage.begin(UNOPENED, None)
    for notice in outage[:1000]:
        stage.notice(notice)
    answered = stage.state("cam1")
    for notice in outage[1000:1300]:
        stage.notice(notice)
    stage.close()  # it dies: what it did since its last answer comes again
    with closing(publisher(tmp_path)) as stage:
        stage.begin(UNOPENED, answered)
        for notice in outage[1000:]:
            stage.notice(notice)
    assert [event.what.stream.reason for event in logged(tmp_path)["cam1"]] == [
        notice.reason for notice in outage
    ]


def live_frames(epoch, seqs):
    return [packet_of("cam1", seq, epoch) for seq in seqs]


LIVES = [  # of a source that is removed and added again; SourceInfo: it begins
    UNOPENED,
    notice_of("cam1", "connecting"),
    opened_as(CAMERA),
    live_frames(1, range(3)),
    notice_of("cam1", "offline", "removed"),
    ("cam1", "drained"),
    msgspec.structs.replace(UNOPENED, epoch=2),
    notice_of("cam1", "connecting"),
    opened_as(msgspec.structs.replace(CAMERA, epoch=2)),
    live_frames(2, range(3, 6)),
    ("cam1", "drained"),
]


def live_through(out, cut=None):
    """Do all steps, each answered; die after step `cut`, before its answer."""
    stage, state, info = publisher(out), None, None
    for at, step in enumerate(LIVES):
        take(stage, step)
        if at == cut:
            stage.close()
            stage = publisher(out)
            if not isinstance(step, SourceInfo):
                stage.begin(info, state)
            take(stage, step)
        info = step if isinstance(step, SourceInfo) else getattr(step, "info", None) or info
        state = None if step == ("cam1", "drained") else stage.state("cam1")
    stage.close()


def take(stage, step):
    if isinstance(step, SourceInfo):
        stage.begin(step, None)
    else:
        do(stage, step)


def test_a_source_that_is_added_again_goes_on_in_another_stream_epoch(tmp_path):
    live_through(tmp_path)
    events = logged(tmp_path)["cam1"]
    first = ["source.connecting", "source.online", "track.begin", *["track.update"] * 2]
    assert [event.type for event in events] == [
        *first,
        *("source.offline", "track.end", "source.connecting", "source.online", "source.epoch"),
        *("track.begin", "track.update", "track.update", "track.end"),
    ]
    assert [event.offset for event in events] == list(range(len(events)))
    for family in ("source", "track"):
        tseqs = [event.tseq for event in events if event.family == family]
        assert tseqs == list(range(1, len(tseqs) + 1))
    assert events[9].what.stream.stream_epoch == 2
    assert events[10].what.track.id == "cam1:2:1"


@pytest.mark.parametrize("cut", range(len(LIVES)))
def test_a_death_leaves_no_trace_in_the_log_of_a_source_that_is_added_again(cut, tmp_path):
    live_through(tmp_path / "whole")
    live_through(tmp_path / "cut", cut)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_resumed_live_source_ends_what_was_open_and_waits_for_its_camera(tmp_path):
    with closing(publisher(tmp_path)) as stage:
        stage.begin(UNOPENED, None)
        stage.notice(opened_as(CAMERA))
        stage(live_frames(1, range(2)))
    with LogReader(tmp_path / "events.db") as log:
        end = log.cursors()["cam1"].next
    site = msgspec.structs.replace(site_at(tmp_path), logged={"cam1": LogPosition(end, 1, 1)})
    with closing(PublishStage(Publish(bind=None), site)) as stage:
        again = msgspec.structs.replace(UNOPENED, epoch=2)
        stage.begin(again, None)
        stage.notice(notice_of("cam1", "connecting"))
        stage.notice(opened_as(msgspec.structs.replace(CAMERA, epoch=2)))
        stage(live_frames(2, [2]))
    assert types_of(tmp_path, end) == [
        *("track.end", "source.epoch", "source.connecting", "source.online", "track.begin"),
    ]


def test_a_frame_that_is_given_up_after_its_events_were_logged_hides_no_later_notice(tmp_path):
    stage = publisher(tmp_path)
    stage.begin(info_of("cam1"), None)
    stage([packet_of("cam1", 0)])
    answered = stage.state("cam1")
    stage([packet_of("cam1", 1)])
    stage.close()
    poison = Notice(
        source="cam1", kind="gap", media_us=0, first_n=1, last_n=1, reason="poison", count=1
    )
    for _ in range(2):
        stage = publisher(tmp_path)
        stage.begin(info_of("cam1"), answered)
        stage.notice(poison)
        stage.notice(notice_of("cam1", "offline"))
        stage.close()
    assert types_of(tmp_path, 2) == ["track.update", "source.gap", "source.offline"]


@pytest.mark.parametrize(
    ("live", "setting", "updated"),
    [(False, None, 29), (True, None, 2), (True, 0, 29), (True, 0.5, 5), (False, 0.5, 5)],
)
def test_updates_are_sampled_once_a_second_where_the_source_is_live(
    live, setting, updated, tmp_path
):
    stage = PublishStage(Publish(bind=None, update_every_s=setting), site_at(tmp_path))
    with closing(stage):
        stage.begin(msgspec.structs.replace(CAMERA, live=live), None)
        stage(live_frames(1, range(30)))  # 100 ms apart
    assert types_of(tmp_path) == ["source.online", "track.begin", *["track.update"] * updated]


def test_a_clip_is_wanted_of_each_event_of_the_types_that_are_configured(tmp_path):
    camera = msgspec.structs.replace(CAMERA, clips_on=("track.begin", "source.offline"))
    with closing(publisher(tmp_path)) as stage:
        stage.begin(UNOPENED, None)
        stage.notice(opened_as(camera))
        first, second = stage(live_frames(1, range(2)))
        stage.notice(notice_of("cam1", "offline"))
        answered = stage.state("cam1")
        third, fourth = stage([packet_of("cam1", 2, ids=[1, 2]), packet_of("cam1", 3)])
    with closing(publisher(tmp_path)) as stage:
        stage.begin(camera, answered)
        again, _ = stage([packet_of("cam1", 2, ids=[1, 2]), packet_of("cam1", 3)])
    events = {event.id: event for event in logged(tmp_path)["cam1"]}
    wanted = [clip for receipt in (first, third) for clip in receipt.clips]
    assert [events[clip.event].type for clip in wanted] == [
        *("track.begin", "source.offline", "track.begin"),
    ]
    for clip in wanted:
        event = events[clip.event]
        assert (clip.kind, clip.media_us) == (event.type, event.time.media_us)
    assert second.clips == fourth.clips == []
    assert again.clips == third.clips[1:]  # the first of them was asked for before
