"""People whose looks are known: whole scenes, what is told of them, and looks that are none."""

import numpy as np
import pytest
from filmed_people import (
    INFO,
    PERSON,
    WIDTH,
    away,
    detected,
    filmed,
    meet,
    owner,
    owners,
    person,
    tracker,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from source_events import end_source, frame_events, start_source

from streamvis.config import Jipda
from streamvis.errors import DataError
from streamvis.messages import Embeddings, Frame, Motion, encode_part
from streamvis.stages.track.events import TrackBegin, TrackEnd, TrackMerge, TrackSplit, TrackUpdate
from streamvis.tracking.tracker import Tracker

MODES = ["jipda", "jipda_embed", "gnn_embed"]


def watch(follow, frames, looks=True):
    """What is said of each frame: (t, Tracks, feet by person)."""
    return [
        (t, follow.update(found, round(t * 1e6), embeddings if looks else None), feet)
        for t, found, embeddings, feet in frames
    ]


def told(out, kind):
    """All rows of `merged` or `split`."""
    rows = (getattr(tracks, kind) for _, tracks, _ in out)
    return [tuple(row) for some in rows if some is not None for row in some.tolist()]


def ended(out):
    return [i for _, tracks, _ in out for i in tracks.ended.tolist()]


def test_an_exchange_is_found_out_and_told():
    """The association knows no looks here, and expects both to walk on."""
    out = watch(tracker(mode="jipda"), filmed(meet(), 7.4))
    splits = told(out, "split")
    assert sorted((a, b) for a, b, _ in splits) == [(1, 2), (2, 1)]
    assert all(2.0e6 < since_us < 4.6e6 for *_, since_us in splits)
    since = {tracks.split is not None: t for t, tracks, _ in out}[True]
    assert since < 6.5
    _, last, feet = out[-1]
    assert [owner(last, feet[who]) for who in (0, 1)] == [owners(out, who)[0] for who in (0, 1)]
    assert last.first_seen_us.tolist() == [0, 0]
    assert told(out, "merged") == ended(out) == []


def test_a_lost_person_is_known_again_and_the_other_id_merged():
    path = away(lambda t: (250 + 8 * t, 300), 3, 7)
    out = watch(tracker(), filmed([(path, PERSON[0]), (lambda t: (500, 300), PERSON[1])], 9))
    first = owners(out, 0)[0]
    assert owner(out[-1][1], out[-1][2][0]) == first
    [(gone, kept)] = told(out, "merged")
    assert (kept, gone) == (first, 3)
    assert ended(out) == [first, gone]
    back = out[-1][1].ids.tolist().index(first)
    assert out[-1][1].first_seen_us[back] == 0
    assert told(out, "split") == []


def test_who_is_known_before_an_id_was_told_is_known_silently():
    """Weak detections make a track certain more slowly than they show what it looks like."""
    path = away(lambda t: (250 + 8 * t, 300), 4, 8)
    frames = filmed([(path, PERSON[0])], 12, score=lambda t: 0.4 if 8.05 < t < 8.45 else 0.9)
    out = watch(tracker(), frames)
    assert any(len(tracks.ids) == 0 < len(feet) for t, tracks, feet in out if t > 8.1)
    assert owners(out, 0) == [1]
    assert ended(out) == [1]
    assert told(out, "merged") == told(out, "split") == []


def test_who_is_still_looked_for_and_appears_elsewhere_keeps_the_id():
    """Gone for less than `memory_s`, and back where kinematics expect nobody."""

    def leaps(t):
        if t < 3:
            return 300, 300
        return (420, 330) if t >= 4 else None

    looks = watch(tracker(), filmed([(leaps, PERSON[0])], 8))
    _, last, feet = looks[-1]
    assert owner(last, feet[0]) == 1
    assert all(tracks.ids.tolist().count(1) <= 1 for _, tracks, _ in looks)
    blind = watch(tracker(), filmed([(leaps, PERSON[0])], 8), looks=False)
    assert owners(blind, 0) == [1, 2]


def test_a_camera_motion_that_is_none_is_not_followed():
    follow = tracker(camera="moving")
    found = detected([person(300, 300)])
    for k in range(20):
        warp = np.full((2, 3), np.nan if k % 2 else np.inf)
        tracks = follow.update(found, k * 100_000, None, Motion(warp=warp, support=1.0))
    assert tracks.ids.tolist() == [1]


def test_somebody_else_in_the_place_of_who_was_lost_is_new():
    one = away(lambda t: (300, 300), 3, 99)
    other = away(lambda t: (300, 300), 0, 7)
    out = watch(tracker(), filmed([(one, PERSON[0]), (other, PERSON[1])], 9))
    assert (owners(out, 0), owners(out, 1)) == ([1], [2])
    assert told(out, "merged") == told(out, "split") == []


@pytest.mark.parametrize("reentry", [False, True])
def test_who_left_over_the_edge_is_new_unless_reentry_is_asked_for(reentry):
    def path(t):
        x = 520 + 60 * t if t < 3 else 700 - 60 * (t - 6)
        return (x, 300) if x < 640 else None

    out = watch(tracker(reentry=reentry), filmed([(path, PERSON[0])], 10))
    if reentry:
        assert owner(out[-1][1], out[-1][2][0]) == 1
    else:
        assert owners(out, 0) == [1, 2]
        assert told(out, "merged") == []


def test_who_took_anothers_place_gets_an_id_of_their_own():
    """Two meet out of sight. One goes on alone, and a stranger goes where the other would have."""
    (left, _), (right, _) = meet()
    gone = away(right, 3, 99)
    stranger = away(right, 0, 4)
    people = [(left, PERSON[0]), (gone, PERSON[1]), (stranger, PERSON[2])]
    out = watch(tracker(mode="jipda"), filmed(people, 7.4))
    final = out[-1][1]
    assert owner(final, out[-1][2][0]) == owners(out, 0)[0]
    assert owner(final, out[-1][2][2]) == 3
    assert {b for _, b, _ in told(out, "split")} >= {3}


def events_of(out):
    """All that is told of the run, in order."""
    state, drafts = start_source(INFO)
    for n, (t, tracks, _) in enumerate(out):
        frame = Frame(source="s", seq=n, n=n, media_us=round(t * 1e6), width=640, height=480)
        drafts += frame_events(state, frame, tracks)
    return drafts + end_source(state, "eof")


def assert_sound(out):
    """What docs/events.md promises, and what nobody may ever see."""
    highest, reported = 0, set()
    for t, tracks, _ in out:
        ids = tracks.ids.tolist()
        assert ids == sorted(set(ids))
        assert all(i > 0 for i in ids)
        over = tracks.ended.tolist()
        assert len(over) == len(set(over))
        assert not set(over) & set(ids)
        assert (tracks.first_seen_us <= round(t * 1e6)).all()
        new = sorted(set(ids) - set(range(1, highest + 1)))
        highest = max([highest, *new])
        for gone, kept in [] if tracks.merged is None else tracks.merged.tolist():
            assert gone in over
            assert gone not in ids
            assert gone != kept
        for id_, other, since_us in [] if tracks.split is None else tracks.split.tolist():
            assert id_ != other
            assert 0 <= since_us <= round(t * 1e6)
        reported |= set(ids)
    events, open_ = events_of(out), {}
    order = {TrackSplit: 0, TrackMerge: 1, TrackEnd: 2, TrackBegin: 3, TrackUpdate: 3}
    ranks = [(e.frame.n, order[type(e.what)]) for e in events if e.frame and type(e.what) in order]
    assert ranks == sorted(ranks)
    for event in events:
        match event.what:
            case TrackBegin(track):
                assert track.id not in open_
                open_[track.id] = event
            case TrackUpdate(track):
                assert track.id in open_
            case TrackEnd(track):
                del open_[track.id]
    assert not open_


def scenes_of(n, seed):
    """People on straight lines through the picture, who vanish and come back, and their looks."""
    rng = np.random.default_rng(seed)
    people = []
    for look in PERSON[:n]:
        start, end = rng.uniform([60, 250], [580, 400], (2, 2))
        unseen = rng.uniform(0, 5, 3)
        spans = np.column_stack([unseen, unseen + rng.choice([0.3, 1.5, 2.5])])

        def path(t, start=start, end=end, spans=spans):
            hidden = ((spans[:, 0] <= t) & (t < spans[:, 1])).any()
            return None if hidden else tuple(start + (end - start) * t / 6)

        people.append((path, look))
    return people


def scenes():
    return st.builds(scenes_of, st.integers(1, 5), st.integers(0, 99_999))


@settings(max_examples=12)
@given(
    scenes(),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from(MODES),
    st.booleans(),
)
def test_whatever_people_do_ids_are_sound(people, noise, mode, reentry):
    out = watch(tracker(mode=mode, reentry=reentry), filmed(people, 6, fps=8, noise=noise))
    assert_sound(out)


@pytest.mark.parametrize("mode", MODES)
def test_runs_with_corrections_are_sound(mode):
    follow = tracker(mode=mode)
    lost = away(lambda t: (150 + 10 * t, 460), 2, 5)
    out = watch(follow, filmed([*meet(), (lost, PERSON[2])], 7.4))
    assert_sound(out)
    kinds = [type(event.what) for event in events_of(out)]
    if mode == "jipda":
        assert kinds.count(TrackSplit) == kinds.count(TrackMerge) == 1


def test_two_who_meet_unseen_and_turn_back_are_told_apart_by_looks_alone():
    """By their motion they would have walked past each other."""
    without = watch(tracker(), filmed(meet(), 7.4), looks=False)
    assert [owners(without, who) for who in (0, 1)] == [[1, 2], [2, 1]]
    out = watch(tracker(), filmed(meet(), 7.4))
    assert [owners(out, who) for who in (0, 1)] == [[1], [2]]
    assert told(out, "split") == told(out, "merged") == ended(out) == []


def jumping(path, jumps, by):
    """A path in a picture that leaps at some times."""

    def at(t):
        x, y = path(t)
        return x + by * (sum(t >= jump for jump in jumps) % 2), y

    return at


@pytest.mark.parametrize("fps", [5.0, 12.5, 25.0])
def test_looks_alone_follow_through_leaps_of_the_camera_that_nobody_tells(fps):
    paths = [lambda t: (100 + 20 * t, 300), lambda t: (350 - 10 * t, 310)]
    people = [(jumping(path, (2, 4), 150), PERSON[i]) for i, path in enumerate(paths)]
    out = watch(tracker(mode="gnn_embed"), filmed(people, 6, fps))
    assert [owners(out, who) for who in (0, 1)] == [[1], [2]]
    assert all(len(tracks.ids) == 2 for t, tracks, _ in out if t > 0.5)
    other = watch(tracker(mode="jipda"), filmed(people, 6, fps))
    assert max(max(tracks.ids, default=0) for _, tracks, _ in other) > 2


def test_kinematics_alone_ask_no_looks_whose_detection_is_whose():
    """Looks say afterwards who it was; boxes, and what they are made of, are the same."""
    blind = watch(tracker(mode="jipda"), filmed(meet(), 7.4), looks=False)
    out = watch(tracker(mode="jipda"), filmed(meet(), 7.4))
    assert told(out, "split")
    for (_, a, _), (_, b, _) in zip(blind, out, strict=True):
        order, other = np.argsort(a.boxes[:, 0]), np.argsort(b.boxes[:, 0])
        np.testing.assert_array_equal(a.boxes[order], b.boxes[other])
        np.testing.assert_array_equal(a.detection[order], b.detection[other])


def spoilt(looks, kind):
    """Looks as a stage above may give them."""
    vectors = looks.vectors.copy()
    match kind:
        case "none":
            return None
        case "zeros":
            vectors[:] = 0
        case "nan":
            vectors[::2, 0] = np.nan
        case "infinite":
            vectors[::2] = np.inf
        case "huge":
            vectors *= np.float32(1e37)
        case "longer":
            vectors = np.pad(vectors, [(0, 0), (0, 3)])
        case "empty" if len(vectors) == 0:
            vectors = np.zeros((0, 0), np.float32)
    return Embeddings(vectors=vectors)


KINDS = ["good", "none", "zeros", "nan", "infinite", "huge", "longer", "empty"]


@settings(max_examples=10)
@given(scenes(), st.lists(st.sampled_from(KINDS), min_size=1, max_size=8), st.sampled_from(MODES))
def test_no_looks_break_the_tracker(people, kinds, mode):
    follow, out = tracker(mode=mode), []
    for k, (t, found, looks, feet) in enumerate(filmed(people, 4, fps=8)):
        given_ = spoilt(looks, kinds[k // 2 % len(kinds)])
        out.append((t, follow.update(found, round(t * 1e6), given_), feet))
        for who in (follow.tracks, follow.lost):
            length = np.linalg.norm(np.concatenate([who.known, who.fresh]), axis=1)
            assert (np.isclose(length, 1, atol=2e-3) | (length == 0)).all()
        for moments in (follow.likeness.same, follow.likeness.other):
            assert 0 <= moments.mean <= 2
            assert 0 <= moments.variance < 1
    assert_sound(out)


@pytest.mark.parametrize("kind", ["nan", "infinite"])
@pytest.mark.parametrize("mode", MODES)
def test_who_has_a_look_that_is_none_was_not_looked_at(kind, mode):
    frames = list(filmed(meet(), 7.4))
    a, b = tracker(mode=mode), tracker(mode=mode)
    for k, (t, found, looks, _) in enumerate(frames):
        bad = spoilt(looks, kind) if k % 3 else looks
        zero = looks.vectors * np.isfinite(bad.vectors).all(axis=1, keepdims=True)
        answers = [
            follow.update(found, round(t * 1e6), one)
            for follow, one in ((a, bad), (b, Embeddings(vectors=zero)))
        ]
        assert encode_part(answers[0]) == encode_part(answers[1])
    assert a.state() == b.state()


def test_looks_of_another_length_begin_anew_and_frames_without_people_do_not():
    follow = tracker()
    watch(follow, filmed([(lambda t: (300, 300), PERSON[0])], 2))
    nobody = detected([])
    for vectors in (np.zeros((0, 0)), np.zeros((0, 9))):
        follow.update(nobody, 2_000_000, Embeddings(vectors=vectors.astype(np.float32)))
        assert follow.tracks.known_s[0] >= 1
    longer = np.eye(9, dtype=np.float32)[:1]
    tracks = follow.update(detected([person(300, 300)]), 2_600_000, Embeddings(vectors=longer))
    assert tracks.ids.tolist() == [1]
    assert (follow.tracks.width, follow.lost.width) == (9, 9)
    assert follow.tracks.known_s[0] == 0


def test_those_who_meet_while_nobody_looks_are_in_doubt():
    """An embedding stage that runs now and then."""
    follow = tracker(mode="jipda")
    frames = filmed(meet(), 7.4)
    out = []
    for t, found, looks, feet in frames:
        given_ = looks if t < 2 or t > 5.5 else None
        out.append((t, follow.update(found, round(t * 1e6), given_), feet))
    assert sorted((a, b) for a, b, _ in told(out, "split")) == [(1, 2), (2, 1)]


@pytest.mark.parametrize("shape", [(1, WIDTH), (3, WIDTH), (0, WIDTH), (2,), (2, 2, 3)])
def test_looks_that_are_out_of_step_with_the_detections_are_an_error(shape):
    found = detected([person(100, 300), person(300, 300)])
    with pytest.raises(DataError, match=r"source s: embeddings have shape .* 2 people were det"):
        tracker().update(found, 0, Embeddings(vectors=np.zeros(shape, np.float32)))


def test_a_successor_goes_on_exactly_with_looks_and_motion():
    lost = away(lambda t: (150 + 10 * t, 460), 2, 5)
    people = [*meet(), (lost, PERSON[2])]
    rng = np.random.default_rng(0)
    config = Jipda(space="image", mode="jipda", camera="moving")
    follow, steps = Tracker(INFO, config), []
    for t, found, looks, _ in filmed(people, 7.4, fps=5):
        warp = np.column_stack([np.eye(2), rng.normal(0, 0.5, 2)])
        motion = Motion(warp=warp, support=0.7) if rng.random() < 0.8 else None
        steps.append(
            (found, round(t * 1e6), spoilt(looks, rng.choice(["good"] * 3 + KINDS[:4])), motion)
        )
    states, answers, held = [follow.state()], [], set()
    for step in steps:
        answers.append(encode_part(follow.update(*step)))
        states.append(follow.state())
        held |= {"lost"} if len(follow.lost) else set()
        held |= {"doubt"} if follow.tracks.group.any() else set()
    assert held == {"lost", "doubt"}
    for k, step in enumerate(steps):
        successor = Tracker(INFO, config)
        successor.restore(states[k])
        assert encode_part(successor.update(*step)) == answers[k]
        assert successor.state() == states[k + 1]
