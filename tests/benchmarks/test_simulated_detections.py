"""Simulated scenes of walking people."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.benchmarks import simulated_detections
from streamvis.geometry import iou


@settings(max_examples=20)
@given(people=st.integers(2, 80), frames=st.integers(1, 4), seed=st.integers(0, 99))
def test_scenes_have_the_same_counts_in_each_frame_and_room_for_all(people, frames, seed):
    scene = simulated_detections.scene(people, frames, seed)
    assert scene.truth.shape == (frames, people, 4)
    assert scene.width * scene.height >= people * simulated_detections.ROOM_PX**2 * 0.99
    assert (scene.truth >= 0).all()
    assert (scene.truth <= np.tile([scene.width, scene.height], 2)).all()
    for truth, found in zip(scene.truth, scene.frames, strict=True):
        assert len(found.boxes) == len(found.scores) == simulated_detections.detections_of(people)
        assert (np.diff(found.scores) <= 0).all()
        detected = iou(truth, found.boxes.astype(float)).max(axis=1) > 0.4
        assert detected.sum() >= round(simulated_detections.DETECTED * people)


@settings(max_examples=10)
@given(people=st.integers(2, 40), seed=st.integers(0, 99))
def test_a_scene_is_the_same_for_the_same_seed_only(people, seed):
    boxes = [
        simulated_detections.scene(people, 2, s).frames[1].boxes for s in (seed, seed, seed + 1)
    ]
    np.testing.assert_array_equal(boxes[0], boxes[1])
    assert not np.array_equal(boxes[0], boxes[2])


def test_people_walk_and_turn_back_at_the_edge():
    truth = simulated_detections.scene(30, 500).truth
    moved = np.linalg.norm(np.diff(truth[..., :2], axis=0), axis=2)
    assert moved.max() < 5 * simulated_detections.SPEED_PX_S / simulated_detections.FPS
    assert np.median(moved.sum(axis=0)) > 5 * simulated_detections.ROOM_PX
