"""Who is who: doubts and how they are settled, by brute force."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.geometry import iou
from streamvis.tracking import identity, track_array
from streamvis.tracking.appearance import AppearanceLikelihood, distances
from streamvis.tracking.association import Pairs
from streamvis.tracking.identity import PARAMETERS

WIDTH = 6  # of the embeddings
PERSON = np.eye(WIDTH)  # people who are nothing like each other


def weighed(beta):
    """What the association says, from β (N, M + 1)."""
    beta = np.asarray(beta, dtype=np.float64)
    track, detection = np.nonzero(beta[:, 1:])
    return Pairs(track, detection, beta[track, detection + 1], beta[:, 0], beta.shape[1] - 1)


def placed(ratio):
    """What places say, from a matrix (N, L)."""
    return lambda track, lost: ratio[track, lost]


def tracks_of(ids, **columns):
    tracks = track_array.blank(len(ids), WIDTH)
    tracks.id[:] = ids
    for name, values in columns.items():
        getattr(tracks, name)[:] = values
    return tracks


def apart(n):
    """Boxes (N, 4) that do not touch."""
    return np.array([[100 * i, 0, 100 * i + 30, 90] for i in range(n)], float).reshape(-1, 4)


def missed(n, m=0):
    return weighed(np.eye(m + 1)[np.zeros(n, int)])


def components(n, edges):
    """For each of n nodes, the set of all that it is connected with."""
    sets = [{i} for i in range(n)]
    for i, j in edges:
        both = sets[i] | sets[j]
        for k in both:
            sets[k] = both
    return sets


@st.composite
def crowds(draw):
    """Boxes, β and ids of a few tracks in a small place."""
    n, m = draw(st.integers(0, 6)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    low = rng.uniform(0, 150, (n, 2))
    beta = rng.dirichlet(np.full(m + 1, 0.3), n)
    beta[:, 1:] /= np.maximum(beta[:, 1:].sum(axis=0), 1)
    beta[:, 0] = 1 - beta[:, 1:].sum(axis=1)
    numbered = rng.random(n) < 0.8
    boxes = np.hstack([low, low + rng.uniform(30, 90, (n, 2))])
    return boxes, beta, np.where(numbered, 1 + np.arange(n), 0)


@given(st.lists(crowds(), min_size=1, max_size=4))
def test_groups_are_who_is_connected_by_contacts_since_they_were_settled(frames):
    n = min(len(ids) for _, _, ids in frames)
    tracks, edges = tracks_of(frames[0][2][:n]), []
    for k, (boxes, beta, _) in enumerate(frames):
        boxes, beta = boxes[:n], beta[:n]
        identity.mark_ambiguous(tracks, boxes, weighed(beta), k + 1)
        overlap = iou(boxes, boxes)
        size = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        for i, j in product(range(n), repeat=2):
            both = overlap[i, j] * (size[i] + size[j]) / (1 + overlap[i, j])
            close = overlap[i, j] > PARAMETERS.close_iou
            close |= both / min(size[i], size[j]) > PARAMETERS.close_inside
            close |= beta[i, 1:] @ beta[j, 1:] > PARAMETERS.shared
            if i < j and close and tracks.id[i] and tracks.id[j]:
                edges.append((i, j))
        sets = components(n, edges)
        for i, j in product(range(n), repeat=2):
            same = tracks.group[i] > 0 and tracks.group[i] == tracks.group[j]
            assert same == (j in sets[i] and len(sets[i]) > 1)


def test_a_doubt_begins_with_the_first_contact_and_looks_from_before_do_not_count():
    tracks = tracks_of([1, 2, 3], fresh=PERSON[:3], fresh_s=0.3)
    close = apart(3)
    close[1] = close[0] + 2
    identity.mark_ambiguous(tracks, close, missed(3), 500)
    identity.mark_ambiguous(tracks, close, missed(3), 700)
    assert tracks.doubt_us.tolist() == [500, 500, 0]
    assert tracks.fresh_s.tolist() == [0, 0, 0.3]
    assert not tracks.fresh[:2].any()
    identity.mark_ambiguous(tracks, apart(3), missed(3), 900)
    assert tracks.doubt_us.tolist() == [500, 500, 0]


def test_who_was_settled_and_meets_somebody_else_is_not_in_the_group_that_was_left():
    tracks = tracks_of([1, 2, 3], fresh_s=1.0, known=PERSON[:3], known_s=1.0)
    together = weighed([[0.5, 0.5], [0.5, 0.5], [1, 0]])
    identity.mark_ambiguous(tracks, apart(3), together, 1)
    tracks.fresh[0], tracks.fresh_s[:] = PERSON[0], [1, 0, 1]
    identity.resolve(
        tracks, track_array.blank(0, WIDTH), placed(np.zeros((3, 0))), AppearanceLikelihood(), 4
    )
    assert tracks.group[0] == 0 < tracks.group[1]
    identity.mark_ambiguous(tracks, apart(3), weighed([[0.5, 0.5], [1, 0], [0.5, 0.5]]), 2)
    assert tracks.group[0] == tracks.group[2] != tracks.group[1] > 0


def test_a_look_is_clear_when_nobody_is_near_and_the_detection_is_surely_the_tracks():
    boxes = apart(4)
    beta = [[0, 1, 0, 0, 0], [0.1, 0, 0.9, 0, 0], [0.3, 0, 0, 0.7, 0], [0, 0, 0, 0, 1]]
    for known, expected in [(np.ones(4, bool), [0, 1, 3]), (np.arange(4) > 0, [1, 3])]:
        rows, seen = identity.unobstructed(boxes, boxes, weighed(beta), known)
        assert rows.tolist() == seen.tolist() == expected


@pytest.mark.parametrize(("shift", "clear"), [(8, False), (20, True), (40, True)])
def test_a_look_at_somebody_behind_another_is_not_clear(shift, clear):
    """Boxes are 30 px wide: 40 % of one may be behind the other."""
    boxes = apart(3)
    boxes[1] = boxes[0] + [shift, 0, shift, 0]
    rows, _ = identity.unobstructed(boxes, boxes, weighed(np.eye(4)[1:]), np.ones(3, bool))
    assert rows.tolist() == ([0, 1, 2] if clear else [2])


def test_where_nobody_is_nobody_is_seen():
    none = np.zeros(0, bool)
    for n, m in [(0, 0), (2, 0), (0, 2)]:
        known = np.ones(m, bool) if m else none
        rows, seen = identity.unobstructed(apart(m), apart(n), missed(n, m), known)
        assert len(rows) == len(seen) == 0


def test_means_are_copied_to_learn_how_people_change():
    """A copy is kept for two seconds, and dropped when the track may have become another."""
    tracks = tracks_of([1, 2], known=PERSON[:2], known_s=[1, 1], look_us=1_000_000)
    likeness = before = AppearanceLikelihood()
    for k in range(1, 31):  # a tenth of a second each; both turn towards what nobody was
        new = np.cos(0.05 * k) * PERSON[:2] + np.sin(0.05 * k) * PERSON[2:4]
        likeness = identity.update_appearance(
            tracks, np.arange(2), new, 100_000 * k + 1_000_000, likeness
        )
    assert tracks.copy_us.tolist() == [3_000_000, 3_000_000]  # the first one: 1 s
    assert (tracks.copy_s > 2.9).all()
    assert likeness.growth.rate > before.growth.rate
    assert likeness.growth.weight > before.growth.weight
    close = apart(2)
    close[1] = close[0]
    identity.mark_ambiguous(tracks, close, missed(2), 4_000_000)
    assert tracks.copy_us.tolist() == [0, 0]


def test_a_look_counts_for_the_time_since_the_last_but_not_for_long():
    tracks = tracks_of([1, 2, 3, 0], known=PERSON[:4], known_s=[2, 2, 0, 0], group=[0, 5, 0, 0])
    tracks.look_us[:] = [900_000, 900_000, 100_000, 1_000_000]
    new = PERSON[[1, 1, 2, 3]]
    identity.update_appearance(tracks, np.arange(4), new, 1_000_000, AppearanceLikelihood())
    np.testing.assert_allclose(tracks.known_s, [2.1, 2, 0, 0])  # settled; in doubt; not known yet
    np.testing.assert_allclose(tracks.fresh_s, [0, 0.1, PARAMETERS.fresh_step_s, 0])
    np.testing.assert_allclose(tracks.fresh[1:3], new[1:3])
    share = 0.1 / 2.1
    np.testing.assert_allclose(
        tracks.known[0, 1] / tracks.known[0, 0], share / (1 - share), rtol=1e-3
    )
    assert (tracks.look_us == 1_000_000).all()


def test_the_scene_is_learnt_from_those_who_are_settled_only():
    tracks = tracks_of([1, 2, 3], known=PERSON[:3], known_s=[1, 1, 1], group=[0, 0, 7])
    before = AppearanceLikelihood()
    after = identity.update_appearance(tracks, np.arange(3), PERSON[:3], 100_000, before)
    keep = np.exp(-0.1 / PARAMETERS.learn_s)  # of a tenth of a second, of two people
    assert after.same.weight == pytest.approx(keep * before.same.weight + 0.2)
    assert after.other.weight == pytest.approx(keep * before.other.weight + 0.2)
    assert after.same.mean < before.same.mean
    assert after.other.mean > before.other.mean


def settled(tracks, lost, place=None, next_id=100):
    place = np.zeros((len(tracks), len(lost))) if place is None else place
    return identity.resolve(tracks, lost, placed(place), AppearanceLikelihood(), next_id)


@st.composite
def doubts(draw):
    """Tracks in doubt, some of them seen; some lost persons; what the places say."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    n, m = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    looks = rng.normal(size=(2 * n + m, WIDTH)) + 2 * PERSON[rng.integers(0, 3, 2 * n + m)]
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    kind = rng.choice(["doubt", "doubt", "new", "unnumbered", "settled"], n)
    doubted = kind == "doubt"
    tracks = tracks_of(
        np.where(kind == "unnumbered", -1 - np.arange(n), 1 + np.arange(n)),
        known=looks[:n],
        known_s=rng.uniform(1, 5, n),
        fresh=looks[n : 2 * n],
        fresh_s=rng.choice([0.2, 0.5, 1.0], n),
        group=doubted * rng.integers(1, 3, n),
        doubt_us=doubted * rng.integers(1, 9, n) * 1000,
        first_us=np.arange(n),
    )
    nameless = np.isin(kind, ["new", "unnumbered"])
    tracks.known[nameless], tracks.known_s[nameless] = 0, 0
    lost = tracks_of(50 + np.arange(m), known=looks[2 * n :], known_s=1.0, first_us=70)
    place = np.where(rng.random((n, m)) < 0.2, -np.inf, rng.uniform(-6, 3, (n, m)))
    return tracks, lost, place


