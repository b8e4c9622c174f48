"""The adapters of other trackers keep the protocol."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from streamvis.benchmarks import peers, simulated_detections, tracker_speed
from streamvis.benchmarks.tracker_protocol import ReportedTracks
from streamvis.geometry import iou
from streamvis.messages import Detections

FPS = 10.0


def detections(boxes, scores):
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.ones(len(scores), np.int32),
        masks=np.zeros((0, 0, 0), np.uint8),
    )


def walk(follow, frames=12):
    """Two people walk apart in plain view; what is reported in the end."""
    for k in range(frames):
        boxes = [[50 - k, 50, 90 - k, 150], [250 + k, 60, 290 + k, 160]]
        found = follow(detections(boxes, [0.9, 0.8]))
        assert isinstance(found, ReportedTracks)
        assert found.boxes.shape == (len(found.ids), 4)
        yield np.array(boxes, float), found


def check_contract(follow):
    *_, (_, before), (boxes, after) = walk(follow)
    assert sorted(before.ids) == sorted(after.ids)
    assert len(set(after.ids.tolist())) == 2
    assert np.issubdtype(after.ids.dtype, np.integer)
    assert iou(boxes, np.asarray(after.boxes, float)).max(axis=1).min() > 0.7
    assert follow(detections([], [])).boxes.shape[1] == 4


@pytest.mark.parametrize("name", peers.PEERS)
def test_the_peers_that_are_here_follow_two_people(name):
    here, missing = peers.installed()
    if name in missing:
        pytest.skip(f"{name} is not installed: {missing[name]}")
    check_contract(here[name].start(FPS, 0.5))


def test_ours_keeps_the_contract():
    scene = simulated_detections.scene(4, 1)
    check_contract(tracker_speed.our_tracker(25, (scene.width, scene.height)))


class Toy:
    """Stands for the trackers of `trackers`: everyone has the number of their row, or none."""

    def __init__(self, **settings):
        self.settings = settings

    def update(self, given):
        given.tracker_id = np.where(given.xyxy[:, 0] < 200, np.arange(len(given.xyxy)), -1)
        return given


def test_sort_is_not_shown_weak_detections_and_bytetrack_is(monkeypatch):
    toys = ModuleType("trackers")
    toys.SORTTracker = toys.ByteTrackTracker = Toy
    supervised = ModuleType("supervision")
    supervised.Detections = SimpleNamespace
    monkeypatch.setitem(sys.modules, "trackers", toys)
    monkeypatch.setitem(sys.modules, "supervision", supervised)
    given = detections([[0, 0, 9, 9], [300, 0, 309, 9], [20, 0, 29, 9]], [0.9, 0.8, 0.1])
    assert peers.sort(FPS, 0.5)(given).ids.tolist() == [0]
    assert peers.bytetrack(FPS, 0.5)(given).ids.tolist() == [0, 2]


def test_norfair_is_not_shown_weak_detections_and_lost_ones_are_not_reported(monkeypatch):
    class Tracker:
        def __init__(self, distance, **settings):
            assert 0 <= settings["initialization_delay"] < settings["hit_counter_max"]

        def update(self, given):
            return [
                SimpleNamespace(id=i, estimate=one.points, live_points=np.full(2, i != 1))
                for i, one in enumerate(given)
            ]

    toy = ModuleType("norfair")
    toy.Tracker, toy.Detection = Tracker, SimpleNamespace
    monkeypatch.setitem(sys.modules, "norfair", toy)
    boxes = np.arange(16).reshape(4, 4)
    found = peers.norfair(0.5, 0.5)(detections(boxes, [0.9, 0.8, 0.7, 0.1]))
    assert found.ids.tolist() == [0, 2]
    np.testing.assert_array_equal(found.boxes, boxes[[0, 2]])
