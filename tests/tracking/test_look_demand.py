"""Embeddings on demand: who is looked at, and that it does not matter how the tracker gets them."""

from itertools import pairwise

import numpy as np
import pytest
from filmed_people import PERSON, away, detected, filmed, meet, owners, person, tracker
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.messages import Embeddings, encode_part
from streamvis.tracking.tracker import Tracker

ALONE = [(lambda t: (200 + 20 * t, 300), PERSON[0]), (lambda t: (450 + 10 * t, 200), PERSON[1])]


class Asked:
    """The embeddings of a frame, which notes the rows that it is asked for."""

    def __init__(self, looks: Embeddings) -> None:
        self.vectors = looks.vectors
        self.rows: list[int] = []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.rows += rows.tolist()
        return self.vectors[rows]


def asked(follow: Tracker, frames) -> list[tuple[float, set[int]]]:
    """Track, and return the people that were looked at in each frame: rows are people here."""
    out = []
    for t, found, looks, feet in frames:
        look = Asked(looks)
        follow.update(found, round(t * 1e6), look)
        assert len(look.rows) == len(set(look.rows))
        out.append((t, {list(feet)[row] for row in look.rows}))
    return out


def test_unambiguous_people_are_looked_at_again_after_the_time_of_the_setting():
    for refresh_s in (0.3, 0.6):
        out = asked(tracker(refresh_s=refresh_s), filmed(ALONE, 8))
        for who in (0, 1):
            times = [t for t, people in out if who in people]
            assert times[0] == 0.0
            since = [b - a for a, b in pairwise(times) if a > 4]
            assert since
            assert since == pytest.approx([refresh_s] * len(since), abs=1e-6)


def test_people_are_looked_at_less_often_the_longer_they_are_known():
    out = asked(tracker(refresh_s=60), filmed(ALONE, 10))
    times = [t for t, people in out if 0 in people]
    since = [round(b - a, 6) for a, b in pairwise(times) if a > 1]
    assert since == sorted(since)
    assert since[-1] > 2 * since[0]


def test_without_that_time_everybody_is_looked_at_in_every_frame():
    for changes in ({"refresh_s": 0}, {"mode": "gnn_embed"}):
        assert all(people == {0, 1} for _, people in asked(tracker(**changes), filmed(ALONE, 2)))


def test_people_between_two_tracks_are_looked_at_and_for_a_while_after():
    out = asked(tracker(refresh_s=60), filmed(meet(), 7.4))
    share = {start: np.mean([len(people) for t, people in out if start <= t < start + 0.4]) / 2
             for start in (2.0, 4.5, 6.5)}  # fmt: skip
    assert share[2.0] < 0.5
    assert share[4.5] > 0.7  # before, nobody is detected for 1.5 s
    assert share[6.5] < 0.5


def test_who_comes_back_is_looked_at_at_once():
    path = away(lambda t: (250 + 8 * t, 300), 3, 4)
    people = asked(tracker(refresh_s=60), filmed([(path, PERSON[0])], 6))
    assert {t: who for t, who in people if 3.9 < t < 4.05} == {4.0: {0}}


def test_clutter_of_low_scores_is_not_looked_at():
    rng = np.random.default_rng(0)
    follow = tracker()
    for k in range(30):
        look = Asked(Embeddings(vectors=np.eye(1, 8, dtype=np.float32)))
        x, y = rng.uniform((50, 150), (600, 450))
        follow.update(detected([person(x, y)], 0.3), k * 100_000, look)
        assert look.rows == []


@settings(max_examples=8)
@given(st.sampled_from([ALONE, meet()]), st.randoms(use_true_random=False))
def test_the_order_of_detections_does_not_matter(people, random):
    one, other = tracker(), tracker()
    for t, found, looks, _ in filmed(people, 5):
        order = random.sample(range(len(found)), len(found))
        a, b = Asked(looks), Asked(Embeddings(vectors=looks.vectors[order]))
        one.update(found, round(t * 1e6), a)
        other.update(found[order], round(t * 1e6), b)
        assert sorted(a.rows) == sorted(order[row] for row in b.rows)
    assert one.state() == other.state()


def test_embeddings_of_everybody_give_the_same_as_those_on_demand():
    one, other = tracker(), tracker()
    for t, found, looks, _ in filmed(meet(), 7.4):
        answers = [
            follow.update(found, round(t * 1e6), given_)
            for follow, given_ in ((one, looks), (other, Asked(looks)))
        ]
        assert encode_part(answers[0]) == encode_part(answers[1])
    assert one.state() == other.state()


def test_a_tracker_that_goes_on_from_a_state_looks_at_the_same_people():
    frames = list(filmed(meet(), 7.4))
    whole = asked(tracker(), frames)
    for cut in (5, 28, 46, 52):
        first, second = tracker(), tracker()
        head = asked(first, frames[:cut])
        second.restore(first.state())
        assert head + asked(second, frames[cut:]) == whole


def test_people_who_part_keep_their_ids_with_half_of_the_embeddings():
    frames = list(filmed(meet(), 7.4))
    follow, out, looked = tracker(refresh_s=1), [], 0
    for t, found, looks, feet in frames:
        look = Asked(looks)
        out.append((t, follow.update(found, round(t * 1e6), look), feet))
        looked += len(look.rows)
    for who in (0, 1):
        assert owners(out, who)[0] == owners(out, who)[-1]
    assert looked < 0.5 * sum(len(found) for _, found, _, _ in frames)
