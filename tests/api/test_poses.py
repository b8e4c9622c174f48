"""The estimator answers as the stage `pose` does with tracks, and picture by picture without."""

import msgspec
import numpy as np
import pytest
from factories import packet, source, tracks
from walkers import NETWORK, SCENE, assert_same

import streamvis
from streamvis.config import PoseEstimation
from streamvis.errors import DataError, UsageError
from streamvis.stages.protocol import Site

FPS, FRAMES, SIZE = 5, 6, (320, 240)
PICTURES = [SCENE.picture(n) for n in range(FRAMES)]
FOUND = [tracks(SCENE.truth(n).ids, SCENE.truth(n).visible_boxes) for n in range(FRAMES)]
SETTINGS = {"min_height": 20.0, "min_score": 0.0, **NETWORK}


@pytest.fixture(scope="module")
def estimate(pose_weights, one_thread):
    return streamvis.PoseEstimator(pose_weights, **SETTINGS)


@pytest.mark.parametrize("interval_s", [0.2, 0.4])
def test_smoothed_poses_are_the_stages(pose_weights, one_thread, interval_s):
    given = {**SETTINGS, "interval_s": interval_s}
    stage = PoseEstimation(weights=pose_weights, **given).build(
        Site(device="cpu", pixels=lambda frame: PICTURES[frame.seq])
    )
    stage.begin(source(size=SIZE, fps=FPS), None)
    estimate = streamvis.PoseEstimator(pose_weights, FPS, **given)
    timed = streamvis.PoseEstimator(pose_weights, **given)
    estimated = []
    for n, part in enumerate(FOUND):
        (expected,) = stage([packet(n, part, fps=FPS, size=SIZE)])
        poses = estimate(PICTURES[n], part)
        assert_same(poses, expected)
        assert_same(timed(PICTURES[n], part, time_s=n / FPS), expected)
        estimated.append(bool(poses.sampled.any()))
    assert estimated == [n % round(interval_s * FPS) == 0 for n in range(FRAMES)]


def test_pictures_on_their_own(estimate):
    boxes = FOUND[0].boxes
    poses = estimate(PICTURES[0], boxes)
    poses.check()
    assert poses.ids.tolist() == list(range(len(boxes)))
    assert poses.sampled.all()
    assert poses.postures.shape == (len(boxes), 4)
    again = estimate(PICTURES[0], streamvis.Detections.of(boxes, [1.0] * len(boxes)))
    assert_same(poses, again)
    alone = estimate(PICTURES[0], boxes[1:2].tolist())
    np.testing.assert_allclose(alone.points, poses.points[1:2], atol=0.05)
    assert len(estimate(PICTURES[0], [])) == 0


def test_what_is_no_input_is_refused(estimate, pose_weights, tmp_path):
    nowhere = msgspec.structs.replace(FOUND[0], boxes=FOUND[0].boxes * np.nan)
    with pytest.raises(DataError, match="expected four finite numbers"):
        estimate(PICTURES[0], nowhere, time_s=0)
    with pytest.raises(DataError, match="expected Tracks, Detections or boxes"):
        estimate(PICTURES[0], "boxes")
    with pytest.raises(DataError, match="row 0 is"):
        estimate(PICTURES[0], [[50, 10, 20, 90]])
    with pytest.raises(DataError, match=r"^PoseEstimator: the picture"):
        estimate(PICTURES[0] / 255, FOUND[0])
    with pytest.raises(UsageError, match="the time of the frame is unknown"):
        estimate(PICTURES[0], FOUND[0])
    with pytest.raises(UsageError, match="time_s and motion are of a frame with tracks"):
        estimate(PICTURES[0], FOUND[0].boxes, time_s=1.0)
    with pytest.raises(UsageError, match="interval_s"):
        streamvis.PoseEstimator(pose_weights, interval_s=0)
