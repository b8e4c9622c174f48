"""New people: the first frame, gaps without detections, and boxes that overlap."""

import numpy as np
import pytest
from factories import source
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config import Jipda
from streamvis.messages import Detections
from streamvis.tracking.newcomers import newborn_existence
from streamvis.tracking.parameters import TrackerParameters
from streamvis.tracking.tracker import Tracker

PARAMETERS = TrackerParameters()
APART = np.array([[0.0, 0, 40, 100], [100, 0, 140, 100], [200, 0, 240, 100]])
SCORES, ODDS = np.array([0.9, 0.8, 0.7]), np.array([2.0, 0.8, 0.0])

gaps = st.floats(0, 100) | st.just(np.inf)


def born(boxes, since_s):
    return newborn_existence(boxes, SCORES, ODDS, since_s, PARAMETERS)


def test_in_the_first_frame_everybody_is_new_and_the_score_decides():
    np.testing.assert_allclose(born(APART, np.inf), 1 / (1 + np.exp(-ODDS)))


@given(gaps, gaps)
def test_longer_without_detections_makes_new_people_more_probable(a, b):
    a, b = sorted((a, b))
    assert (born(APART, a) <= born(APART, b)).all()
    assert (born(APART, a) >= PARAMETERS.birth * SCORES).all()


@given(gaps)
def test_boxes_that_overlap_are_as_probable_as_from_frame_to_frame(since_s):
    boxes = APART.copy()
    boxes[1, [0, 2]] -= 80  # overlaps the first by a half
    usual = PARAMETERS.birth * SCORES
    np.testing.assert_array_equal(born(boxes, since_s)[:2], usual[:2])
    assert born(boxes, since_s)[2] == born(APART, since_s)[2]


@pytest.mark.parametrize(("after_s", "at_once"), [(0.1, False), (60.0, True)])
def test_who_is_found_after_a_long_gap_is_reported_at_once(after_s, at_once):
    tracker = Tracker(source("s", size=(640, 480)), Jipda())
    first = tracker.update(Detections.of([[100, 100, 140, 200]], [0.95]), 0)
    assert first.ids.tolist() == [1]
    media_us = round(after_s * 1e6)
    there = Detections.of([[100, 100, 140, 200], [400, 100, 440, 200]], [0.95, 0.95])
    assert (400 in tracker.update(there, media_us).boxes[:, 0].round()) is at_once


def test_a_weak_detection_of_the_first_frame_waits_for_another():
    tracker = Tracker(source("s", size=(640, 480)), Jipda())
    assert len(tracker.update(Detections.of([[100, 100, 140, 200]], [0.75]), 0)) == 0
    assert len(tracker.update(Detections.of([[100, 100, 140, 200]], [0.75]), 200_000)) == 1
