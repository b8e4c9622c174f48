"""Pictures labelled again: true labels stay, networks' labels are replaced."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamvis.datasets.coco import read_coco
from streamvis.errors import DataError
from streamvis.training.detector.annotation import LabelPlan
from streamvis.training.detector.coco_folder import LabelOrigin, open_folder
from streamvis.training.detector.relabel import Changes, changes_of, relabel_folder

PLAN = LabelPlan(every=1, sure=0.5, unsure=0.1)
ORIGIN = LabelOrigin(command="", sources={}, weights_sha256="", streamvis="")
A, B, C, D, E = (
    [left, 20.0, 30.0, 80.0] for left in range(10, 260, 50)
)  # left, top, width, height
SQUARE = [[10, 20, 40, 20, 40, 100, 10, 100]]


class Finder:
    """An ensemble that always finds the same, and masks of full boxes for some."""

    def __init__(self, *found, masked=()):
        self.found = found
        self.masked = [xyxy(box) for box in masked]

    def find(self, pixels):
        boxes = np.array([xyxy(box) for box, _ in self.found], float).reshape(-1, 4)
        return boxes, np.array([score for _, score in self.found], float)

    def masks(self, pixels, boxes):
        masks = np.zeros((len(boxes), 8, 8), np.uint8)
        for mask, box in zip(masks, boxes.tolist(), strict=True):
            mask[:] = 255 * (box in self.masked)
        return masks


def xyxy(box):
    left, top, width, height = box
    return [left, top, left + width, top + height]


def row(box, by="gt", **more):
    return {
        "category_id": 1,
        "iscrowd": 0,
        "bbox": box,
        "box_label": by,
        "segmentation": [],
        **more,
    }


def before(root, *rows, images=1):
    (root / "images").mkdir(parents=True)
    for n in range(images):
        cv2.imwrite(str(root / f"images/{n}.png"), np.zeros((120, 320, 3), np.uint8))
    labels = {
        "categories": [{"id": 1, "name": "person"}],
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 320, "height": 120} for n in range(images)
        ],
        "annotations": [
            {"id": len(rows) * n + i, "image_id": n, **one}
            for n in range(images)
            for i, one in enumerate(rows)
        ],
    }
    (root / "annotations.json").write_text(json.dumps(labels))
    return root


def after(root, out, finder, plan=PLAN):
    out.mkdir(exist_ok=True)
    folder = open_folder(out, ORIGIN)
    relabel_folder(root, folder, finder, plan)
    folder.save()
    labels = json.loads((out / "annotations.json").read_text())
    return folder, labels["annotations"]


def told(rows):
    return [(one["bbox"], one["box_label"], one["iscrowd"]) for one in rows]


def test_true_boxes_stay_and_others_are_made_anew(tmp_path):
    root = before(
        tmp_path / "old", row(A), row(B, "predicted"), row(C, "predicted"), row(D, iscrowd=1)
    )
    found = [(A, 0.9), (B, 0.8), (D, 0.9), (E, 0.7), ([265.0, 10, 20, 50], 0.3)]
    folder, rows = after(root, tmp_path / "new", Finder(*found))
    assert told(rows) == [
        (A, "gt", 0),
        (B, "predicted", 0),
        (E, "predicted", 0),
        (D, "gt", 1),
        ([265, 10, 20, 50], "predicted", 1),  # found, but not surely
        (C, "predicted", 1),  # labelled before, and not found
    ]
    assert [one["id"] for one in rows] == [1, 2, 3, 4, 5, 6]
    expected = Changes("old", pictures=1, true=1, confirmed=1, doubted=1, added=1, in_doubt=3)
    assert changes_of(root, folder) == expected
    (truth,) = read_coco(tmp_path / "new/annotations.json")
    assert truth.predicted == 2


def test_weak_detections_of_labelled_people_are_no_doubts(tmp_path):
    near = [A[0] + 3, *A[1:]]
    _, rows = after(before(tmp_path / "old", row(A)), tmp_path / "new", Finder((near, 0.2)))
    assert told(rows) == [(A, "gt", 0)]


def test_a_second_box_where_a_true_one_is_is_in_doubt(tmp_path):
    """It may be a person behind, but more often is the same one again."""
    near = [A[0] + 8, *A[1:]]
    _, rows = after(
        before(tmp_path / "old", row(A)), tmp_path / "new", Finder((A, 0.9), (near, 0.8))
    )
    assert told(rows) == [(A, "gt", 0), (near, "predicted", 1)]


def test_true_masks_stay_and_others_come_from_the_teacher_where_it_is_sure(tmp_path):
    B_MASK = [[60, 20, 90, 20, 75, 100]]
    root = before(
        tmp_path / "old",
        row(A, segmentation=SQUARE, mask_label="gt"),
        row(B, segmentation=B_MASK, mask_label="predicted"),
        row(C, segmentation=B_MASK, mask_label="predicted"),
    )
    finder = Finder((E, 0.9), masked=[A, B, E])
    folder, rows = after(root, tmp_path / "new", finder)
    a, b, c, e = rows
    assert (a["segmentation"], a["mask_label"]) == (SQUARE, "gt")
    assert (c["segmentation"], c["mask_label"]) == (B_MASK, "predicted")
    for one, box in ((b, B), (e, E)):
        points = np.array(one["segmentation"][0]).reshape(-1, 2)
        assert one["mask_label"] == "predicted"
        np.testing.assert_allclose(points.min(0), box[:2], atol=2)
        np.testing.assert_allclose(points.max(0), xyxy(box)[2:], atol=2)
    assert changes_of(root, folder).masks == 2


def test_an_interrupted_run_goes_on(tmp_path):
    root = before(tmp_path / "old", row(A), images=5)
    whole, rows = after(root, tmp_path / "whole", Finder((B, 0.9)))
    first, _ = after(
        root, tmp_path / "new", Finder((B, 0.9)), LabelPlan(every=1, sure=0.5, unsure=0.1, most=2)
    )
    assert len(first) == 2
    folder, again = after(root, tmp_path / "new", Finder((B, 0.9)))
    assert (again, len(folder)) == (rows, 5)
    assert [i.file_name for i in whole.labels.images] == [f"old_{n}.png" for n in range(5)]
    for n in range(5):
        old, new = root / f"images/{n}.png", tmp_path / f"new/images/old_{n}.png"
        assert old.read_bytes() == new.read_bytes()


def test_a_folder_takes_no_more_pictures_than_its_plan_allows(tmp_path):
    root = before(tmp_path / "old", row(A), images=5)
    few, more = (LabelPlan(every=1, sure=0.5, unsure=0.1, most=most) for most in (2, 3))
    assert len(after(root, tmp_path / "new", Finder((B, 0.9)), more)[0]) == 3
    assert len(after(root, tmp_path / "new", Finder((B, 0.9)), few)[0]) == 3


def test_a_folder_is_named_by_itself_however_it_is_given(tmp_path, monkeypatch):
    root = before(tmp_path / "old", row(A))
    monkeypatch.chdir(root)
    folder, _ = after(Path(), tmp_path / "new", Finder((B, 0.9)))
    assert [(i.file_name, i.source) for i in folder.labels.images] == [("old_0.png", "old")]
    assert changes_of(Path(), folder).source == "old"


def test_pictures_in_folders_keep_apart_from_those_whose_names_look_like_their_paths(tmp_path):
    root = before(tmp_path / "old", row(A), images=5)
    labels = json.loads((root / "annotations.json").read_text())
    paths = ["a/b/0.png", "a_b/0.png", "a_b_0.png", "a/b_0.png", "a/1.png"]
    for n, (image, path) in enumerate(zip(labels["images"], paths, strict=True)):
        target = root / "images" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / f"images/{n}.png").rename(target)
        image["file_name"] = path
    (root / "annotations.json").write_text(json.dumps(labels))
    for _ in range(2):  # the second time there is nothing to do
        folder, _ = after(root, tmp_path / "new", Finder((B, 0.9)))
        names = [image.file_name for image in folder.labels.images]
        assert len(set(names)) == 5
        assert names[2] == "old_a_b_0.png"
        assert names[4] == "old_a_1.png"
    assert changes_of(root, folder).pictures == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "0.png does not exist"),
        (
            lambda path: cv2.imwrite(str(path), np.zeros((10, 20, 3), np.uint8)),
            "0.png has 20×10 pixels, but 320×120 by its labels",
        ),
    ],
)
def test_pictures_that_do_not_fit_their_labels_are_told(tmp_path, change, words):
    root = before(tmp_path / "old", row(A))
    change(root / "images/0.png")
    with pytest.raises(DataError, match=words):
        after(root, tmp_path / "new", Finder())
