"""Boxes with identities from sequences, results of a tracker and COCO folders."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_people import sequence

from streamvis.datasets.motchallenge import rows, write_results
from streamvis.errors import DataError
from streamvis.training.reid import identity_boxes
from streamvis.training.reid.identity_boxes import read_identity_boxes


def test_a_look_every_fifth_of_a_second_is_taken_of_each_person(tmp_path):
    (one,) = read_identity_boxes(sequence(tmp_path / "a", "walk", people=2, frames=9), 0.2)
    assert one.frames[one.ids == 0].tolist() == [1, 2, 4, 6, 8]
    assert one.apart().tolist() == [[False, True], [True, False]]


def test_tracks_of_a_batch_are_people_and_sure_to_differ_only_side_by_side(tmp_path):
    film = sequence(tmp_path / "film", "film")
    run = tmp_path / "runs/film"
    run.mkdir(parents=True)
    (run / "summary.json").write_text(json.dumps({"sources": [{"label": str(film)}]}))
    at = [(1, 1, 0), (1, 2, 40), (6, 2, 40), (6, 3, 80), (8, 4, 80), (8, 5, 85)]  # frame, id, x
    boxes = np.array([(x, 20, x + 24, 80) for _, _, x in at])
    write_results(run / "tracks.txt", rows([f for f, _, _ in at], [i for _, i, _ in at], boxes))
    (one,) = read_identity_boxes(tmp_path / "runs", 0.1)
    assert one.ids.tolist() == [0, 1, 1, 2]  # 4 and 5 stand before each other
    expected = np.zeros((3, 3), bool)
    expected[0, 1] = expected[1, 0] = expected[1, 2] = expected[2, 1] = True
    np.testing.assert_array_equal(one.apart(), expected)
    (run / "tracks.txt").write_text("")
    with pytest.raises(DataError, match="has no boxes of people to train on"):
        read_identity_boxes(tmp_path / "runs", 0.1)


frames_of_boxes = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 12), st.integers(0, 12), st.integers(2, 9)),
    min_size=1,
    max_size=9,
)


@given(frames_of_boxes)
def test_boxes_in_view_are_those_of_which_no_other_covers_more_than_half(drawn):
    """Counted pixel by pixel."""
    boxes = np.array([(x, y, x + side, y + side) for _, x, y, side in drawn])
    found = identity_boxes._in_view(rows([f for f, *_ in drawn], np.arange(len(drawn)), boxes))
    canvas = np.zeros((len(drawn), 24, 24), bool)
    for mask, (x0, y0, x1, y1) in zip(canvas, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    for i, (frame, *_) in enumerate(drawn):
        others = [k for k, (other, *_) in enumerate(drawn) if other == frame and k != i]
        shares = [(canvas[i] & canvas[k]).sum() / canvas[i].sum() for k in others]
        assert found[i] == (max(shares, default=0) <= 0.5)


def coco(folder: Path, *boxes, **fields) -> Path:
    """Write a COCO folder of two pictures, with these boxes in the second."""
    (folder / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / "images" / name), np.full((60, 80, 3), (1, 2, 3), np.uint8))
    document = {
        "images": [
            {"id": i, "file_name": name, "width": 80, "height": 60}
            for i, name in enumerate(("a.png", "b.png"))
        ],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, **fields}
            for i, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def test_each_box_of_a_coco_folder_is_somebody_who_is_compared_with_nobody(tmp_path):
    folder = coco(tmp_path / "people", [1, 2, 10, 30], [40, 2, 10, 30], [20, 2, 10, 20])
    (one,) = read_identity_boxes(folder, 0.2)
    assert one.name == "people"
    assert one.frames.tolist() == [2, 2]  # the third is less than 24 px high
    assert one.ids.tolist() == [0, 1]
    assert one.boxes.tolist() == [[1, 2, 11, 32], [40, 2, 50, 32]]
    assert one.apart() is None
    assert not one.certain
    (_, _), (number, pixels) = one.pictures()
    assert (number, pixels[0, 0].tolist()) == (2, [3, 2, 1])  # RGB
    (folder / "images/b.png").write_text("no image")
    with pytest.raises(DataError, match=r"b\.png cannot be read as an image"):
        list(one.pictures())


def test_regions_to_ignore_are_crops_to_learn_from(tmp_path):
    (one,) = read_identity_boxes(coco(tmp_path / "crowd", [1, 2, 10, 30], iscrowd=1), 0.2)
    assert one.boxes.tolist() == [[1, 2, 11, 32]]


def test_a_coco_folder_without_boxes_has_nobody_to_train_on(tmp_path):
    folder = coco(tmp_path / "crowd")
    with pytest.raises(DataError, match="crowd has no boxes of people to train on; expected"):
        read_identity_boxes(folder, 0.2)


def test_truth_that_does_not_count_or_is_mostly_hidden_is_left_out(tmp_path):
    folder = sequence(tmp_path / "a", "walk", people=1, frames=1)
    lines = ["1,1,5,5,20,40,1,1,0.9", "1,2,5,5,20,40,0,1,0.9", "1,3,5,5,20,40,1,3,0.9",
             "1,4,5,5,20,40,1,1,0.3", "1,5,50,5,20,40,1,1,0.4"]  # fmt: skip
    (folder / "gt/gt.txt").write_text("\n".join(lines))
    (one,) = read_identity_boxes(folder, 0.1)
    assert one.boxes[:, 0].tolist() == [5, 50]
    assert one.certain


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        ("[]", r"summary\.json is not a summary of `streamvis batch`"),
        ("{", r"summary\.json is not a summary of `streamvis batch`"),
        ('{"sources": []}', r"summary\.json is not a summary of `streamvis batch`"),
        (
            '{"sources": [{"label": "gone.mp4"}]}',
            r"names the video gone.*, which does not exist",
        ),
    ],
)
def test_a_result_of_a_batch_that_cannot_be_used_is_named(summary, words, tmp_path):
    (tmp_path / "summary.json").write_text(summary)
    with pytest.raises(DataError, match=words):
        read_identity_boxes(tmp_path, 0.1)


def test_sources_of_the_same_boxes_are_recognised(tmp_path):
    a, b = (sequence(tmp_path / name, "walk", people=2) for name in "ab")
    (one,), (same,) = (read_identity_boxes(folder, 0.1) for folder in (a, b))
    (fewer,) = read_identity_boxes(b, 0.5)
    assert one.has_the_same_boxes_as(same)
    assert not one.has_the_same_boxes_as(fewer)
