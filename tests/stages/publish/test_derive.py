import msgspec
import pytest
from factories import frame, source, tracks
from source_events import (
    KINDS,
    end_source,
    frame_events,
    notice_events,
    start_source,
)

from streamvis.events.deriver import PublishPolicy
from streamvis.events.envelope import Time, type_of
from streamvis.events.source_events import (
    Change,
    Clip,
    Gap,
    Restart,
    SourceClip,
    SourceConnecting,
    SourceEpoch,
    SourceGap,
    SourceOffline,
    SourceOnline,
    Stream,
)
from streamvis.messages import Notice, Packet
from streamvis.stages.publish.derive import SourceEvents, SourceStatus, TimedDraft

INFO = source("cam1", label="walk.mp4")


def frame_at(seq, epoch=1):
    return frame(seq, "cam1", n=2 * seq, epoch=epoch)


def tracks_with(ids, ended=(), **changes):
    given = {
        "boxes": (10.123, 20, 30.5, 80),
        "scores": 0.9,
        "existence": 0.97,
        "velocity": 1.5,
        "covariance": 0.25,
    }
    given |= {"entropy": 0.1, "gated": 2, "ended": ended}
    return tracks(ids, **{**given, **changes})


def told(drafts):
    """(type, track or none) of each draft."""
    return [
        (type_of(d.what), d.what.track.id if hasattr(d.what, "track") else None) for d in drafts
    ]


def started():
    return start_source(INFO)[0]


def test_a_source_starts_online():
    state, drafts = start_source(INFO)
    online = SourceOnline(Stream(label="walk.mp4", w=640, h=480, fps=10.0, live=False))
    assert drafts == [TimedDraft(online, Time(media_us=0))]
    assert state.status.epoch == 1


def test_notices_in_order_and_no_status_twice():
    state = started()
    kinds = ["online", "stalled", "stalled", "offline", "connecting", "online", "online"]
    drafts = [
        draft
        for kind in kinds
        for draft in notice_events(state, Notice(source="cam1", kind=kind, media_us=5))
    ]
    assert [type_of(draft.what) for draft in drafts] == [
        "source.stalled",
        "source.offline",
        "source.connecting",
        "source.online",
    ]
    assert {draft.time for draft in drafts} == {Time(media_us=5)}


UNOPENED = source("cam1", label="rtsp://cam1", width=0, height=0, fps=0, live=True)
CAMERA = source("cam1", label="rtsp://cam1", width=640, height=480, fps=25, live=True)


def online(info):
    return Notice(source="cam1", kind="online", media_us=0, info=info)


def stream_of(draft):
    return (draft.what.stream.w, draft.what.stream.h, draft.what.stream.fps)


def test_other_zones_are_no_event_of_the_source():
    events = started()
    assert notice_events(events, Notice(source="cam1", kind="zones", media_us=40_000)) == []


def test_a_source_that_was_never_open_begins_with_its_first_notice():
    state, drafts = start_source(UNOPENED)
    assert drafts == []
    for kind in ("connecting", "offline", "connecting"):
        [draft] = notice_events(state, Notice(source="cam1", kind=kind, media_us=0, reason="why"))
        assert draft.what.stream == Change("why")
        assert type_of(draft.what) == f"source.{kind}"
    [draft] = notice_events(state, online(CAMERA))
    assert stream_of(draft) == (640, 480, 25)


def test_another_size_or_rate_is_published_though_the_source_is_online():
    state, _ = start_source(CAMERA)
    assert notice_events(state, online(CAMERA)) == []
    larger = msgspec.structs.replace(CAMERA, width=1280, epoch=2)
    [draft] = notice_events(state, online(larger))
    assert stream_of(draft) == (1280, 480, 25)
    assert notice_events(state, online(larger)) == []
    slower = msgspec.structs.replace(larger, fps=12)
    assert [stream_of(draft) for draft in notice_events(state, online(slower))] == [(1280, 480, 12)]


