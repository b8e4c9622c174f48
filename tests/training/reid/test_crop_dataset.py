"""Crops of people: cut once, changed within bounds, and batches whose relations are known."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labelled_people import UNCHANGED, coloured, sequence

from streamvis.errors import DataError, StreamvisError
from streamvis.models.crops import crop
from streamvis.training.reid.crop_dataset import (
    BORDER,
    BatchComposition,
    CropAugment,
    CropDataset,
    augmented,
    batches,
    composed,
    gather,
    recoloured,
    relations,
    swap_margins,
    taught,
)
from streamvis.training.reid.identity_boxes import read_identity_boxes


def test_the_cache_is_read_when_it_fits_and_made_anew_when_not(tmp_path):
    found = [*read_identity_boxes(sequence(tmp_path / "a", "walk"), 0.2)]
    cache = tmp_path / "people"
    first = gather(found, (32, 16), 3, cache)
    for picture in (tmp_path / "a/img1").iterdir():
        picture.unlink()
    again = gather(found, (32, 16), 3, cache)
    np.testing.assert_array_equal(again.crops, first.crops)
    with pytest.raises(StreamvisError):
        gather(found, (64, 32), 3, cache)


def test_an_unchanged_crop_is_the_box_without_its_border():
    large = np.zeros((40, 20, 3), np.uint8)
    large[4:36, 2:18] = np.random.default_rng(0).integers(256, size=(32, 16, 3))
    out = augmented(large, (32, 16), UNCHANGED, np.random.default_rng(0))
    assert np.abs(out.astype(int) - large[4:36, 2:18]).max() <= 1


def test_a_surrounding_changes_margins_only():
    crops = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 40, 3), np.uint8)
    before = crops.copy()
    swap_margins(crops, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(crops[:, :, 10:30], before[:, :, 10:30])
    changed_rows = (crops != before).any((1, 3))  # (10, 40)
    assert changed_rows[:, :10].any()
    assert changed_rows[:, 30:].any()
    swap_margins(before, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(before[:, 0, 0, 0], np.arange(10))


def test_who_is_compared_is_known_and_batches_repeat():
    people = coloured(8, 3)
    mixture = BatchComposition(people=4, views=2, neighbours=1, others=3)
    one, two = (next(batches(people, (32, 16), mixture, CropAugment(), 0, 5)) for _ in range(2))
    torch.testing.assert_close(one.crops, two.crops)
    assert one.crops.shape == (11, 32, 16, 3)
    assert one.same[:8].sum() >= 16
    assert not one.same[8:].any()
    assert not one.other[8:].any()
    assert not (one.same & one.other).any()


class Brightness:
    """A teacher who tells mean colours."""

    path = Path("brightness.onnx")
    size = (20, 10)
    outputs = 3

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        means = crops.astype(np.float32).mean((1, 2)) + 1
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_a_teacher_is_asked_about_the_crops_that_the_student_gets():
    people, mixture = coloured(8, 3), BatchComposition(people=3, views=2, neighbours=1, others=4)
    teacher, change = Brightness(), CropAugment(tint=0.3, erase=1.0)
    batch = next(
        batches(people, (20, 10), mixture, change, 0, 0, wardrobes=3, teachers=[teacher, teacher])
    )
    assert batch.teacher_vectors.shape == (10, 2, 3)
    expected = torch.from_numpy(teacher(batch.crops.numpy()))
    for number in range(2):
        torch.testing.assert_close(batch.teacher_vectors[:, number], expected)
    alone = next(batches(people, (20, 10), mixture, change, 0, 0, wardrobes=3))
    torch.testing.assert_close(alone.crops, batch.crops)
    assert alone.teacher_vectors.shape[1] == 0


def test_crops_are_enlarged_to_the_size_of_the_teacher():
    crops = np.random.default_rng(0).integers(256, size=(3, 10, 5, 3), dtype=np.uint8)
    seen = []

    class Noting(Brightness):
        def __call__(self, crops: np.ndarray) -> np.ndarray:
            seen.append(crops)
            return super().__call__(crops)

    taught([Noting()], crops)
    assert seen[0].shape == (3, 20, 10, 3)
    assert seen[0].mean() == pytest.approx(crops.mean(), abs=2)


@given(person=st.integers(0, 99), wardrobe=st.integers(1, 9))
def test_a_wardrobe_changes_all_crops_of_a_person_alike_and_greys_stay_grey(person, wardrobe):
    rng = np.random.default_rng(person)
    grey = np.full((20, 10, 3), 90, np.uint8)
    coloured = rng.integers(256, size=(20, 10, 3), dtype=np.uint8)
    assert np.ptp(recoloured(grey, person, wardrobe).astype(int), axis=2).max() <= 1
    once, again = (recoloured(coloured, person, wardrobe) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert (once != recoloured(coloured, person, wardrobe + 1)).any()
    np.testing.assert_array_equal(recoloured(coloured, person, 0), coloured)


def test_a_stranger_is_one_above_and_another_below():
    crops = np.stack([np.full((40, 20, 3), shade, np.uint8) for shade in (10, 100, 200)])
    made = composed(crops, 30)
    assert set(np.unique(made[:, :3])) <= {9, 10, 99, 100, 199, 200}
    assert set(np.unique(made[:, 37:])) <= {9, 10, 99, 100, 199, 200}
    assert (made[:, 5, 5, 0] != made[:, 35, 5, 0]).any()
    np.testing.assert_array_equal(made, composed(crops, 30))


def test_relations_within_a_source_are_what_is_sure():
    apart = [np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool), np.zeros((1, 1), bool)]
    people = CropDataset(
        np.zeros((5, 8, 4, 3), np.uint8),
        np.array([0, 1, 2, 3, 0]),
        np.array([0, 0, 0, 1, 0]),
        apart,
        np.array([0, 3, 4]),
    )
    same, other = relations(people, np.arange(5))
    assert same.tolist()[0] == [True, False, False, False, True]
    assert other.tolist()[0] == [False, True, False, True, False]
    assert other.tolist()[2] == [False, False, False, True, False]  # perhaps 0 or 1 again
    assert other.tolist()[3] == [True, True, True, False, True]


def test_people_with_one_crop_each_cannot_be_compared():
    alone = coloured(3, 1)
    with pytest.raises(DataError, match="fewer than two people have two crops"):
        next(batches(alone, (32, 16), BatchComposition(), CropAugment(), 0, 0))


def test_a_cache_whose_crops_were_not_finished_is_made_anew(tmp_path):
    found = read_identity_boxes(sequence(tmp_path / "a", "walk", people=2, frames=3), 0.1)
    cache = tmp_path / "caches/people"
    first = gather(found, (32, 16), 0, cache).crops.copy()
    (cache / "crops.npy").write_bytes(b"half")
    (cache / "key.txt").unlink()  # which is written last
    again = gather(found, (32, 16), 0, cache)
    np.testing.assert_array_equal(again.crops, first)


def test_crops_of_all_sources_are_boxes_with_a_border_and_people_are_numbered_through(tmp_path):
    """The first source is seen from its second picture on."""
    folders = [sequence(tmp_path / name, name, people=2, frames=3) for name in "ab"]
    truth = folders[0] / "gt/gt.txt"
    truth.write_text("\n".join(truth.read_text().splitlines()[2:]))
    sources = read_identity_boxes(tmp_path, 0.1)
    people = gather(sources, (32, 16), 3, tmp_path / "people")
    assert people.person.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 4, 5, 6]
    assert people.source.tolist() == [0] * 4 + [1] * 6 + [2] * 3
    assert people.first.tolist() == [0, 2, 4, 7]
    assert people.crops.shape == (13, 40, 20, 3)
    row = 0
    for one in sources:
        pictures = dict(one.pictures())
        for frame, box in zip(one.frames, one.boxes, strict=True):
            side = np.tile(box[2:] - box[:2], 2)
            wide = box + BORDER * side * [-1, -1, 1, 1]
            expected = crop(pictures[int(frame)], wide[None], (40, 20))[0]
            np.testing.assert_array_equal(people.crops[row], expected)
            row += 1


def test_boxes_beyond_the_end_of_the_video_are_refused_with_the_last_frame(tmp_path):
    folder = sequence(tmp_path / "a", "walk", people=2, frames=4)
    sources = read_identity_boxes(folder, 0.1)
    (folder / "img1/000004.png").unlink()
    with pytest.raises(DataError, match="walk has boxes up to frame 4, but fewer pictures"):
        gather(sources, (32, 16), 0, tmp_path / "people")


@given(st.integers(0, 200), st.floats(0, 0.1))
def test_a_jittered_box_has_sides_off_by_a_share_at_most(seed, share):
    """Read back from a crop whose values are its own coordinates: 2 and 1 a pixel."""
    y, x = np.mgrid[0:80, 0:160]
    large = np.stack([2 * y, x, x], -1).astype(np.uint8)
    how = msgspec.structs.replace(UNCHANGED, jitter=share)
    out = augmented(large, (64, 128), how, np.random.default_rng(seed)).astype(float)
    for line, side in ((out[:, 64, 0] / 2, 64), (out[32, :, 1], 128)):
        low, high = line[2], line[-3]  # edges of the table are rounded off
        step = (high - low) / (side - 5)
        ends = low - 2.5 * step + 0.5, high + 2.5 * step + 0.5  # of the box, px of `large`
        box = side * BORDER, side * (1 + BORDER)
        assert np.abs(np.subtract(ends, box)).max() <= side * share + 1.5


def test_a_flipped_crop_is_the_mirror_image():
    large = np.random.default_rng(0).integers(256, size=(40, 20, 3), dtype=np.uint8)
    plain, flipped = (
        augmented(large, (32, 16), how, np.random.default_rng(0))
        for how in (UNCHANGED, msgspec.structs.replace(UNCHANGED, flip=1.0))
    )
    np.testing.assert_array_equal(flipped, plain[:, ::-1])


@given(st.integers(0, 200))
def test_an_erased_part_is_a_rectangle_of_one_colour(seed):
    large = np.full((80, 40, 3), 7, np.uint8)
    how = msgspec.structs.replace(UNCHANGED, erase=1.0)
    out = augmented(large, (64, 32), how, np.random.default_rng(seed))
    changed = (out != 7).any(-1)
    rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
    part = out[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (part == part[0, 0]).all()
    assert changed.sum() == part.shape[0] * part.shape[1]
    assert 6 <= part.shape[0] <= 25
    assert 6 <= part.shape[1] <= 25


def test_a_coarse_crop_has_fewer_details_and_its_mean():
    large = np.random.default_rng(0).integers(256, size=(160, 80, 3), dtype=np.uint8)
    coarse = msgspec.structs.replace(UNCHANGED, coarse=1.0)
    for seed in range(5):
        plain, less = (
            augmented(large, (128, 64), how, np.random.default_rng(seed)).astype(float)
            for how in (UNCHANGED, coarse)
        )
        assert less.std() < 0.9 * plain.std()
        assert less.mean() == pytest.approx(plain.mean(), abs=1.5)
    small = large[:30, :20]
    short = (
        augmented(small, (24, 16), how, np.random.default_rng(0)) for how in (UNCHANGED, coarse)
    )
    np.testing.assert_array_equal(*short)  # already of the least height
