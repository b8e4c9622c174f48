"""Keypoints in COCO's layout: what is read, and what is wrong with a file."""

import json
from pathlib import Path

import numpy as np
import pytest
from keypoint_folders import write_folder

from streamvis.datasets.keypoints import FLIPPED, NAMES, SIGMAS, is_tuned_on, read_keypoints
from streamvis.errors import DataError


def edited(root: Path, change) -> Path:
    path = root / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


def test_people_have_their_points_weights_and_picture(tmp_path):
    root = write_folder(tmp_path / "a", 2, source="street-1")

    def hide(content):
        content["annotations"][0]["keypoints"][3:6] = [7, 7, 0]

    first, *others = read_keypoints(edited(root, hide))
    assert len(others) == 3
    assert first.path == root / "images/a-0000.png"
    assert (first.source, first.taught, first.ignore) == ("street-1", False, False)
    np.testing.assert_allclose(first.box, [10, 20, 70, 140])
    assert first.area == 60 * 120 / 2
    assert first.weights.tolist() == [1, 0, *[1] * 15]
    np.testing.assert_array_equal(first.points[1], [0, 0])
    np.testing.assert_allclose(first.points[0], [40, 29.6])


def test_what_a_teacher_labelled_has_its_probabilities(tmp_path):
    root = write_folder(tmp_path / "a", 1, taught=True)
    assert all(one.taught and (one.weights == 0.9).all() for one in read_keypoints(root))
    assert read_keypoints(root)[0].source == "a"


def test_people_without_keypoints_are_left_out(tmp_path):
    root = edited(write_folder(tmp_path / "a", 1), lambda c: c["annotations"][0].pop("keypoints"))
    assert [one.id for one in read_keypoints(root)] == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(keypoints=[1, 2, 2]), "has 3 numbers, expected 51"),
        (lambda c: c["annotations"][0].update(point_scores=[0.5]), "has 1 numbers, expected 17"),
        (lambda c: c["annotations"][1].update(image_id=9), "image_id 9 is none of `images`"),
        (lambda c: c["images"].append(c["images"][0]), r"images\[.\] has the id .* of images\[0\]"),
        (lambda c: c["annotations"][0].update(area=-4), "Expected `float` >= 0"),
        (lambda c: c["annotations"][0].update(bbox=[1, 1, 0, 5]), "a width and a height above 0"),
        (lambda c: c["annotations"][0].update(bbox=[1, 1, 5]), r"no keypoints in COCO's layout"),
        (lambda c: c.pop("images"), r"missing required field `images`"),
        (lambda c: [a.pop("keypoints") for a in c["annotations"]], "none of 2 people has"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_what_is_wrong(tmp_path, change, message):
    root = edited(write_folder(tmp_path / "a", 1), change)
    with pytest.raises(DataError, match=message) as caught:
        read_keypoints(root)
    assert "annotations.json" in str(caught.value)


def test_points_exchange_sides_in_a_mirror_image():
    assert (FLIPPED[FLIPPED] == np.arange(17)).all()
    for name, other in zip(NAMES, np.array(NAMES)[FLIPPED], strict=True):
        assert other == name.replace("left", "r").replace("right", "left").replace("r_", "right_")
    np.testing.assert_array_equal(SIGMAS, SIGMAS[FLIPPED])


def test_the_third_to_tune_on_is_by_name_and_about_a_third():
    names = [Path(f"folder/{n:012}.jpg") for n in range(3000)]
    chosen = [is_tuned_on(name) for name in names]
    assert 900 < sum(chosen) < 1100
    assert chosen == [is_tuned_on(Path(f"other/{name.stem}.png")) for name in names]
