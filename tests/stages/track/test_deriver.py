import msgspec
import numpy as np
import pytest
from factories import frame, source, tracks
from source_events import (
    end_source,
    frame_events,
    inner,
    notice_events,
    start_source,
    successor,
)

from streamvis.calibration import ground_plane
from streamvis.config import Jipda
from streamvis.errors import DataError
from streamvis.events.envelope import FrameRef, Time, type_of
from streamvis.events.source_events import (
    Finish,
    SourceEof,
)
from streamvis.geometry import to_ground
from streamvis.messages import Detections, Notice
from streamvis.stages.publish.derive import TimedDraft
from streamvis.stages.track.events import (
    Association,
    EndedTrack,
    Merge,
    Split,
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
)
from streamvis.tracking.tracker import Tracker

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


def test_a_track_begins_is_updated_and_ends():
    state = started()
    assert told(frame_events(state, frame_at(3), tracks_with([7]))) == [("track.begin", "cam1:1:7")]
    assert told(frame_events(state, frame_at(4), tracks_with([7, 9]))) == [
        ("track.update", "cam1:1:7"),
        ("track.begin", "cam1:1:9"),
    ]
    assert frame_events(state, frame_at(5), tracks_with([9], ended=[7]))[0] == TimedDraft(
        TrackEnd(
            EndedTrack(
                id="cam1:1:7",
                reason="lost",
                box_px=(10.12, 20.0, 30.5, 80.0),
                first_seen_us=0,
                last_seen_us=400_000,
                age_s=0.4,
            )
        ),
        Time(media_us=500_000, clock="file"),
        FrameRef(n=10, seq=5, w=640, h=480, stream_epoch=1),
    )


def test_what_is_told_of_a_track():
    frame = msgspec.structs.replace(frame_at(3), capture_us=17, clock="arrival")
    ground = np.array([[3.2004, 7.9]], np.float32)
    tracks = tracks_with(
        [7],
        ground=ground,
        space="ground",
        detection=np.array([-1], np.int32),
        ground_velocity=np.array([[0.3, -0.4]], np.float32),
        ground_covariance=np.array([[[0.04, 0.01], [0.01, 0.09]]], np.float32),
    )
    [draft] = frame_events(started(), frame, tracks)
    assert draft.time == Time(media_us=300_000, capture_us=17, clock="arrival")
    assert draft.what == TrackBegin(
        Track(
            id="cam1:1:7",
            box_px=(10.12, 20.0, 30.5, 80.0),
            box_from="predict",
            score=0.9,
            vel_px_s=(1.5, 1.5),
            cov_diag=(0.25, 0.25, 0.25, 0.25),
            p_exist=0.97,
            assoc=Association(entropy=0.1, gated=2),
            first_seen_us=0,
            age_s=0.3,
            ground_m=(3.2, 7.9),
            ground_cov_m2=((0.04, 0.01), (0.01, 0.09)),
            vel_m_s=(0.3, -0.4),
            speed_m_s=0.5,
            space="ground",
        )
    )


def test_without_a_ground_plane_and_with_a_detection():
    [draft] = frame_events(started(), frame_at(0), tracks_with([7]))
    assert (draft.what.track.ground_m, draft.what.track.box_from) == (None, "update")


def test_in_the_image_nothing_is_told_in_metres_not_even_zero():
    track = told_of(tracks_with([7]))
    metric = (track.ground_m, track.ground_cov_m2, track.vel_m_s, track.speed_m_s)
    assert metric == (None,) * 4
    assert track.space == "image"


def test_a_track_without_a_place_on_the_ground_has_no_speed_there():
    unplaced = {
        "ground": np.full((1, 2), np.nan, np.float32),
        "ground_velocity": np.ones((1, 2), np.float32),
        "ground_covariance": np.ones((1, 2, 2), np.float32),
    }
    track = told_of(tracks_with([7], space="ground", **unplaced))
    assert (track.ground_m, track.ground_cov_m2, track.vel_m_s, track.speed_m_s) == (None,) * 4


def test_what_is_told_in_metres_is_the_filters_state(ground_tracker):
    tracker, tracks = ground_tracker
    track = told_of(tracks)
    x, P = tracker.tracks.x[0], tracker.tracks.P[0]
    np.testing.assert_allclose(track.ground_m, x[:2], atol=1e-3)
    np.testing.assert_allclose(track.vel_m_s, x[2:4], atol=1e-3)
    assert track.speed_m_s == pytest.approx(np.hypot(*x[2:4]), abs=1e-3)
    of_plane = 0.1**2 * np.eye(2)  # the error of the homography, which the filter leaves out
    np.testing.assert_allclose(track.ground_cov_m2, P[:2, :2] + of_plane, atol=1e-5)
    assert abs(track.ground_cov_m2[0][1]) > 1e-4  # seen from aside: the ellipse is not upright
    assert track.speed_m_s == pytest.approx(1.25, abs=0.15)  # as the person really walks


