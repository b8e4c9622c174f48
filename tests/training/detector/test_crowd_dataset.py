"""Boxes and masks follow their people through every augmentation."""

import json

import cv2
import numpy as np
import pytest

from streamvis.errors import DataError
from streamvis.training.detector.crowd_dataset import (
    CanvasAugment,
    Instance,
    batches,
    compose,
    cover,
    mosaic,
    paste,
    read_people,
)

SIZED = {"width": 300, "height": 200}
PLAIN = CanvasAugment(brightness=0, contrast=0, saturation=0, grey=0, blur=0, compress=0, dark=0)


@pytest.fixture
def people(tmp_path):
    """Two images: a red diamond on grey, with a crowd region and a box without mask."""
    folder = tmp_path / "images"
    folder.mkdir()
    image = np.full((200, 300, 3), 60, np.uint8)
    diamond = np.array([[100, 40], [140, 100], [100, 160], [60, 100]])
    cv2.fillPoly(image, [diamond], (0, 0, 255))
    rows = [
        {"bbox": [60, 40, 80, 120], "iscrowd": 0, "segmentation": [diamond.ravel().tolist()]},
        {"bbox": [200, 50, 40, 90], "iscrowd": 1, "segmentation": []},
        {"bbox": [250, 20, 30, 60], "iscrowd": 0, "segmentation": []},
    ]
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), image)
    ids = {1: "a.png", 2: "b.png"}
    document = {
        "images": [{"id": i, "file_name": n, "source": n[0], **SIZED} for i, n in ids.items()],
        "annotations": [{"id": 9, "image_id": i, "category_id": 1, **r} for i in ids for r in rows]
        + [{"id": 8, "image_id": 1, "category_id": 3, "bbox": [5, 5, 50, 30]}],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    return tmp_path


def load(people):
    return read_people(people)


@pytest.mark.parametrize("seed", range(12))
def test_the_mask_stays_on_the_red_pixels(people, seed):
    picture = load(people)[0]
    rng = np.random.default_rng(seed)
    image, targets = compose(picture, (256, 320), PLAIN, rng)
    red = (image[..., 0] > 150) & (image[..., 1] < 60)
    if not red.any():
        return
    index = int(targets.has_mask.nonzero()[0]) if targets.has_mask.any() else None
    if index is None:
        pytest.skip("the crop left too little of the person to learn from")
    x1, y1, x2, y2 = targets.extents[index].numpy()
    ys, xs = np.mgrid[0:256, 0:320] + 0.5
    cells_x = np.clip((xs - x1) / (x2 - x1) * 64, 0, 63).astype(int)
    cells_y = np.clip((ys - y1) / (y2 - y1) * 64, 0, 63).astype(int)
    inside = (xs > x1) & (xs < x2) & (ys > y1) & (ys < y2)
    drawn = targets.masks[index].numpy()[cells_y, cells_x].astype(bool) & inside
    assert (drawn & red).sum() / (drawn | red).sum() > 0.88
    visible = targets.boxes[index].numpy()
    np.testing.assert_allclose(visible, np.clip([x1, y1, x2, y2], 0, [320, 256] * 2), atol=1e-4)


def test_crowds_are_regions_to_ignore_and_boxes_may_lack_masks(people):
    first, crowd, bare = load(people)[0].instances  # and no car
    assert first.mask is not None
    assert first.mask.mean() == pytest.approx(0.5, abs=0.03)  # a diamond fills half its box
    assert crowd.ignore
    assert bare.mask is None


def test_batches_repeat_from_any_step(people):
    pictures = load(people)
    straight = batches(pictures, CanvasAugment(), 2, 7, 0)
    for _ in range(3):
        images, targets = next(straight)
    again, targets_again = next(batches(pictures, CanvasAugment(), 2, 7, 2))
    assert images.equal(again)
    assert all(a.boxes.equal(b.boxes) for a, b in zip(targets, targets_again, strict=True))


def test_annotations_that_are_not_coco_name_the_file(tmp_path):
    (tmp_path / "annotations.json").write_text("[]")
    with pytest.raises(DataError, match=r"annotations\.json is not in COCO's layout"):
        read_people(tmp_path)


def test_a_missing_image_is_named(people):
    (people / "images" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png"):
        compose(load(people)[0], (64, 64), PLAIN, np.random.default_rng(0))


def canvas_with(box: tuple[float, ...], mask: np.ndarray | None = None) -> Instance:
    return Instance(box, False, np.ones((64, 64), np.uint8) if mask is None else mask)


@pytest.mark.parametrize("seed", range(8))
def test_who_is_pasted_in_front_hides_exactly_what_it_covers(seed):
    image = np.full((256, 320, 3), 60, np.uint8)
    source = np.zeros((200, 100, 3), np.uint8)
    source[..., 0] = 255
    behind, donor = canvas_with((120, 60, 200, 200)), canvas_with((20, 30, 80, 180))
    rng = np.random.default_rng(seed)
    painted, (seen, front) = paste(image, [behind], source, donor, rng)
    red = (painted[..., 0] > 200) & (painted[..., 1] < 40)
    x1, y1, x2, y2 = np.clip(front.box, 0, [320, 256] * 2)
    assert red.sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.06)
    assert seen.box == behind.box  # whoever is hidden is still a whole person
    assert seen.mask is not None
    expected = 1 - red[60:200, 120:200].mean()
    assert seen.ignore == (expected < 0.2) or abs(expected - 0.2) < 0.03
    assert seen.mask.mean() == pytest.approx(expected, abs=0.03)


def test_nobody_is_pasted_where_nobody_is_or_blown_up():
    image = np.full((256, 320, 3), 60, np.uint8)
    donor = canvas_with((0, 0, 30, 60))
    rng = np.random.default_rng(0)
    for people in ([], [canvas_with((0, 0, 100, 250))], [canvas_with((0, 0, 9, 20))]):
        painted, left = paste(image, people, image, donor, rng)
        assert painted is image
        assert left is people


@pytest.mark.parametrize("seed", range(6))
def test_a_mosaic_keeps_people_in_their_quarter(people, seed):
    pictures = load(people)
    image, targets = mosaic([pictures[0]] * 4, (256, 320), PLAIN, np.random.default_rng(seed))
    red = (image[..., 0] > 150) & (image[..., 1] < 60)
    boxed = np.zeros_like(red)
    for box in (*targets.boxes.numpy(), *targets.ignored.numpy()):
        x1, y1, x2, y2 = np.round(box).astype(int)
        boxed[y1:y2, x1:x2] = True
    assert (red & ~boxed).sum() <= 0.03 * red.sum()  # half covered pixels at borders
    assert len(targets.boxes) == len(targets.masks) == len(targets.has_mask)
    rng = np.random.default_rng(seed)  # the corner point is the first that is drawn
    y, x = (round(side * rng.uniform(0.35, 0.65)) for side in (256, 320))
    for x1, y1, x2, y2 in targets.boxes.tolist():
        assert x2 <= x or x1 >= x
        assert y2 <= y or y1 >= y


@pytest.mark.parametrize("seed", range(8))
def test_what_covers_somebody_leaves_the_box_and_takes_the_mask(seed):
    image = np.full((256, 320, 3), 60, np.uint8)
    source = np.full((200, 300, 3), 200, np.uint8)
    person = canvas_with((120, 60, 200, 200))
    painted, (left,) = cover(image, [person], source, [], np.random.default_rng(seed))
    hidden = (painted[60:200, 120:200] > 150).all(2).mean()
    assert hidden > 0
    assert left.box == person.box
    assert left.mask is not None
    assert left.mask.mean() == pytest.approx(1 - hidden, abs=0.03)


def test_nothing_with_people_in_it_covers_anybody():
    image = np.full((256, 320, 3), 60, np.uint8)
    person = canvas_with((120, 60, 200, 200))
    everywhere = canvas_with((0, 0, 320, 256))
    painted, left = cover(image, [person], image, [everywhere], np.random.default_rng(0))
    assert painted is image
    assert left == [person]


def test_calm_is_nearer_to_what_a_camera_sees():
    wild = CanvasAugment(mosaic=0.25, cover=0.3, paste=0.6, zoom=(0.85, 2.4))
    reduced = wild.reduced()
    assert (reduced.mosaic, reduced.cover, reduced.paste) == (0, 0, 0.3)
    assert reduced.zoom == wild.zoom
