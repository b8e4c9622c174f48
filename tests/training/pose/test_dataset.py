"""Crops to train on: points stay on the pixels that they were labelled at."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keypoint_folders import write_folder

from streamvis.datasets.keypoints import FLIPPED, PersonKeypoints, read_keypoints
from streamvis.errors import DataError
from streamvis.training.pose import dataset
from streamvis.training.pose.dataset import PoseAugment, augmented, batches, cut, kept_crop

SIZE = (192, 128)
STILL = PoseAugment(
    scale=0,
    rotated=0,
    shift=0,
    flip=0,
    half_body=0,
    occlude=0,
    coarse=0,
    blur=0,
    compress=0,
    contrast=0,
    tint=0,
    brightness=0,
    gamma=0,
)


def dotted(path, points) -> tuple[np.ndarray, PersonKeypoints]:
    """A black picture with a white disc at every point."""
    picture = np.zeros((300, 300, 3), np.uint8)
    for x, y in points:
        cv2.circle(picture, (round(x), round(y)), 5, (255, 255, 255), -1)
    person = PersonKeypoints(
        path=path,
        picture=1,
        id=1,
        source="",
        box=np.array([60.0, 40, 220, 280]),
        area=1.0,
        points=np.asarray(points, np.float64),
        weights=np.ones(17),
        taught=False,
        ignore=False,
    )
    return picture, person


def grid_points(seed: int = 0) -> np.ndarray:
    x, y = np.meshgrid([80, 120, 160, 200], [60, 110, 160, 210, 260])
    points = np.column_stack([x.ravel(), y.ravel()])[:17].astype(float)
    return points[np.random.default_rng(seed).permutation(17)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999))
def test_every_point_lies_on_its_disc_however_the_crop_is_changed(seed, tmp_path_factory):
    picture, person = dotted(tmp_path_factory.getbasetemp() / "a.png", grid_points())
    kept = kept_crop(picture, person, SIZE)
    change = PoseAugment(occlude=0, coarse=0, blur=0, compress=0, contrast=0, tint=0, brightness=0)
    pixels, points, weights = augmented(kept, SIZE, change, np.random.default_rng(seed))
    assert pixels.shape == (*SIZE, 3)
    inside = (weights > 0) & (points >= 3).all(1) & (points < (SIZE[1] - 3, SIZE[0] - 3)).all(1)
    for x, y in points[inside]:
        assert pixels[int(y), int(x)].mean() > 120


def test_a_crop_without_changes_is_what_the_network_is_given(tmp_path):
    picture, person = dotted(tmp_path / "a.png", grid_points())
    kept = kept_crop(picture, person, SIZE)
    pixels, points, _ = augmented(kept, SIZE, STILL, np.random.default_rng(0))
    from streamvis.models.crops import crop
    from streamvis.models.pose import crop_regions

    region = crop_regions(person.box[None], SIZE)
    (expected,) = crop(picture, region, SIZE)
    assert np.abs(pixels.astype(int) - expected).mean() < 4
    scale = SIZE[0] / (region[0, 3] - region[0, 1])
    np.testing.assert_allclose(points, (person.points - region[0, :2]) * scale, atol=1e-3)


def test_a_mirrored_crop_has_left_and_right_exchanged(tmp_path):
    picture, person = dotted(tmp_path / "a.png", grid_points())
    kept = kept_crop(picture, person, SIZE)
    _, straight, _ = augmented(kept, SIZE, STILL, np.random.default_rng(0))
    mirror = dataset.PoseAugment(**{**_fields(STILL), "flip": 1.0})
    _, points, _ = augmented(kept, SIZE, mirror, np.random.default_rng(0))
    np.testing.assert_allclose(points[:, 1], straight[FLIPPED, 1], atol=1e-3)
    np.testing.assert_allclose(points[:, 0], SIZE[1] - straight[FLIPPED, 0], atol=1e-3)


def _fields(change: PoseAugment) -> dict:
    return {name: getattr(change, name) for name in change.__struct_fields__}


def test_half_a_body_fills_the_crop(tmp_path):
    picture, person = dotted(
        tmp_path / "a.png", np.array(grid_points())[np.argsort(grid_points()[:, 1])]
    )
    kept = kept_crop(picture, person, SIZE)
    halved = dataset.PoseAugment(**{**_fields(STILL), "half_body": 1.0})
    for seed in range(4):
        _, points, weights = augmented(kept, SIZE, halved, np.random.default_rng(seed))
        shown = points[weights > 0]
        assert 3 <= len(shown) < 17
        assert np.ptp(shown, axis=0).max() > 0.45 * SIZE[1]


def test_batches_repeat_from_any_step_and_draw_by_chance(tmp_path):
    people = read_keypoints(write_folder(tmp_path / "a", 3))
    chances = np.array([1.0, 0, 0, 0, 0, 1])
    crops = cut(people, SIZE, chances)
    run = batches(crops, 4, PoseAugment(), 0, 0)
    _, second = next(run), next(run)
    again = next(batches(crops, 4, PoseAugment(), 0, 1))
    for a, b in zip(second, again, strict=True):
        assert a.equal(b)
    assert second.pixels.shape == (4, *SIZE, 3)
    assert second.points.shape == (4, 17, 2)


def test_a_picture_that_is_absent_is_named(tmp_path):
    root = write_folder(tmp_path / "a", 2)
    people = read_keypoints(root)
    people[0].path.unlink()
    with pytest.raises(DataError, match=r"a-0000\.png does not exist"):
        cut(people, SIZE, np.ones(len(people)))