def likeliest(tracks, lost, place):
    """Who each row is, ("row", i), ("lost", i) or ("new", i): the best of all combinations."""

    def said(a, b):
        return AppearanceLikelihood().log_ratio(distances(a[None], b[None]), PARAMETERS.limit)[0, 0]

    def answers(i):
        doubted, open_ = tracks.group[i] > 0, tracks.known_s[i] == 0 or tracks.group[i] > 0
        fresh = tracks.fresh[i] * (tracks.fresh_s[i] >= PARAMETERS.need_s)
        own = said(fresh, tracks.known[i]) + PARAMETERS.own * doubted
        yield ("row", i), own
        if not open_:
            return
        if doubted:
            yield ("new", i), PARAMETERS.new
        for j in np.flatnonzero((tracks.group == tracks.group[i]) & doubted):
            if i != j:
                yield ("row", int(j)), said(fresh, tracks.known[j])
        for j in range(len(lost)):
            back = said(fresh, lost.known[j])
            if back >= PARAMETERS.alike and place[i, j] > -np.inf:
                yield ("lost", j), back + place[i, j] + PARAMETERS.lost

    every = product(*(list(answers(i)) for i in range(len(tracks))))
    able = (one for one in every if len({who for who, _ in one}) == len(one))
    best = max(able, key=lambda one: sum(score for _, score in one))
    return [who for who, _ in best]


