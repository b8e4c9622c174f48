import time
from itertools import pairwise

import numpy as np
import pytest

from streamvis import geometry
from streamvis.sources import open_source, resolve
from streamvis.synthetic.render import SceneTruth, SyntheticScene


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return SyntheticScene(seed=3, people=8, size=(320, 240), fps=5, seconds=8)


@pytest.fixture(scope="module")
def truths(scene) -> list[SceneTruth]:
    return [scene.truth(n) for n in range(scene.frames)]


def bounds(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def inside(box, width=320, height=240):
    return box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height


def test_the_same_seed_gives_the_same_bytes_in_any_order(scene):
    again = SyntheticScene(seed=3, people=8, size=(320, 240), fps=5, seconds=8)
    for n in (39, 0, 17):
        np.testing.assert_array_equal(again.picture(n), scene.picture(n))
        np.testing.assert_array_equal(again.truth(n).id_map, scene.truth(n).id_map)
    other = SyntheticScene(seed=4, people=8, size=(320, 240), fps=5, seconds=8)
    assert not np.array_equal(other.picture(17), scene.picture(17))


def test_a_longer_or_faster_showing_is_the_same_scene(scene):
    longer = SyntheticScene(seed=3, people=8, size=(320, 240), fps=10, seconds=9)
    for n in (0, 20):
        np.testing.assert_array_equal(longer.truth(2 * n).id_map, scene.truth(n).id_map)
        np.testing.assert_allclose(longer.truth(2 * n).ground, scene.truth(n).ground)


def test_pictures_may_be_drawn_on(scene):
    scene.picture(5)[:] = 0
    assert scene.picture(5).mean() > 50


def test_every_pixel_belongs_to_one_person_or_to_nobody(truths):
    for truth in truths:
        assert set(np.unique(truth.id_map)) <= {0, *truth.ids}
        assert len(set(truth.ids)) == len(truth.ids)
        assert (np.diff(truth.ids) > 0).all()
        assert ((truth.visibility >= 0) & (truth.visibility <= 1)).all()


def test_boxes_are_tight_around_what_they_bound(truths):
    for truth in truths:
        for id, box, seen, visibility in zip(
            truth.ids, truth.boxes, truth.visible_boxes, truth.visibility, strict=True
        ):
            mask = truth.mask(id)
            assert (visibility > 0) == mask.any()
            if visibility == 0:
                assert not seen.any()
                continue
            np.testing.assert_array_equal(seen, bounds(mask))
            assert (seen[:2] >= np.maximum(box[:2], 0)).all()
            assert (seen[2:] <= np.minimum(box[2:], [320, 240])).all()
            if visibility == 1:
                np.testing.assert_array_equal(seen, box)


def test_who_is_nearest_is_hidden_by_nobody(truths):
    whole = 0
    for truth in truths:
        nearest = np.argmin(truth.ground[:, 1])
        if inside(truth.boxes[nearest]):
            assert truth.visibility[nearest] == 1
            whole += 1
    assert whole > 5


def test_people_hide_each_other_and_come_and_go(truths):
    hidden = [((t.visibility < 0.8) & [inside(b) for b in t.boxes]).any() for t in truths]
    assert any(hidden)
    assert set(truths[0].ids) != set(truths[-1].ids)
    assert all(4 <= len(t.ids) <= 12 for t in truths)


def test_the_homography_is_that_of_the_camera(scene, truths):
    H = np.array(scene.homography).reshape(3, 3)
    for truth in truths:
        ground = truth.ground
        pixels, _ = scene.camera.project(np.column_stack([ground, np.zeros(len(ground))]))
        metres, _ = geometry.to_ground(H, pixels)
        np.testing.assert_allclose(metres, ground, atol=1e-9)


def test_feet_stand_where_the_truth_says(scene, truths):
    """The lower edge of a box is a shoe, which a stride takes away from the hips."""
    H = np.array(scene.homography).reshape(3, 3)
    off_m, off_px = [], []
    for truth in truths:
        whole = [inside(box) for box in truth.boxes]
        feet = geometry.foot(truth.boxes[whole])
        ground = truth.ground[whole]
        stood, _ = scene.camera.project(np.column_stack([ground, np.zeros(len(ground))]))
        off_m += np.linalg.norm(geometry.to_ground(H, feet)[0] - ground, axis=1).tolist()
        off_px += np.abs(feet - stood).max(axis=1).tolist()
    assert np.median(off_m) < 0.25
    assert np.percentile(off_m, 95) < 0.7
    assert np.median(off_px) < 2


def test_nobody_jumps(scene, truths):
    at: dict[int, tuple[int, np.ndarray]] = {}
    for n, truth in enumerate(truths):
        for id, ground in zip(truth.ids, truth.ground, strict=True):
            before = at.get(id)
            if before is not None and before[0] == n - 1:
                assert np.linalg.norm(ground - before[1]) * scene.fps < 3
            at[id] = (n, ground)


@pytest.mark.parametrize("size", [(32, 32), (641, 359), (120, 400)])
@pytest.mark.parametrize("people", [0, 1, 30])
def test_any_size_and_crowd(size, people):
    scene = SyntheticScene(seed=1, people=people, size=size, fps=2, seconds=2)
    for n in range(scene.frames):
        assert scene.picture(n).shape == (size[1], size[0], 3)
        assert scene.picture(n).dtype == np.uint8
        assert scene.truth(n).boxes.shape == (len(scene.truth(n).ids), 4)


def test_a_scene_is_a_source(scene):
    (spec,) = resolve(["synthetic:walkers?seed=3&people=8&size=320x240&fps=5&seconds=8"])
    source = open_source(spec, epoch=4)
    pictures = list(source)
    info = source.info
    assert (info.width, info.height, info.fps, info.frames, info.epoch) == (320, 240, 5.0, 40, 4)
    assert info.ground_plane == scene.homography
    assert [p.media_us for p in pictures] == [200_000 * n for n in range(40)]
    np.testing.assert_array_equal(pictures[11].pixels, scene.picture(11))
    assert source.ended == "eof"


def test_a_live_scene_takes_its_time():
    began_us = time.time_ns() // 1000
    (spec,) = resolve(["synthetic:?live=1&people=1&size=64x48&fps=50&seconds=0.2"])
    source = open_source(spec)
    pictures = list(source)
    assert source.info.live
    assert {p.clock for p in pictures} == {"arrival"}
    assert all(a.capture_us <= b.capture_us for a, b in pairwise(pictures))
    assert pictures[-1].capture_us - began_us >= pictures[-1].media_us