@pytest.fixture
def ground_tracker():
    """One person who walks 1.25 m/s across a square seen from aside, 20 frames of it."""
    H = ground_plane.from_view(4, 20, 600, (640, 480))
    tracker = Tracker(msgspec.structs.replace(INFO, ground_plane=tuple(H.ravel())), Jipda())
    for i in range(20):
        place = np.array([[-5 + 0.1 * i, 8 + 0.075 * i]])
        ((u, v),), _ = to_ground(np.linalg.inv(H), place)
        box = np.array([[u - 15, v - 90, u + 15, v]], np.float32)
        found = Detections(
            boxes=box,
            scores=np.ones(1, np.float32),
            labels=np.ones(1, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8),
        )
        tracks = tracker.update(found, i * 100_000)
    return tracker, tracks


def told_of(tracks):
    [draft] = frame_events(started(), frame_at(3), tracks)
    return draft.what.track


def test_a_frame_that_the_tracker_skipped_says_nothing_and_ends_nothing():
    state = started()
    frame_events(state, frame_at(0), tracks_with([7]))
    assert frame_events(state, frame_at(1), None) == []
    assert told(frame_events(state, frame_at(2), tracks_with([7]))) == [
        ("track.update", "cam1:1:7")
    ]
    assert end_source(state, "eof")[-1].what == SourceEof(Finish(3))


def test_an_end_of_a_track_that_was_never_reported_is_not_told():
    assert frame_events(started(), frame_at(0), tracks_with([], ended=[5])) == []


def test_updates_are_sampled_on_media_time_begin_and_end_never():
    state = started()
    types = [
        told(frame_events(state, frame_at(seq), tracks_with([7]), every_us=250_000))
        for seq in range(8)  # 100 ms apart
    ]
    update = [("track.update", "cam1:1:7")]
    begin = [("track.begin", "cam1:1:7")]
    assert types == [begin, [], [], update, [], [], update, []]
    ended = frame_events(state, frame_at(8), tracks_with([], ended=[7]), every_us=250_000)
    assert ended[0].what.track.last_seen_us == 700_000


def test_boxes_that_are_not_finite_are_named_and_other_numbers_stay_in_json():
    boxes = np.array([[0, 0, np.nan, 1]], np.float32)
    with pytest.raises(DataError, match="cam1: frame 4 has a track whose box is not finite"):
        frame_events(started(), frame_at(2), tracks_with([1], boxes=boxes))
    wide = tracks_with([1], covariance=np.full((1, 4), np.inf, np.float32))
    [draft] = frame_events(started(), frame_at(2), wide)
    assert np.isfinite(draft.what.track.cov_diag).all()


def correcting(ids, ended=(), merged=(), split=()):
    """Tracks that correct what was told before."""
    return tracks_with(
        ids,
        ended,
        merged=np.array(merged, np.int64).reshape(-1, 2),
        split=np.array(split, np.int64).reshape(-1, 3),
    )


def name(number):
    return f"cam1:1:{number}"


def merge(gone, kept):
    return TrackMerge(Merge(gone=name(gone), kept=name(kept)))


def split(*rows):
    return TrackSplit(
        tuple(Split(id=name(i), other=name(other), since_us=us) for i, other, us in rows)
    )


def corrections(drafts):
    return [d.what for d in drafts if isinstance(d.what, TrackMerge | TrackSplit)]


def test_who_was_known_again_begins_again_and_the_other_id_ends_into_it():
    state = started()
    frame_events(state, frame_at(0), tracks_with([7]))
    frame_events(state, frame_at(1), tracks_with([], ended=[7]))
    frame_events(state, frame_at(2), tracks_with([9]))
    drafts = frame_events(state, frame_at(3), correcting([7], ended=[9], merged=[(9, 7)]))
    assert [type_of(d.what) for d in drafts] == ["track.merge", "track.end", "track.begin"]
    assert drafts[0].what == merge(9, 7)
    assert (drafts[1].what.track.id, drafts[1].what.track.into) == (name(9), name(7))
    assert {(d.time.media_us, d.frame.n) for d in drafts} == {(300_000, 6)}


def test_who_was_open_all_the_time_goes_on():
    state = started()
    frame_events(state, frame_at(0), tracks_with([7, 9]))
    drafts = frame_events(state, frame_at(1), correcting([7], ended=[9], merged=[(9, 7)]))
    assert [type_of(d.what) for d in drafts] == ["track.merge", "track.end", "track.update"]