@settings(max_examples=150)
@given(doubts())
def test_everybody_is_who_they_most_probably_are_one_to_one(case):
    tracks, lost, place = case
    was, gone = tracks.take(np.arange(len(tracks))), lost.take(np.arange(len(lost)))
    open_ = (was.group > 0) | (was.known_s == 0)
    ready = open_ & (was.fresh_s >= PARAMETERS.need_s)
    left, next_id, changes = settled(tracks, lost, place)
    if not ready.any():
        assert (tracks.id == was.id).all()
        return
    who, number = likeliest(was, gone, place), 100
    for i, (kind, j) in enumerate(who):
        if kind == "new":
            expected, first_us, number = number, was.doubt_us[i], number + 1
        else:
            bank_ = was if kind == "row" else gone
            expected, first_us = bank_.id[j], bank_.first_us[j]
        assert (tracks.id[i], tracks.first_us[i]) == (expected, first_us)
    assert next_id == number
    told_before = {*was.id[was.id > 0].tolist(), *gone.id.tolist()}
    assert len({*tracks.id.tolist(), *left.id.tolist()}) == len(tracks) + len(left)
    assert set(left.id.tolist()) <= told_before
    assert set(changes.ended) == set(was.id[was.id > 0].tolist()) - set(tracks.id.tolist())
    moved = [(int(a), int(b)) for a, b in zip(was.id, tracks.id, strict=True) if 0 < a != b]
    told = [*changes.merged, *((a, b) for a, b, _ in changes.split)]
    assert sorted(told) == sorted(moved)
    assert (tracks.group[ready] == 0).all()
    assert (tracks.fresh_s[ready] == 0).all()