def test_attempts_before_the_first_frame_give_no_event_of_a_stream_epoch():
    state, _ = start_source(UNOPENED)
    notice_events(state, online(msgspec.structs.replace(CAMERA, epoch=4)))
    assert frame_events(state, frame_at(0, epoch=4)) == []
    notice_events(state, Notice(source="cam1", kind="offline", media_us=0))
    notice_events(state, online(msgspec.structs.replace(CAMERA, epoch=5)))
    [draft] = frame_events(state, frame_at(1, epoch=5))
    assert draft.what == SourceEpoch(Restart(5))


def test_an_online_source_of_another_size_goes_on_with_its_open_tracks():
    state, _ = start_source(CAMERA)
    frame_events(state, frame_at(0), tracks_with([1]))
    notice_events(state, online(msgspec.structs.replace(CAMERA, width=1280)))
    assert told(frame_events(state, frame_at(1), tracks_with([1, 2]))) == [
        ("track.update", "cam1:1:1"),
        ("track.begin", "cam1:1:2"),
    ]


def test_a_clip_does_not_change_the_state_of_a_source():
    state = started()
    clip = Notice(source="cam1", kind="clip", media_us=5, path="clips/a.mp4", event="id-1")
    assert notice_events(state, clip) == [
        TimedDraft(SourceClip(Clip(path="clips/a.mp4", event="id-1")), Time(media_us=5))
    ]
    assert notice_events(state, Notice(source="cam1", kind="online", media_us=5)) == []


def test_events_say_that_their_picture_is_suspect():
    state = started()
    damaged = msgspec.structs.replace(frame_at(0), suspect=True)
    [draft] = frame_events(state, damaged, tracks_with([1]))
    assert draft.frame.suspect


def test_updates_of_a_live_source_have_a_policy_of_their_own():
    for info, updates in ((INFO, 7), (CAMERA, 1)):
        status = SourceStatus(UNOPENED if info.live else info)
        events = SourceEvents(status, KINDS, PublishPolicy(), live=PublishPolicy(every_us=500_000))
        events.start()
        events.notice(online(info))
        drafts = [d for seq in range(8) for d in frame_events_of(events, seq)]
        assert [type_of(d.what) for d in drafts].count("track.update") == updates


def frame_events_of(events, seq):
    return events.frame(Packet(frame=frame_at(seq), parts=[tracks_with([1])]))


def test_reasons_are_passed_on():
    state = started()
    for kind, what in [
        ("offline", SourceOffline(Change("why"))),
        ("connecting", SourceConnecting(Change("why"))),
        ("gap", SourceGap(Gap(first=3, last=4, reason="why", count=2))),
    ]:
        notice = Notice(
            source="cam1", kind=kind, media_us=5, reason="why", first_n=3, last_n=4, count=2
        )
        assert notice_events(state, notice) == [TimedDraft(what, Time(media_us=5))]


@pytest.mark.parametrize("noticed", [True, False])
def test_a_new_stream_epoch_ends_the_tracks_of_the_old_one(noticed):
    state = started()
    frame_events(state, frame_at(0), tracks_with([2, 1]))
    if noticed:
        notice = Notice(source="cam1", kind="epoch", media_us=0, reason="reconnected")
        assert notice_events(state, notice) == []
    drafts = frame_events(state, frame_at(1, epoch=2), tracks_with([1]))
    assert told(drafts) == [
        ("track.end", "cam1:1:1"),
        ("track.end", "cam1:1:2"),
        ("source.epoch", None),
        ("track.begin", "cam1:2:1"),
    ]
    assert {draft.what.track.reason for draft in drafts[:2]} == {"epoch"}
    assert drafts[2].what == SourceEpoch(Restart(2, "reconnected" if noticed else ""))


@pytest.mark.parametrize(
    ("ending", "last"), [("eof", "source.eof"), ("drained", "track.end"), ("failed", "track.end")]
)
def test_open_tracks_end_with_the_source(ending, last):
    state = started()
    frame_events(state, frame_at(0), tracks_with([2, 1]))
    drafts = end_source(state, ending)
    assert [d.what.track.id for d in drafts[:2]] == ["cam1:1:1", "cam1:1:2"]
    assert {draft.what.track.reason for draft in drafts[:2]} == {ending}
    assert type_of(drafts[-1].what) == last
