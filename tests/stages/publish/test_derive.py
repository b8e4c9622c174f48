import pytest
from factories import frame, source, tracks
from source_events import (
    end_source,
    frame_events,
    notice_events,
    start_source,
)

from streamvis.events.envelope import Time, type_of
from streamvis.events.source_events import (
    Change,
    Gap,
    Restart,
    SourceConnecting,
    SourceEpoch,
    SourceGap,
    SourceOffline,
    SourceOnline,
    Stream,
)
from streamvis.messages import Notice
from streamvis.stages.publish.derive import TimedDraft

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