def test_an_exchange_is_undone_with_all_that_is_known_of_both():
    tracks = tracks_of(
        [1, 2],
        known=PERSON[:2],
        known_s=[3, 4],
        fresh=PERSON[[1, 0]],
        fresh_s=0.5,
        group=1,
        doubt_us=[7_000, 9_000],
        first_us=[10, 20],
    )
    lost, next_id, changes = settled(tracks, track_array.blank(0, WIDTH))
    assert tracks.id.tolist() == [2, 1]
    assert tracks.first_us.tolist() == [20, 10]
    np.testing.assert_allclose(tracks.known, PERSON[[1, 0]], atol=1e-12)
    np.testing.assert_allclose(tracks.known_s, [4.5, 3.5])
    assert sorted(changes.split) == [(1, 2, 9_000), (2, 1, 9_000)]  # before, 2 was in no doubt
    assert (changes.merged, changes.ended, next_id, len(lost)) == ([], [], 100, 0)


def test_who_is_not_seen_yet_gives_way_when_another_surely_has_the_id():
    tracks = tracks_of(
        [1, 2], known=PERSON[:2], known_s=3, fresh=PERSON[[1, 1]], fresh_s=[0.5, 0], group=1
    )
    tracks.fresh[1] = 0
    _, _, changes = settled(tracks, track_array.blank(0, WIDTH))
    assert tracks.id.tolist() == [2, 1]
    assert len(changes.split) == 2
    assert (tracks.group[0], tracks.group[1] > 0) == (0, True)  # the other is still in doubt