def test_a_merge_ends_who_is_gone_whatever_else_is_said():
    state = started()
    frame_events(state, frame_at(0), tracks_with([7, 9]))
    drafts = frame_events(state, frame_at(1), correcting([7, 9], merged=[(9, 7)]))
    assert told(drafts[1:]) == [
        ("track.end", name(9)),
        ("track.update", name(7)),
        ("track.begin", name(9)),
    ]


def test_a_swap_is_one_event_and_ends_nobody():
    state = started()
    frame_events(state, frame_at(0), tracks_with([7, 9]))
    swap = [(7, 9, 0), (9, 7, 0)]
    drafts = frame_events(state, frame_at(1), correcting([7, 9], split=swap))
    assert drafts[0].what == split(*swap)
    assert told(drafts[1:]) == [("track.update", name(7)), ("track.update", name(9))]


def test_a_split_may_begin_somebody():
    state = started()
    frame_events(state, frame_at(0), tracks_with([7]))
    drafts = frame_events(state, frame_at(1), correcting([8], split=[(7, 8, 0)]))
    assert [type_of(d.what) for d in drafts] == ["track.split", "track.begin"]
    assert list(inner(state, "jipda").tracks) == [7, 8]


@pytest.mark.parametrize(
    ("said", "passed_on"),
    [
        ({"merged": [(9, 7), (9, 7), (9, 8)]}, [merge(9, 7)]),
        ({"merged": [(9, 9)]}, []),
        ({"merged": [(9, 7), (7, 9)]}, [merge(9, 7)]),
        ({"merged": [(9, 8), (8, 7)]}, [merge(9, 8), merge(8, 7)]),
        ({"merged": [(8, 7), (9, 8)]}, [merge(8, 7), merge(9, 7)]),
        ({"merged": [(20, 7)]}, []),
        ({"merged": [(9, 20)]}, []),
        ({"merged": [(10, 7)]}, []),  # who comes with this frame was never told of as anybody
        ({"merged": [(9, 10)]}, [merge(9, 10)]),
        ({"merged": [(6, 7)]}, [merge(6, 7)]),  # ended before
        ({"split": [(9, 7, 5), (9, 7, 5), (9, 8, 3)]}, [split((9, 7, 5))]),
        ({"split": [(9, 9, 5)]}, []),
        ({"split": [(20, 7, 5), (10, 7, 5), (9, 20, 5)]}, []),
        ({"split": [(9, 7, 300_000)]}, []),  # from now on
        ({"merged": [(9, 7)], "split": [(7, 10, 5)]}, [split((7, 10, 5)), merge(9, 7)]),
    ],
    ids=str,
)
def test_corrections_that_say_things_twice_or_of_nobody(said, passed_on):
    state = started()
    frame_events(state, frame_at(0), tracks_with([6]))
    frame_events(state, frame_at(1), tracks_with([7, 8, 9], ended=[6]))
    drafts = frame_events(state, frame_at(3), correcting([7, 10], **said))
    assert corrections(drafts) == passed_on


def test_corrections_are_not_sampled_and_an_old_epoch_is_not_corrected():
    state = started()
    frame_events(state, frame_at(0), tracks_with([7, 9]), every_us=10_000_000)
    swap = correcting([7, 9], split=[(7, 9, 0), (9, 7, 0)])
    drafts = frame_events(state, frame_at(1), swap, every_us=10_000_000)
    assert told(drafts) == [("track.split", None)]
    drafts = frame_events(state, frame_at(2, epoch=2), swap)
    assert corrections(drafts) == []


def test_who_comes_back_begins_again_with_what_was_known():
    state = started()
    frame_events(state, frame_at(3), tracks_with([7], first_seen_us=np.array([250_000])))
    frame_events(state, frame_at(4), tracks_with([], ended=[7]))
    back = tracks_with([7], first_seen_us=np.array([250_000]))
    [draft] = frame_events(state, frame_at(90), back)
    assert (type_of(draft.what), draft.what.track.first_seen_us) == ("track.begin", 250_000)
    assert draft.what.track.age_s == 8.75
    [end, _] = end_source(state, "eof")
    assert (end.what.track.first_seen_us, end.what.track.age_s) == (250_000, 8.75)


def test_state_survives_its_bytes():
    a = started()
    frame_events(a, frame_at(0), tracks_with([1, 2]))
    frame_events(a, frame_at(0), correcting([2], merged=[(1, 2)]))
    b = successor(a)
    assert a.states() == b.states()
    for state in (a, b):
        notice_events(state, Notice(source="cam1", kind="epoch", media_us=0, reason="r"))
    steps = [(frame_at(1, 2), tracks_with([1])), (frame_at(2, 2), tracks_with([4], ended=[1]))]
    steps.append((frame_at(3, 2), correcting([1], ended=[4], merged=[(4, 1)])))
    for step in steps:
        assert frame_events(a, *step, 150_000) == frame_events(b, *step, 150_000)
