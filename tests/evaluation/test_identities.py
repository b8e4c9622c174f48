"""Who followed whom: TrackEval's counts, brute force over all matchings, and cases by hand."""

from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamvis.datasets.motchallenge import Sequence, read_sequences, rows
from streamvis.evaluation.identities import MISSED, TrackSpan, follow
from streamvis.evaluation.mot import evaluate


def made(truth, **others):
    known = {
        "name": "made", "folder": Path("made"), "fps": 10, "width": 400, "height": 100,
        "length": 100, "video": None, "ground_plane": None, "layout": "MOT15",
        "truth": truth, "detections": None,
    }  # fmt: skip
    return Sequence(**{**known, **others})


def standing(*walks):
    """Rows of people (id, x, frames) who stand at x, pixels in the image and metres beyond it."""
    flat = [(frame, id_, x) for id_, x, frames in walks for frame in frames]
    at = np.array([x for *_, x in flat], float)
    nil = np.zeros(len(at))
    return rows(
        [frame for frame, *_ in flat],
        [id_ for _, id_, _ in flat],
        np.stack([at, nil, at + 10, nil + 40], axis=1),
        world=np.stack([at, nil], axis=1),
    )


def test_lives_switches_and_strays_by_hand():
    truth = standing((1, 0, range(1, 11)), (2, 100, range(3, 6)))
    found = standing((7, 0, range(1, 4)), (8, 0, range(6, 11)), (8, 300, [4, 5]), (9, 300, [2]))
    trace = follow(made(truth), found)
    assert trace.lives() == {
        1: [TrackSpan(1, 3, 7), TrackSpan(4, 5, MISSED), TrackSpan(6, 10, 8)],
        2: [TrackSpan(3, 5, MISSED)],
    }
    assert trace.strays() == [TrackSpan(2, 2, 9), TrackSpan(4, 5, 8)]
    (switch,) = trace.switches()
    assert (truth.frames[switch.before], truth.frames[switch.after], switch.person) == (3, 6, 1)
    assert (found.ids[switch.old], found.ids[switch.new]) == (7, 8)


def test_a_person_who_leaves_and_returns_to_another_track_has_switched():
    truth = standing((1, 0, [1, 2, 8, 9]))
    trace = follow(made(truth), standing((5, 0, [1, 2]), (6, 0, [8, 9])))
    assert trace.lives() == {1: [TrackSpan(1, 2, 5), TrackSpan(8, 9, 6)]}
    assert len(trace.switches()) == 1


def test_nobody_and_nothing():
    nothing = standing()
    trace = follow(made(nothing), nothing)
    assert (trace.lives(), trace.strays(), trace.switches()) == ({}, [], [])


crowd = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 3), st.floats(0, 3, width=32)),
    max_size=9,
    unique_by=lambda row: row[:2],  # frame, id
)


def brute_force(truth, found):
    """(matches, misses, false, switches) of CLEAR 3D by trying every matching of every frame."""
    counts = np.zeros(4, int)
    together, last = {}, {}
    for frame in sorted({*truth.frames.tolist(), *found.frames.tolist()}):
        t, r = np.flatnonzero(truth.frames == frame), np.flatnonzero(found.frames == frame)
        if len(t) and len(r):
            best, *others = sorted(
                (
                    (worth(truth, found, pairs, together), pairs)
                    for pairs in matchings(truth, found, t, r)
                ),
                reverse=True,
            )
            for other in others[:1]:  # of two that are equally good, either is right
                stay, similarity = np.subtract(best[0], other[0])
                assume(stay > 0 or similarity > 1e-9)
            best = best[1]
            together = {int(truth.ids[i]): int(found.ids[j]) for i, j in best}
            for person, track in together.items():
                counts[3] += last.setdefault(person, track) != track
                last[person] = track
            counts[0] += len(best)
        counts[1] += len(t)
        counts[2] += len(r)
    return (counts[0], counts[1] - counts[0], counts[2] - counts[0], counts[3])


def matchings(truth, found, t, r):
    for size in range(min(len(t), len(r)) + 1):
        for mine in combinations(t, size):
            for theirs in permutations(r, size):
                pairs = list(zip(mine, theirs, strict=True))
                if all(abs(truth.world[i, 0] - found.world[j, 0]) <= 1 for i, j in pairs):
                    yield pairs


def worth(truth, found, pairs, together):
    """Who was together stays together; then similarity, 1 at 0 m and 0.5 at 1 m."""
    stay = sum(together.get(int(truth.ids[i])) == found.ids[j] for i, j in pairs)
    return stay, sum(1 - abs(truth.world[i, 0] - found.world[j, 0]) / 2 for i, j in pairs)


@given(crowd, crowd)
@settings(max_examples=60)
def test_on_the_ground_scores_are_those_of_brute_force(people, tracks):
    truth = standing(*((id_, x, [frame]) for frame, id_, x in people))
    found = standing(*((id_, x, [frame]) for frame, id_, x in tracks))
    expected = brute_force(truth, found)
    scores = evaluate(made(truth), found, "ground")
    assert (scores.tp, scores.fn, scores.fp, scores.idsw) == expected
    if len(truth):
        assert scores.mota == pytest.approx(1 - sum(expected[1:]) / len(truth))
    trace = follow(made(truth), found, "ground")
    assert int((trace.finder == MISSED).sum()) == expected[1]
    assert (len(trace.false), len(trace.switches())) == expected[2:]


def test_its_counts_are_trackevals(data):
    """Jitter, misses, exchanged identities and false tracks on real truth, both layouts."""
    for seed, one in enumerate(read_sequences(data / "mot")):
        rng = np.random.default_rng(seed)
        found = one.truth.where(rng.random(len(one.truth)) < 0.9)
        swapped = (found.frames // 20 % 2 == 1) & (found.ids % 2 == 0)
        found = replace(
            found,
            ids=np.where(swapped, found.ids + 500, found.ids),
            boxes=found.boxes + rng.normal(0, 4, found.boxes.shape),
        )
        scores, trace = evaluate(one, found), follow(one, found)
        missed = int((trace.finder == MISSED).sum())
        assert scores.idsw > 3
        assert (scores.fn, scores.fp, scores.idsw) == (
            missed, len(trace.false), len(trace.switches())
        )  # fmt: skip
        lives = trace.lives()
        assert len(lives) == scores.people
        length = sum(last - first + 1 for spans in lives.values() for first, last, _ in spans)
        assert length == scores.tp + scores.fn
