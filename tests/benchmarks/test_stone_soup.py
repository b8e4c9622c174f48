"""The tracker built of Stone-Soup's components keeps people, and forgets them after a second."""

import numpy as np
import pytest
from factories import detections

from streamvis.benchmarks.stone_soup import MEMORY_S, POINTS, stone_soup

pytest.importorskip("stonesoup")

FPS = 10.0


def walker(k: int) -> list[float]:
    return [50.0 + 3 * k, 50, 90 + 3 * k, 150]


def test_nobody_is_reported_before_anything_was_detected():
    follow = stone_soup(FPS, 0.5)
    for _ in range(3):
        found = follow(detections([]))
        assert (found.ids.shape, found.boxes.shape) == ((0,), (0, 4))


def test_a_walker_is_confirmed_at_the_third_detection_and_keeps_the_id():
    follow = stone_soup(FPS, 0.5)
    follow(detections([]))
    found = [follow(detections([walker(k)])) for k in range(12)]
    assert [len(one.ids) for one in found] == [0] * (POINTS - 1) + [1] * (13 - POINTS)
    assert {int(one.ids[0]) for one in found if len(one.ids)} == {0}
    np.testing.assert_allclose(found[-1].boxes[0], walker(11), atol=8)


def test_weak_detections_are_not_used():
    follow = stone_soup(FPS, 0.5)
    for k in range(6):
        boxes = [walker(k), [300, 50, 340, 150]]
        found = follow(detections(boxes, [0.9, 0.4]))
    assert len(found.ids) == 1
    assert found.boxes[0, 0] < 200


def test_a_person_gone_for_longer_than_a_second_is_somebody_else():
    follow = stone_soup(FPS, 0.5)
    for _ in range(6):
        before = follow(detections([walker(0)]))
    for _ in range(int(MEMORY_S * FPS) + 3):
        assert len(follow(detections([])).ids) == 0
    for _ in range(6):
        found = follow(detections([walker(0)]))
    assert len(before.ids) == len(found.ids) == 1
    assert found.ids[0] != before.ids[0]
