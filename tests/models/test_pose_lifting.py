"""Lifting of keypoints: what the network sees, what it returns, and placement on the ground."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamvis.calibration.ground_plane import Pinhole, pinhole
from streamvis.errors import WeightsError
from streamvis.evaluation.pose_3d import mpjpe, pa_mpjpe
from streamvis.messages import KEYPOINTS
from streamvis.models.pose_lifting import (
    ARCHITECTURES,
    LifterConfig,
    PoseLifterNetwork,
    lift,
    normalised,
)
from streamvis.models.pose_placement import place
from streamvis.models.weights import load_lifter, load_pose, save, shipped
from streamvis.synthetic.body import keypoints, pose
from streamvis.synthetic.scene import Camera, simulate
from streamvis.synthetic.walking_poses import _towards_hips, walking_poses


def calibrated(camera: Camera) -> Pinhole:
    """Return the camera as its ground plane tells it."""
    H = np.array(camera.homography).reshape(3, 3)
    found = pinhole(H / (H[2] @ [480, 540, 1]), (960, 540))
    assert found is not None
    return found


def people(seed: int, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 300, (count, 9, KEYPOINTS, 2))
    return points, rng.uniform(0.31, 1, (count, 9, KEYPOINTS))


@given(st.floats(0.1, 10), st.floats(-1000, 1000), st.integers(0, 99))
def test_place_and_size_in_the_picture_do_not_count(size, shift, seed):
    points, scores = people(seed)
    seen = normalised(points, scores)
    np.testing.assert_allclose(normalised(points * size + shift, scores), seen, atol=1e-3)
    weight, about = seen[..., 2:], seen[..., :2]
    np.testing.assert_allclose((weight * about).sum(2), 0, atol=1e-3)
    spread = (weight * about**2).sum((2, 3)) / weight.sum((2, 3))
    np.testing.assert_allclose(spread, 1, rtol=1e-4)


@given(st.integers(0, 99))
def test_points_that_are_not_sure_do_not_count(seed):
    points, scores = people(seed)
    scores[:, :, 5] = 0.29
    elsewhere = points.copy()
    elsewhere[:, :, 5] = 1e6
    seen = normalised(points, scores)
    np.testing.assert_array_equal(normalised(elsewhere, scores), seen)
    assert not seen[:, :, 5].any()
    assert np.isfinite(normalised(points, scores * 0)).all()


def test_poses_are_about_the_middle_of_the_hips():
    torch.manual_seed(0)
    network = PoseLifterNetwork(ARCHITECTURES["pose-3d"]).eval()
    found = lift(network, normalised(*people(0)))
    assert found.shape == (3, KEYPOINTS, 3)
    np.testing.assert_allclose(found[:, [11, 12]].mean(1), 0, atol=1e-6)
    parameters = sum(p.numel() for p in network.parameters())
    assert 200_000 < parameters < 400_000


def test_every_sample_counts():
    torch.manual_seed(0)
    network = PoseLifterNetwork(LifterConfig(width=16)).eval()
    x = torch.from_numpy(normalised(*people(0, 1))).requires_grad_()
    network(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum((0, 2, 3)) > 0).all()


def test_weights_are_loaded_by_path_and_those_of_other_networks_refused(tmp_path):
    torch.manual_seed(0)
    network = PoseLifterNetwork(LifterConfig(width=16)).eval()
    path = tmp_path / "a.safetensors"
    save(network, path, {})
    loaded = load_lifter(str(path))
    assert loaded.architecture == network.architecture
    x = normalised(*people(0))
    np.testing.assert_allclose(lift(loaded, x), lift(network, x), atol=2e-3)  # fp16 kernels
    with pytest.raises(WeightsError, match="lifts poses to 3D; expected a pose network"):
        load_pose(str(path))
    with pytest.raises(WeightsError, match="detects people; expected a lifter of poses"):
        load_lifter("person-lite")


@pytest.mark.parametrize("degrees", [5, 25, 40])
def test_true_poses_are_placed_where_people_stand(degrees):
    pitch = math.radians(degrees)
    camera = Camera(960, 540, height=1.5 + 9 * math.sin(pitch), pitch=pitch)
    (walk, *_) = [w for w in simulate(3, 6, 10, camera) if w.at(5.0) is not None]
    body = keypoints(walk.person, pose(walk.person, walk.at(5.0)))
    points, _ = camera.project(body)
    turned = 1.3 * _towards_hips(camera, body)  # of another size, which the picture corrects
    seen = calibrated(camera)
    scores = np.ones((1, KEYPOINTS))
    scores[0, 9] = 0.1  # a wrist is not sure, and wrong
    shown = points.copy()
    shown[9] += 50
    (placed,) = place(seen, turned[None], shown[None], scores)
    # the lower ankle is not exactly 8 cm high, which moves a person who is far from a low camera
    away = np.linalg.norm(body.mean(0) - seen.centre)
    assert np.abs(placed - body).max() < 0.1 * away / camera.height
    height = np.ptp(placed[:, 2]) / np.ptp(body[:, 2])
    assert height == pytest.approx(1, abs=0.06)


def test_who_has_no_feet_or_no_hips_has_no_place():
    walks = walking_poses(0, 1, 10.0)
    camera = Camera(960, 540)
    seen = calibrated(camera)
    scores = np.ones((3, KEYPOINTS))
    scores[1, [15, 16]] = 0
    scores[2, 11] = 0
    placed = place(seen, walks.world[:3], walks.points[:3, 0], scores)
    assert np.isnan(placed).all((1, 2)).tolist() == [False, True, True]


def test_walking_people_are_as_long_as_they_are():
    walks = walking_poses(1, 3, 10.0)
    assert walks.points.shape[1:] == (3, KEYPOINTS, 2)
    thighs = np.linalg.norm(walks.world[:, 11] - walks.world[:, 13], axis=1)
    assert 0.33 < thighs.min() < thighs.max() < 0.5
    np.testing.assert_allclose(walks.world[:, [11, 12]].mean(1), 0, atol=1e-9)
    # a pinhole that looks at the hips sees the points in the same directions
    ankles, shoulders = walks.world[:, 15:].mean(1), walks.world[:, 5:7].mean(1)
    assert (shoulders[:, 1] < 0).all()
    assert (ankles[:, 1] > 0).all()
    assert ankles[:, 2].mean() > shoulders[:, 2].mean()  # seen from above, feet are farther away


def test_the_shipped_lifter_is_better_than_the_mean_pose_on_true_places():
    walks = walking_poses(21, 9, 10.0)
    found = lift(load_lifter("pose-3d"), normalised(walks.points, np.ones(walks.points.shape[:3])))
    mean = np.broadcast_to(walks.world.mean(axis=0), walks.world.shape)
    assert mpjpe(found, walks.world).mean() < 0.6 * mpjpe(mean, walks.world).mean()
    assert pa_mpjpe(found, walks.world).mean() < 0.6 * pa_mpjpe(mean, walks.world).mean()
    card = shipped()["pose-3d"].with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith("# pose-3d\n\n**Experimental.**")
