"""The tracker as a whole: simulated walkers, frame rates, resuming, hostile input."""

import tracemalloc

import numpy as np
import pytest
from factories import detections
from factories import source as source_of
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.config import Jipda
from streamvis.errors import ConfigError, DataError
from streamvis.geometry import covered, iou
from streamvis.messages import Detections, Embeddings, encode_part
from streamvis.tracking.tracker import Tracker

HOMOGRAPHY = (4.0, 0.0, -1280.0, 0.0, 0.0, 1600.0, 0.0, 1.0, -100.0)  # horizon at y = 100
SPACES = ["image", "ground"]


def source(**changes):
    return source_of("s", **{"ground_plane": HOMOGRAPHY, **changes})


def person(x, y, height=90.0):
    """The box of someone whose foot is at (x, y)."""
    return [x - height / 6, y - height, x + height / 6, y]


def tracker(space="image", **changes):
    return Tracker(source(), Jipda(space=space, **changes))


def walk(follow, paths, seconds, fps=10.0, noise=0.0, seed=0):
    """Run a tracker over people whose foot at time t is path(t); None: nobody is detected."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(round(seconds * fps)):
        t = k / fps
        feet = [path(t) for path in paths]
        boxes = np.array([person(*foot) for foot in feet if foot is not None]).reshape(-1, 4)
        boxes += rng.normal(0, noise, boxes.shape)
        out.append((t, follow.update(detections(boxes), round(t * 1e6))))
    return out


def owner(tracks, box):
    """The id of the track that overlaps a box best, None when none does."""
    overlap = iou(tracks.boxes, np.array([box]))[:, 0]
    return int(tracks.ids[overlap.argmax()]) if overlap.max(initial=0) > 0.5 else None


@pytest.mark.parametrize("space", SPACES)
def test_a_walker_is_followed_to_the_end(space):
    def path(t):
        return (100 + 40 * t, 300)

    out = walk(tracker(space), [path], 10, noise=1.0)
    confirmed = [(t, tracks) for t, tracks in out if t > 0.5]
    assert {tuple(tracks.ids) for _, tracks in confirmed} == {(1,)}
    t, last = out[-1]
    assert owner(last, person(*path(t))) == 1
    assert last.space == space
    assert last.detection.tolist() == [0]
    assert last.gated.tolist() == [1]
    assert last.first_seen_us.tolist() == [0]
    np.testing.assert_allclose(last.velocity[0], [40, 0], atol=8)
    assert np.isnan(last.ground).all() == (space == "image")


def test_ground_positions_are_metres():
    out = walk(tracker("ground"), [lambda t: (320 + 40 * t, 300)], 4)
    t, last = out[-1]
    np.testing.assert_allclose(last.ground[0], [4 * 40 * t / 200, 8.0], atol=0.2)
    np.testing.assert_allclose(last.velocity[0], [40, 0], atol=4)


@pytest.mark.parametrize("space", SPACES)
def test_walkers_who_cross_keep_their_ids(space):
    def right(t):
        return (100 + 60 * t, 300)

    def left(t):
        return (500 - 60 * t, 309)

    out = walk(tracker(space), [right, left], 6.5, noise=1.5)
    t0, before = out[10]
    t1, after = out[-1]
    ids = [owner(before, person(*path(t0))) for path in (right, left)]
    assert sorted(ids) == [1, 2]
    assert [owner(after, person(*path(t1))) for path in (right, left)] == ids


@pytest.mark.parametrize("space", SPACES)
def test_an_occluded_walker_is_reported_while_hidden_and_keeps_the_id(space):
    """The far walker passes behind a near one who stands still and hides all of the other."""

    def near(t):
        return (300, 400)

    def far(t):
        x = 240 + 30 * t
        return None if 291 < x < 309 else (x, 390)  # at least 60 % covered

    out = walk(tracker(space), [near, far], 4)
    first = owner(out[5][1], person(*far(out[5][0])))
    hidden = [tracks for t, tracks in out if far(t) is None]
    assert hidden
    assert all(first in tracks.ids for tracks in hidden)
    assert all(-1 in tracks.detection for tracks in hidden)
    assert owner(out[-1][1], person(*far(out[-1][0]))) == first


@pytest.mark.parametrize("space", SPACES)
def test_two_boxes_on_one_person_make_one_track(space):
    follow = tracker(space)
    for k in range(30):
        x0, y0, x1, y1 = person(200 + 4 * k, 300)
        upper = [x0, y0, x1, y1 - 40]  # half of the person, as detectors will
        tracks = follow.update(detections([[x0, y0, x1, y1], upper], [0.9, 0.7]), k * 100_000)
        assert len(tracks.ids) <= 1
    assert tracks.ids.tolist() == [1]


def test_who_comes_back_into_view_is_reported_as_soon_as_someone_new():
    follow = tracker()

    def path(t):
        return None if 1 <= t < 2.5 else (300, 300)

    out = walk(follow, [path], 4)
    assert not any(len(tracks.ids) for t, tracks in out if 2 < t < 2.5)
    assert all(tracks.ids.tolist() == [1] for t, tracks in out if t > 2.75)


def test_who_vanishes_in_plain_view_goes_quickly_and_ends_once():
    follow = tracker()
    walk(follow, [lambda t: (300, 300)], 3)
    out = [follow.update(detections([]), round((3 + k / 10) * 1e6)) for k in range(40)]
    shown = [len(tracks.ids) for tracks in out]
    assert shown == sorted(shown, reverse=True)
    assert sum(shown) <= 10  # one second
    assert [i for tracks in out for i in tracks.ended] == [1]


def test_who_leaves_the_picture_goes_at_once():
    follow = tracker()

    def path(t):
        return (540 + 60 * t, 300) if 540 + 60 * t < 650 else None

    out = walk(follow, [path], 4)
    assert all(len(tracks.ids) == 0 for t, tracks in out if t > 2.3)
    assert all((tracks.boxes >= 0).all() and (tracks.boxes[:, 2] <= 640).all() for _, tracks in out)


def test_a_person_seen_again_soon_keeps_the_id_and_a_later_one_gets_a_new():
    def path(t):
        return None if 2 <= t < 3.2 or 5 <= t < 9 else (200 + 20 * t, 300)

    out = walk(tracker(), [path], 11)
    assert owner(out[45][1], person(*path(4.5))) == 1
    assert owner(out[-1][1], person(*path(out[-1][0]))) == 2


def test_weak_detections_sustain_a_track_but_start_none():
    def run(first_score, then_score, seconds=1.0):
        follow = tracker(birth_score=0.5)
        for k in range(10):
            follow.update(detections([person(300, 300)], first_score), k * 100_000)
        for k in range(10, 10 + round(seconds * 10)):
            tracks = follow.update(detections([person(300, 300)], then_score), k * 100_000)
        return len(tracks.ids)

    assert run(0.3, 0.3, seconds=10) == 0
    assert run(0.9, 0.45) == 1
    assert run(0.9, 0.02) == 0


@pytest.mark.parametrize("every", [1, 3])
def test_boxes_that_are_probably_nobody_do_not_keep_a_lost_track(every):
    """They hit the predicted box again and again, which says no more than that they are false."""
    follow = tracker(memory_s=2.0)
    walk(follow, [lambda t: (300, 300)], 2)
    ended = []
    for k in range(20, 60):
        weak = detections([person(300, 300)] * (k % every == 0), scores=[0.05] * (k % every == 0))
        tracks = follow.update(weak, k * 100_000)
        ended += [k / 10] * len(tracks.ended)
    assert len(ended) == 1
    assert 3.5 < ended[0] < 5  # `memory_s` after it was last believed


@pytest.mark.parametrize("space", SPACES)
def test_what_is_seen_depends_on_time_not_on_frame_rate(space):
    def path(t):
        return (150 + 45 * t, 300 + 10 * t)

    confirmed, where = [], []
    for fps in (5.0, 10.0, 30.0):
        out = walk(tracker(space), [path], 4.2, fps)
        confirmed.append(next(t for t, tracks in out if len(tracks.ids)))
        where.append(next(tracks.boxes[0] for t, tracks in out if t == pytest.approx(4.0)))
    assert max(confirmed) - min(confirmed) <= 0.15
    assert max(confirmed) <= 0.3
    np.testing.assert_allclose(where[0], where[2], atol=2.0)
    np.testing.assert_allclose(where[1], where[2], atol=2.0)


def test_how_long_an_unseen_track_is_shown_depends_on_time_not_on_frame_rate():
    gone = []
    for fps in (5.0, 10.0, 30.0):
        out = walk(tracker(), [lambda t: (300, 300) if t < 2 else None], 5, fps)
        gone.append(max(t for t, tracks in out if len(tracks.ids)))
    assert max(gone) - min(gone) <= 0.25


@pytest.mark.parametrize("space", SPACES)
def test_everything_moves_with_the_picture(space):
    """Scaling time and place alike changes nothing but the scale: twice the resolution."""
    rng = np.random.default_rng(3)
    clips = [[person(100 + 30 * i + k, 300 + 5 * i) for i in range(4)] for k in range(15)]
    plane = tuple((np.array(HOMOGRAPHY).reshape(3, 3) @ np.diag([0.5, 0.5, 1])).ravel())
    small = tracker(space)
    large = Tracker(source(width=1280, height=960, ground_plane=plane), Jipda(space=space))
    for k, boxes in enumerate(clips):
        boxes = np.array(boxes, dtype=np.float32) + rng.normal(0, 1, (4, 4)).astype(np.float32)
        a = small.update(detections(boxes), k * 100_000)
        b = large.update(detections(2 * boxes), k * 100_000)
        assert a.ids.tolist() == b.ids.tolist()
        np.testing.assert_allclose(b.boxes, 2 * a.boxes, rtol=1e-3, atol=0.1)
    assert len(a.ids) == 4


GRAZING = (3.0, 0.0, -2880.0, 0.0, 0.0, 3600.0, 0.0, 1.0, -290.0)  # 3 m high, horizon at y = 290


@pytest.mark.parametrize("plane", [None, GRAZING])
def test_a_thousand_detections_of_five_hundred_tracks_take_little_memory(plane):
    """On a plane seen at a grazing angle, gates are filled with neighbours."""
    rng = np.random.default_rng(0)
    feet = rng.uniform([0, 300], [1920, 1080], (1000, 2))
    boxes = np.array([person(*foot, height=rng.uniform(60, 160)) for foot in feet])
    follow = Tracker(source(width=1920, height=1080, ground_plane=plane), Jipda())
    for k in range(12):
        follow.update(detections(boxes[:500] + rng.normal(0, 1.5, (500, 4))), k * 40_000)
    assert len(follow.tracks) > 400
    tracemalloc.start()
    try:
        follow.update(detections(boxes + rng.normal(0, 1.5, boxes.shape)), 12 * 40_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**30 / 4


def crowd(seed, frames=12):
    """Frames of detections: five walkers, misses, false detections, scores of all kinds."""
    rng = np.random.default_rng(seed)
    start, step = rng.uniform([100, 200], [500, 400], (5, 2)), rng.normal(0, 5, (5, 2))
    for k in range(frames):
        feet = start + k * step + rng.normal(0, 1, (5, 2))
        feet = np.concatenate([feet[rng.random(5) < 0.85], rng.uniform(100, 450, (2, 2))])
        yield detections([person(*foot) for foot in feet], rng.uniform(0.2, 1, len(feet)))


def shuffled(found, rng):
    order = rng.permutation(len(found.boxes))
    again = Detections(
        boxes=found.boxes[order],
        scores=found.scores[order],
        labels=found.labels[order],
        masks=found.masks,
    )
    return again, order


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SPACES))
def test_order_of_detections_does_not_matter(seed, space):
    one, other = tracker(space), tracker(space)
    rng = np.random.default_rng(seed)
    for k, found in enumerate(crowd(seed)):
        again, order = shuffled(found, rng)
        a, b = one.update(found, k * 150_000), other.update(again, k * 150_000)
        row = np.where(b.detection >= 0, order[b.detection], -1)
        np.testing.assert_array_equal(row, a.detection)
        assert a.ids.tolist() == b.ids.tolist()
        np.testing.assert_array_equal(a.boxes, b.boxes)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SPACES))
def test_covariance_stays_positive_definite_and_ids_ascend(seed, space):
    follow, highest = tracker(space), 0
    for k, found in enumerate(crowd(seed, 20)):
        tracks = follow.update(found, k * 150_000)
        assert (np.linalg.eigvalsh(follow.tracks.P) > 0).all()
        assert tracks.ids.tolist() == sorted(set(tracks.ids.tolist()))
        assert all(i > highest for i in tracks.ids if i not in range(highest + 1))
        highest = max([highest, *tracks.ids.tolist()])
        assert ((tracks.existence >= 0) & (tracks.existence <= 1)).all()
        assert not set(tracks.ended.tolist()) & set(tracks.ids.tolist())


@pytest.mark.parametrize("space", SPACES)
def test_a_successor_goes_on_exactly_from_every_frame(space):
    frames = list(crowd(7, 20))
    config = Jipda(space=space)
    follow = Tracker(source(), config)
    states, answers = [], []
    for k, found in enumerate(frames):
        states.append(follow.state())
        at = k * 150_000
        answers.append(encode_part(follow.coast(at) if k % 5 == 4 else follow.update(found, at)))
    assert len(states[-1]) > len(states[0])
    for cut, state in enumerate(states):
        successor = Tracker(source(), config)
        successor.restore(state)
        assert successor.state() == state
        for k in range(cut, len(frames)):
            at = k * 150_000
            tracks = successor.coast(at) if k % 5 == 4 else successor.update(frames[k], at)
            assert encode_part(tracks) == answers[k]


def test_a_state_that_is_none_is_refused():
    state = tracker().state()
    for bad in (b"", b"\x00", state[:-9], b"\x93\x01\x02\x03"):
        with pytest.raises(DataError, match="not the state of a tracker"):
            tracker().restore(bad)


def test_hostile_detections_are_refused_row_by_row_and_counted():
    nan, inf = float("nan"), float("inf")
    bad = [
        [nan, 0, 10, 10],
        [0, 0, inf, 10],
        [-inf, 0, 10, 10],
        [10, 10, 5, 20],
        [10, 10, 10, 10],
        [0, 0, 1e30, 1e30],
        [1e30, 0, 1.1e30, 50],
    ]
    follow, clean = tracker(), tracker()
    for k in range(8):
        good = person(300 + k, 300)
        boxes = [*bad, good, person(100, 300), person(200, 300)]
        scores = np.array([0.9] * len(bad) + [0.9, nan, 7.0], dtype=np.float32)
        tracks = follow.update(detections(boxes, scores), k * 100_000)
        expected = clean.update(detections([good]), k * 100_000)
        np.testing.assert_array_equal(tracks.boxes, expected.boxes)
    assert tracks.detection.tolist() == [len(bad)]
    assert follow.refused == 8 * (len(bad) + 2)


@settings(max_examples=30)
@given(
    st.lists(
        st.lists(st.tuples(*[st.floats(width=32)] * 4, st.floats(0, 1, width=32)), max_size=6),
        max_size=6,
    ),
    st.sampled_from(SPACES),
)
def test_no_input_breaks_the_tracker(frames, space):
    follow = tracker(space)
    for k, rows in enumerate(frames):
        found = detections([row[:4] for row in rows], [row[4] for row in rows])
        tracks = follow.update(found, k * 100_000)
        assert np.isfinite(tracks.boxes).all()
        assert np.isfinite(follow.tracks.P).all()


def test_far_more_boxes_than_people_cost_no_more_than_the_limit():
    rng = np.random.default_rng(0)
    feet = rng.uniform(50, 450, (3000, 2))
    follow = tracker()
    follow.update(detections([person(*foot, 20) for foot in feet]), 0)
    assert follow.refused == 2000


def test_beyond_the_horizon_nobody_is_followed_on_the_ground():
    follow = tracker("ground")
    for k in range(10):
        tracks = follow.update(detections([person(300, 101, 60), person(300, 300)]), k * 100_000)
    assert len(tracks.ids) == 1
    assert follow.refused == 10


def test_who_walks_past_the_horizon_ends():
    """Towards the camera and under it: the prediction leaves the half-plane that can be seen."""
    follow = tracker("ground")
    for k in range(6):
        follow.update(detections([person(300, 400 + 12 * k)]), k * 100_000)
    assert follow.tracks.id.tolist() == [1]
    follow.tracks.x[:, 3] = -1000.0  # m/s
    tracks = follow.coast(600_000)
    assert tracks.ids.tolist() == []
    assert tracks.ended.tolist() == [1]


def test_time_that_stands_still_or_runs_back_is_survived():
    follow = tracker()
    for at in (0, 100_000, 100_000, 50_000, 200_000, 300_000):
        tracks = follow.update(detections([person(300, 300)]), at)
    assert tracks.ids.tolist() == [1]


def test_after_a_long_gap_everyone_is_new():
    follow = tracker()
    for at in (0, 100_000, 200_000):
        follow.update(detections([person(300, 300)]), at)
    tracks = follow.update(detections([person(300, 300)]), 60_000_000)
    assert tracks.ended.tolist() == [1]
    tracks = follow.update(detections([person(300, 300)]), 60_200_000)
    assert tracks.ids.tolist() == [2]


def test_coasting_moves_on_without_evidence():
    follow = tracker()
    walk(follow, [lambda t: (200 + 50 * t, 300)], 2)
    before = follow.tracks.r.copy()
    for k in range(1, 6):
        tracks = follow.coast(round((1.9 + 0.1 * k) * 1e6))
    assert tracks.detection.tolist() == [-1]
    assert tracks.scores.tolist() == [0]
    np.testing.assert_allclose(follow.tracks.r, before, rtol=0.05)
    np.testing.assert_allclose(tracks.boxes[0], person(200 + 50 * 2.4, 300), atol=5)


def test_a_new_resolution_goes_on_with_the_same_people():
    follow = tracker()
    walk(follow, [lambda t: (300, 300)], 1)
    follow.resize(1280, 960)
    tracks = follow.update(detections([person(600, 600, 180)]), 1_000_000)
    assert tracks.ids.tolist() == [1]
    np.testing.assert_allclose(tracks.boxes[0], person(600, 600, 180), atol=3)


def test_clutter_is_learned_from_what_no_track_claims():
    follow = tracker()
    rng = np.random.default_rng(0)
    for k in range(300):
        feet = rng.uniform(100, 450, (6, 2))
        follow.update(detections([person(*foot) for foot in feet], 0.3), k * 200_000)
    assert 3 < follow.clutter < 6


def test_the_ground_needs_a_ground_plane():
    with pytest.raises(ConfigError, match="no ground plane"):
        Tracker(source(ground_plane=None), Jipda(space="ground"))
    assert Tracker(source(ground_plane=None), Jipda()).space.name == "image"
    assert Tracker(source(), Jipda()).space.name == "ground"


RATES = (2.5, 5.0, 7.0, 12.5, 25.0, 30.0, 60.0)
WALKS = [  # m and m/s on the ground: two meet head on, some pass behind others, one stands
    ((-4.0, 8.0), (1.2, 0.0)),
    ((4.0, 7.0), (-1.2, 0.0)),
    ((-3.0, 11.0), (0.9, -0.3)),
    ((2.0, 10.0), (0.0, 0.0)),
    ((3.0, 12.0), (-0.8, -0.2)),
]


def street(t):
    """The boxes (5, 4) of those who walk there, and which are open to view."""
    places = np.array([np.add(start, np.multiply(v, t)) for start, v in WALKS])
    feet = 100 + 1600 / places[:, 1]  # as HOMOGRAPHY has it
    x = 320 + places[:, 0] / 4 * (feet - 100)
    boxes = np.array([person(*foot, 0.425 * (foot[1] - 100)) for foot in zip(x, feet, strict=True)])
    hidden = covered(boxes, boxes) * (feet > feet[:, None])
    return boxes, hidden.max(axis=1) < 0.5


def scored(space, looks, fps, seconds=4.6):
    """(ids, share missed, share of boxes on nobody, changes of id) of one run."""
    follow, (rng, look_rng) = tracker(space), map(np.random.default_rng, (0, 1))
    ids, missed, astray, reported, owners = set(), [], 0, 0, [[] for _ in WALKS]
    for k in range(round(seconds * fps)):
        truth, open_ = street(k / fps)
        seen = np.flatnonzero(open_ & (rng.random(len(truth)) < 0.93))
        height = truth[seen, 3:] - truth[seen, 1:2]
        boxes = truth[seen] + rng.normal(0, 0.02, (len(seen), 4)) * height
        embeddings = None
        if looks:
            e = np.eye(8)[seen] + look_rng.normal(0, 0.15, (len(seen), 8))
            e /= np.linalg.norm(e, axis=1, keepdims=True)
            embeddings = Embeddings(vectors=e.astype(np.float32))
        tracks = follow.update(detections(boxes), round(k / fps * 1e6), embeddings)
        ids |= set(tracks.ids.tolist())
        overlap = iou(tracks.boxes, truth)
        astray += int((overlap.max(axis=1, initial=0) < 0.3).sum())
        reported += len(tracks.ids)
        if k / fps >= 1:
            for i in np.flatnonzero(open_):
                own = owner(tracks, truth[i])
                missed.append(own is None)
                if own is not None and own not in owners[i][-1:]:
                    owners[i].append(own)
    changes = sum(len(one) - 1 for one in owners)
    return len(ids), np.mean(missed), astray / reported, changes


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("looks", [False, True])
def test_people_are_followed_alike_at_2_5_to_60_frames_a_second(space, looks):
    scores = np.array([scored(space, looks, fps) for fps in RATES])
    ids, missed, astray, changes = scores.T
    assert (ids >= len(WALKS)).all()
    assert (ids <= len(WALKS) + 1).all()
    assert (changes <= 2).all()  # two who are exchanged once
    assert changes.sum() <= 4
    assert missed[0] < 0.15  # there are eleven frames, and two of them make a track
    assert missed[1:].max() < 0.04
    assert astray.max() < 0.05
