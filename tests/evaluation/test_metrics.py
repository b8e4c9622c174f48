"""Counts of tracking scores against TrackEval on random sequences, and their sums."""

import contextlib
import io
from dataclasses import fields

import numpy as np
import pytest

from streamvis.evaluation.metrics import ALPHAS, Counts, SequenceSimilarities, count

SHARES = ("hota", "deta", "assa", "mota", "motp", "idf1", "idp", "idr")


def random_sightings(rng: np.random.Generator) -> SequenceSimilarities:
    """A few people and tracks that come and go; overlaps are often equal, or exactly 0.5."""
    frames, people, tracks = rng.integers(1, 9, 3)
    truth, results, alike = [], [], []
    for _ in range(frames):
        truth.append(rng.permutation(np.flatnonzero(rng.random(people) < 0.7)))
        results.append(rng.permutation(np.flatnonzero(rng.random(tracks) < 0.7)))
        alike.append(rng.integers(0, 9, (len(truth[-1]), len(results[-1]))) / 8)
    truth, people = dense(truth)
    results, tracks = dense(results)
    return SequenceSimilarities(truth, results, alike, people, tracks)


def dense(frames):
    known, ids = np.unique(np.concatenate(frames), return_inverse=True)
    return np.split(ids, np.cumsum([len(one) for one in frames])[:-1]), len(known)


def test_counts_are_trackevals_on_random_sequences():
    metrics = pytest.importorskip("trackeval").metrics
    half = {"THRESHOLD": 0.5, "PRINT_CONFIG": False}
    clear, identity, hota = metrics.CLEAR(half), metrics.Identity(half), metrics.HOTA()
    rng = np.random.default_rng(0)
    totals: list[tuple[Counts, dict, dict, dict]] = []
    for _ in range(300):
        seen = random_sightings(rng)
        data = {
            "num_timesteps": len(seen.truth),
            "gt_ids": seen.truth,
            "num_gt_ids": seen.people,
            "num_gt_dets": sum(map(len, seen.truth)),
            "tracker_ids": seen.results,
            "num_tracker_ids": seen.tracks,
            "num_tracker_dets": sum(map(len, seen.results)),
            "similarity_scores": seen.alike,
        }
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = [metric.eval_sequence(data) for metric in (clear, identity, hota)]
        totals.append((count(seen), *theirs))
        agrees(*totals[-1])
    ours = sum((one for one, *_ in totals[1:]), start=totals[0][0])
    combined = [
        metric.combine_sequences({str(i): row[k + 1] for i, row in enumerate(totals)})
        for k, metric in enumerate((clear, identity, hota))
    ]
    agrees(ours, *combined)


def agrees(ours, clear, identity, hota):
    assert [ours.tp, ours.fp, ours.fn, ours.idsw, ours.frag, ours.mt, ours.pt, ours.ml] == [
        clear[name] for name in ("CLR_TP", "CLR_FP", "CLR_FN", "IDSW", "Frag", "MT", "PT", "ML")
    ]
    assert ours.idtp == identity["IDTP"]
    np.testing.assert_array_equal(ours.hota_tp, hota["HOTA_TP"])
    np.testing.assert_allclose(
        [getattr(ours, name) for name in SHARES],
        [
            *(np.mean(hota[name]) for name in ("HOTA", "DetA", "AssA")),
            *(clear[name] for name in ("MOTA", "MOTP")),
            *(identity[name] for name in ("IDF1", "IDP", "IDR")),
        ],
        atol=1e-12,
    )


def test_counts_of_sequences_add_up_field_by_field():
    rng = np.random.default_rng(1)
    one, other = count(random_sightings(rng)), count(random_sightings(rng))
    total = one + other
    for field in fields(Counts):
        expected = getattr(one, field.name) + getattr(other, field.name)
        np.testing.assert_array_equal(getattr(total, field.name), expected)
    assert total.people == one.people + other.people


def test_one_person_followed_half_of_the_time_by_hand():
    """Four frames, of which a track covers two at a similarity of 0.7."""
    empty = np.zeros(0, int)
    seen = SequenceSimilarities(
        truth=[np.zeros(1, int)] * 4,
        results=[np.zeros(1, int)] * 2 + [empty] * 2,
        alike=[np.full((1, 1), 0.7)] * 2 + [np.zeros((1, 0))] * 2,
        people=1,
        tracks=1,
    )
    found = count(seen)
    assert (found.tp, found.fp, found.fn, found.idsw, found.pt) == (2, 0, 2, 0, 1)
    assert (found.mota, found.motp) == pytest.approx((0.5, 0.7))
    assert (found.idr, found.idp) == (0.5, 1.0)
    assert found.idf1 == pytest.approx(2 / 3)
    below = np.mean(ALPHAS < 0.7 + 1e-9)  # share of the thresholds that 0.7 meets
    assert found.deta == pytest.approx(below / 2)
    assert found.assa == pytest.approx(below / 2)
    assert found.hota == pytest.approx(below / 2)


def test_nobody_and_nothing_score_zero_without_a_division():
    found = count(SequenceSimilarities([], [], [], 0, 0))
    assert [getattr(found, name) for name in SHARES] == [0] * 8
