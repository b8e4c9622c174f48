"""Scores of zones and lines, against cases computed by hand."""

import numpy as np
import pytest

from streamvis.evaluation.zone_scores import calibration_error, pooled, reliability, score_zones
from streamvis.evaluation.zones import CountedCrossing, CountedVisit, ZoneRecord

LEFT, RIGHT = "right_to_left", "left_to_right"


def record(crossings=(), visits=(), people=((0,),), mean=None, p=None):
    people = np.array(people)
    return ZoneRecord(
        [CountedCrossing(*one) for one in crossings],
        [CountedVisit(*one) for one in visits],
        people,
        np.array(people if mean is None else mean, float),
        np.array(people > 0 if p is None else p, float),
    )


def test_a_perfect_record():
    truth = record([(0, LEFT, 1.0)], [(0, 1.0, 3.0)], [[1], [0]])
    scores = score_zones(truth, truth, lines=1)
    assert (scores.lines.error, scores.zones.error, scores.events.f1) == (0, 0, 1)
    assert (scores.dwell_s, scores.dwell_total, scores.calibration_error) == (0, 0, 0)


def test_counts_are_compared_by_line_and_direction():
    truth = record([(0, LEFT, 1), (0, LEFT, 2), (1, RIGHT, 3), (1, RIGHT, 4)])
    found = record([(0, LEFT, 1), (0, RIGHT, 2), (1, RIGHT, 3), (1, RIGHT, 4), (1, RIGHT, 9)])
    scores = score_zones(truth, found, lines=2)
    assert (scores.lines.true, scores.lines.counted, scores.lines.off) == (4, 5, 3)
    assert scores.lines.error == 0.75
    assert scores.line_sums.error == 0.25  # line 0: 2 of 2, line 1: 3 of 2


def test_events_match_in_time_as_many_as_possible():
    truth = record([(0, LEFT, 1.0), (0, LEFT, 1.4), (0, RIGHT, 5.0)])
    found = record([(0, LEFT, 1.3), (0, LEFT, 1.8), (0, LEFT, 5.0), (1, LEFT, 1.0)])
    cross = score_zones(truth, found, lines=2).cross
    assert (cross.found, cross.false, cross.missed) == (2, 2, 1)
    assert cross.f1 == pytest.approx(4 / 7)


def test_an_exit_at_the_end_of_the_sequence_is_no_event():
    truth = record([], [(0, 1.0, 3.0, False)])
    scores = score_zones(truth, record([], [(0, 1.2, 3.0)]), lines=0)
    assert (scores.enter.found, scores.exit.false, scores.exit.missed) == (1, 1, 0)


def test_dwell_of_visits_that_overlap():
    truth = record([], [(0, 0.0, 10.0), (0, 20.0, 30.0), (0, 50.0, 51.0)])
    found = record([], [(0, 1.0, 10.0), (0, 20.0, 33.0), (0, 60.0, 62.0)])
    scores = score_zones(truth, found, lines=0)
    assert (scores.dwell_s, scores.dwell_matched) == (2.0, 2)
    assert scores.dwell_total == pytest.approx(3 / 21)  # 24 s of 21
    assert (scores.zones.error, scores.enter.f1) == (0, pytest.approx(1 / 3))


def test_calibration():
    p = np.array([0.05] * 20 + [0.75] * 4 + [1.0])
    happened = np.array([False] * 20 + [True, True, True, False] + [True])
    bins = reliability(p, happened)
    assert [one.number for one in bins] == [20, 0, 0, 0, 0, 0, 0, 4, 0, 1]
    assert (bins[7].predicted, bins[7].observed) == (0.75, 0.75)
    assert bins[1].predicted is None
    assert calibration_error(bins) == pytest.approx(20 / 25 * 0.05)


def test_expected_numbers_are_compared_with_true_ones():
    truth = record(people=[[0], [2], [1], [1]])
    found = record(people=[[0], [2], [1], [1]], mean=[[0.0], [1.5], [1.5], [0.8]])
    scores = score_zones(truth, found, lines=0)
    assert scores.people_error == pytest.approx((0.5 + 0.5 + 0.2) / 4)
    assert scores.people_bias == pytest.approx(-0.2 / 4)
    table = {one.high: (one.number, one.observed) for one in scores.people_table}
    assert table[2.5] == (2, 1.5)


def test_records_are_pooled():
    one = record([(0, LEFT, 1.0)])
    none = record()
    assert pooled([(one, none, 1), (none, one, 1)]).lines.off == 2
    assert pooled([(one, none, 1), (none, one, 1)]).lines.error == 2
    assert score_zones(none, none, lines=1).lines.error == 0
    assert score_zones(none, one, lines=1).lines.error == 1
