"""Views of labelled streets show what their labels say."""

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from labelled_streets import CLASS_COLOURS, random_labels, write_random_street

from streamvis.datasets.classes import VOID
from streamvis.datasets.street import read_scenes
from streamvis.errors import DataError
from streamvis.training.scenes.street_views import StreetAugment, StreetDataset, view, views

STILL = StreetAugment(scales=(1, 1), mirror=0, light=0, tint=0, grey=0, rare=0, mix=0)


def load(folder: Path, lines: int = 96) -> StreetDataset:
    classes, scenes = read_scenes(folder)
    return StreetDataset(scenes, classes, lines)


def test_labels_of_another_size_are_told(tmp_path):
    classes, scenes = read_scenes(write_random_street(tmp_path))
    cv2.imwrite(str(scenes[0].label), random_labels(0, (48, 64)))
    with pytest.raises(DataError, match=r"0\.png has 64×48 pixels, its image 128×96"):
        StreetDataset(scenes, classes, 96)


def test_labels_that_say_nothing_are_told(tmp_path):
    classes, scenes = read_scenes(write_random_street(tmp_path))
    for scene in scenes:
        cv2.imwrite(str(scene.label), np.full((96, 128), 11, np.uint8))
    with pytest.raises(DataError, match="no pixel of 3 images has a class of camvid-11"):
        StreetDataset(scenes, classes, 96)


def test_pictures_are_brought_to_the_height_that_is_learnt_from(tmp_path):
    streets = load(write_random_street(tmp_path), 48)
    assert all(p.shape == (48, 64, 3) for p in streets.pictures)
    assert all(x.shape == (48, 64) for x in streets.labels)
    assert streets.pixels.sum() == sum(int((x != VOID).sum()) for x in streets.labels)
    assert np.array_equal(
        streets.labels[0], np.where(random_labels(0) == 11, VOID, random_labels(0))[::2, ::2]
    )


@pytest.fixture
def streets(tmp_path) -> StreetDataset:
    return load(write_random_street(tmp_path, 4))


def test_a_still_view_is_the_picture(streets):
    pixels, labels = view(streets, 1, (96, 128), STILL, np.random.default_rng(0))
    # a stretch of up to a tenth is always there: away from seams, colours tell classes
    assert told(pixels, labels) > 0.99


def told(pixels: np.ndarray, labels: np.ndarray) -> float:
    """Share of pixels, three or more from any seam, that have the colour of their label."""
    known = np.zeros(labels.shape, np.uint8)
    known[3:-3, 3:-3] = 1  # at the end of a picture its colours fade
    known &= cv2.erode((labels != VOID).astype(np.uint8), np.ones((7, 7)))
    for step in ((0, 1), (1, 0)):
        seam = labels != np.roll(labels, step, (0, 1))
        known &= 1 - cv2.dilate(seam.astype(np.uint8), np.ones((7, 7)))
    inside = known.astype(bool)
    assert inside.sum() > 200
    return float((pixels[inside] == CLASS_COLOURS[labels[inside]]).all(-1).mean())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_done_to_a_view_its_labels_go_along(seed, streets):
    how = StreetAugment(light=0, tint=0, grey=0, mix=1)
    pixels, labels = view(streets, seed % 4, (96, 128), how, np.random.default_rng(seed))
    assert pixels.shape == (96, 128, 3)
    assert told(pixels, labels) > 0.99


@pytest.mark.parametrize("seed", range(4))
def test_labels_of_a_mirrored_view_are_the_labels_mirrored(seed, streets):
    straight, mirrored = (
        view(streets, 0, (96, 128), msgspec.structs.replace(STILL, mirror=m), rng)
        for m, rng in ((0.0, np.random.default_rng(seed)), (1.0, np.random.default_rng(seed)))
    )
    for one, other in zip(straight, mirrored, strict=True):
        # x becomes W − x, of which the first column has none
        assert np.array_equal(one[:, 1:], other[:, :0:-1])
    assert not np.array_equal(straight[1], mirrored[1])


def test_views_that_reach_beyond_the_picture_teach_nothing_there(streets):
    how = msgspec.structs.replace(STILL, scales=(0.5, 0.5))
    pixels, labels = view(streets, 0, (96, 128), how, np.random.default_rng(0))
    outside = cv2.erode((pixels == 127).all(-1).astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert outside.mean() > 0.5
    assert (labels[outside] == VOID).all()


def test_light_changes_no_label(streets):
    lit = StreetAugment(mix=0, grey=1)
    pixels, labels = view(streets, 0, (96, 128), lit, np.random.default_rng(1))
    plain = msgspec.structs.replace(lit, light=0.0, tint=0.0, grey=0.0)
    _, same = view(streets, 0, (96, 128), plain, np.random.default_rng(1))
    assert np.array_equal(labels, same)
    assert (pixels == pixels[..., :1]).all()


def test_views_are_the_same_after_a_stop_and_use_all_pictures(streets):
    whole = views(streets, (64, 64), 2, StreetAugment(), 7, 0)
    first = [next(whole) for _ in range(6)]
    later = views(streets, (64, 64), 2, StreetAugment(), 7, 4)
    for expected in first[4:]:
        found = next(later)
        assert torch.equal(found.pixels, expected.pixels)
        assert torch.equal(found.labels, expected.labels)
    assert not torch.equal(first[0].pixels, first[2].pixels)
    seen = []
    still = msgspec.structs.replace(STILL, rare=0.0)
    batches = views(streets, (96, 128), 2, still, 7, 0)
    for _ in range(2):
        for labels in next(batches).labels.numpy():
            fits = [(labels == truth).mean() for truth in streets.labels]
            seen.append(int(np.argmax(fits)))
    assert sorted(seen) == [0, 1, 2, 3]  # each once before any comes again


def test_rare_classes_are_sought(tmp_path):
    folder = write_random_street(tmp_path, 1)
    truth = np.zeros((96, 128), np.uint8)
    truth[:, 64:] = 1
    truth[80:84, 100:104] = 9
    cv2.imwrite(str(folder / "labels" / "0.png"), truth)
    streets = load(folder)
    assert streets.rare.tolist() == [9]  # of those that are there
    close = msgspec.structs.replace(STILL, scales=(2.0, 2.0))

    def having(how: StreetAugment) -> int:
        rngs = (np.random.default_rng(seed) for seed in range(40))
        return sum((view(streets, 0, (32, 32), how, rng)[1] == 9).any() for rng in rngs)

    assert having(msgspec.structs.replace(close, rare=1.0)) > 2 * having(close)
