"""`streamvis.PoseLifter`: poses of tracks in, metres out, on the ground where it is calibrated."""

import json

import numpy as np
import pytest
import torch

import streamvis
from streamvis.errors import DataError, UsageError
from streamvis.messages import KEYPOINTS, Poses
from streamvis.models.pose_lifting import (
    LifterConfig,
    PoseLifterNetwork,
    TrackHistory,
    normalised,
)
from streamvis.models.weights import save
from streamvis.synthetic.scene import Camera


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save(PoseLifterNetwork(LifterConfig(width=16)).eval(), path, {})
    return path


def poses(ids: list[int], seed: int = 0, score: float = 0.9) -> Poses:
    rng = np.random.default_rng(seed)
    n = len(ids)
    return Poses(
        ids=np.array(ids, np.int64),
        points=rng.uniform(100, 400, (n, KEYPOINTS, 2)).astype(np.float32),
        scores=np.full((n, KEYPOINTS), score, np.float32),
        covariances=np.tile(np.eye(2, dtype=np.float32), (n, KEYPOINTS, 1, 1)),
    )


def test_samples_are_interpolated_to_a_steady_rate():
    history = TrackHistory(LifterConfig(rate_hz=10))
    first, last = poses([4, 7], 1), poses([4], 2)
    history.add(first.ids, first.points, first.scores, 0)
    history.add(last.ids, last.points, last.scores, 400_000)
    share = np.clip(np.arange(-4, 5) / 4, 0, 1)[:, None, None]  # 800 ms back to now
    points = (1 - share) * first.points[0] + share * last.points[0]
    expected = normalised(points, np.full((9, KEYPOINTS), 0.9))
    np.testing.assert_allclose(history.samples(np.array([4]))[0], expected, atol=1e-4)


def test_a_point_that_one_frame_does_not_show_is_that_of_the_other():
    history = TrackHistory(LifterConfig(rate_hz=10))
    first, last = poses([4], 1), poses([4], 2)
    first.scores[0, 5] = last.scores[0, 6] = 0.0
    history.add(first.ids, first.points, first.scores, 0)
    history.add(last.ids, last.points, last.scores, 200_000)
    middle = history.samples(np.array([4]))[0, -2]
    assert middle[5, 2] == pytest.approx(0.9)
    assert middle[6, 2] == pytest.approx(0.9)
    assert history.samples(np.array([4]))[0, -1, 6, 2] == 0


def test_tracks_that_are_gone_are_forgotten():
    history = TrackHistory(LifterConfig(rate_hz=10))
    for step in range(40):
        now = poses([1, 2] if step < 5 else [1], step)
        history.add(now.ids, now.points, now.scores, 100_000 * step)
    assert set(history._tracks) == {1}
    assert len(history._tracks[1]) <= 10


def test_poses_are_lifted_and_placed(weights, tmp_path):
    camera = Camera(640, 480)
    plane = tmp_path / "plane.json"
    H = np.array(camera.homography).reshape(3, 3)
    plane.write_text(json.dumps({"image_foot_to_world_m": (H / H[2, 1]).tolist()}))
    lifter = streamvis.PoseLifter(weights, fps=5, size=(640, 480), ground_plane=plane)
    found = lifter.update(poses([3, 9]))
    assert found.ids.tolist() == [3, 9]
    assert found.points.shape == found.placed.shape == (2, KEYPOINTS, 3)
    np.testing.assert_allclose(found.points[:, [11, 12]].mean(1), 0, atol=1e-6)
    assert np.isfinite(found.placed).all()
    assert len(lifter.update(poses([]))) == 0
    alone = streamvis.PoseLifter(weights, fps=5).update(poses([3, 9]))
    assert alone.placed is None
    np.testing.assert_array_equal(alone.points, found.points)


def test_wrong_use_is_named(weights, tmp_path):
    lifter = streamvis.PoseLifter(weights)
    with pytest.raises(UsageError, match="the time of the frame is unknown"):
        lifter.update(poses([1]))
    with pytest.raises(DataError, match="expected ascending"):
        lifter.update(poses([2, 1]), time_s=0)
    with pytest.raises(DataError, match="PoseLifter: found a ndarray, expected Poses"):
        lifter.update(np.zeros((1, KEYPOINTS, 2)), time_s=0)
    lifter.update(poses([1]), time_s=1)
    with pytest.raises(DataError, match="not after the frame before it"):
        lifter.update(poses([1]), time_s=1)
    plane = tmp_path / "plane.json"
    plane.write_text(json.dumps({"image_foot_to_world_m": np.diag([0.01, -0.01, 1]).tolist()}))
    with pytest.raises(UsageError, match="ground_plane needs size"):
        streamvis.PoseLifter(weights, ground_plane=plane)
    with pytest.raises(UsageError, match="fits no camera with square pixels"):
        streamvis.PoseLifter(weights, ground_plane=plane, size=(640, 480))