def test_whose_person_another_has_and_who_looks_like_nobody_is_new():
    """2 took the person of 1, and 1 has a stranger; nobody has the person of 2 any more."""
    tracks = tracks_of(
        [1, 2], known=PERSON[:2], known_s=3, fresh=PERSON[[4, 0]], fresh_s=0.5, group=1
    )
    tracks.doubt_us[:] = 5_000
    lost, next_id, changes = settled(tracks, track_array.blank(0, WIDTH))
    assert tracks.id.tolist() == [100, 1]
    assert next_id == 101
    assert changes.ended == [2] == lost.id.tolist()
    assert sorted(changes.split) == [(1, 100, 5_000), (2, 1, 5_000)]
    assert tracks.first_us.tolist() == [5_000, 0]
    np.testing.assert_allclose(lost.known, PERSON[[1]])
    np.testing.assert_allclose(tracks.known[0], PERSON[4])


@pytest.mark.parametrize("number", [9, -1])
def test_who_was_lost_is_known_again_silently_unless_another_id_was_told(number):
    tracks = tracks_of([number], fresh=PERSON[:1], fresh_s=0.5, first_us=50)
    lost = tracks_of([3, 4], known=PERSON[:2], known_s=2.0, first_us=[5, 6])
    left, _, changes = settled(tracks, lost, np.full((1, 2), 2.0))
    assert (tracks.id.tolist(), tracks.first_us.tolist(), left.id.tolist()) == ([3], [5], [4])
    assert changes.merged == ([(9, 3)] if number > 0 else [])
    assert changes.ended == ([9] if number > 0 else [])
    assert changes.split == []


@pytest.mark.parametrize("place", [-6.0, -np.inf])
def test_who_is_in_the_wrong_place_is_not_known_again(place):
    tracks = tracks_of([9], fresh=PERSON[:1], fresh_s=0.5)
    lost = tracks_of([3], known=PERSON[:1], known_s=2.0)
    left, _, changes = settled(tracks, lost, np.full((1, 1), place))
    assert (tracks.id.tolist(), left.id.tolist()) == ([9], [3])
    assert (changes.merged, changes.split, changes.ended) == ([], [], [])


def test_who_looked_like_nobody_at_first_is_known_again_when_more_has_been_seen():
    """The mean of more looks decides, each time the known time has doubled."""
    blurred = PERSON[0] + PERSON[1] + PERSON[2]
    tracks = tracks_of([7], r=0.9, fresh=blurred / np.sqrt(3), fresh_s=PARAMETERS.need_s)
    lost = tracks_of([3], known=PERSON[0], known_s=5.0)
    assert identity.due(tracks)
    left, _, changes = settled(tracks, lost)
    assert tracks.id.tolist() == [7]
    assert left.id.tolist() == [3]
    assert not changes.merged
    asked = []
    for seconds in np.arange(1, 30) * 0.2:
        tracks.known[0], tracks.known_s[0] = PERSON[0], seconds
        identity.ask_again(tracks)
        if identity.due(tracks):
            asked.append(seconds)
            left, _, changes = settled(tracks, lost)
            break
    assert asked == pytest.approx([2 * PARAMETERS.need_s])
    assert tracks.id.tolist() == [3]
    assert changes.merged == [(7, 3)]
    assert len(left) == 0


def test_who_is_new_is_asked_for_as_long_as_the_mean_is_young():
    tracks = tracks_of([7], r=0.9, fresh=PERSON[0], fresh_s=PARAMETERS.need_s)
    asked = []
    for _ in range(500):
        identity.ask_again(tracks)
        if identity.due(tracks):
            asked.append(float(tracks.fresh_s[0]))
            settled(tracks, tracks_of([]))
        tracks.known_s += 0.1
    assert asked == pytest.approx(PARAMETERS.need_s * 2.0 ** np.arange(len(asked)), rel=0.3)
    assert PARAMETERS.ask_s <= max(asked) < 2.6 * PARAMETERS.ask_s
