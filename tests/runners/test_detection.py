"""Detectors side by side on the same pictures, with detectors whose scores are known."""

import json

import cv2
import numpy as np
import pytest
from factories import oracle_detector, whole_picture_detector

from streamvis.errors import DataError, UsageError
from streamvis.runners import detection
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence
from streamvis.training.detector.coco_folder import LabelOrigin
from streamvis.training.detector.recipe import DetectorRecipe, HoldOut
from streamvis.training.loop import Schedule
from streamvis.training.provenance import begin

SIZE = (320, 240)
SCENE = SyntheticScene(seed=3, people=3, size=SIZE, fps=8, seconds=2)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences") / "street"
    write_sequence(folder, SCENE)
    (street,) = detection.read_datasets([folder], None)
    return street


def test_both_see_every_picture_once_and_are_told_apart(street):
    result = detection.score(
        street, {"knows": oracle_detector(street), "blind": whole_picture_detector}
    )
    report = result.report()
    assert report["ap50"] == pytest.approx(1)
    assert report["other"]["name"] == "blind"
    assert report["other"]["ap50"] == 0
    assert report["difference"]["ap50"] == pytest.approx(1)
    assert report["difference"]["miss_rate"] == pytest.approx(-1, abs=1e-6)
    assert report["difference"]["mask_ap"] is None
    assert json.loads(json.dumps(report)) == report


def test_one_alone_is_reported_as_it_is(street):
    report = detection.score(street, {"knows": oracle_detector(street)}).report()
    assert "other" not in report
    for key in ("ap", "ap50", "ap_by_height", "f1", "threshold", "miss_rate", "mask_ap"):
        assert key in report


def test_coco_folders_are_no_films(tmp_path):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((60, 80, 3), np.uint8))
    sizes = {"width": 80, "height": 60}
    annotations = {
        "images": [{"id": 1, "file_name": "a.png", **sizes}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 40]}],
        "categories": [{"id": 1, "name": "person"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (data,) = detection.read_datasets([tmp_path], None)
    assert not data.consecutive
    scores = detection.score(data, {"knows": oracle_detector(data)}).ours
    assert (scores.pictures, scores.people, scores.ap50) == (1, 1, pytest.approx(1))
    (tmp_path / "images/a.png").write_text("not an image")
    with pytest.raises(DataError, match=r"a\.png cannot be read as an image"):
        detection.score(data, {"knows": oracle_detector(data)})


def people(folder, rows, info=None):
    """A COCO folder of one picture."""
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images/a.png"), np.zeros((60, 80, 3), np.uint8))
    whole = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 40]}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "source": "hall", "width": 80, "height": 60}],
        "annotations": [whole | row | {"id": i} for i, row in enumerate(rows)],
        "categories": [{"id": 1, "name": "person"}],
    }
    if info:
        document["info"] = {"description": info}
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("rows", "info", "predicted"),
    [
        ([{}], None, 0),
        ([{"box_label": "predicted"}, {"box_label": "gt"}], None, 1),
        ([{"box_label": "predicted", "iscrowd": 1}, {}], None, 0),
        ([{}, {}], LabelOrigin.__struct_defaults__[0], 2),  # a tool left out what it did not know
    ],
)
def test_labels_of_a_network_are_no_truth_and_it_is_said(rows, info, predicted, tmp_path):
    (data,) = detection.read_datasets([people(tmp_path / "hall", rows, info)], None)
    assert data.predicted == predicted
    report = detection.score(data, {"knows": oracle_detector(data)}).report()
    assert report["predicted_labels"] == predicted
    assert (report["note"] is None) == (predicted == 0)
    if predicted:
        assert "agreement with that network, not accuracy" in report["note"]


def test_nothing_to_score_on_is_an_error_and_no_table_of_dashes(tmp_path, street):
    some = people(tmp_path / "some", [{}])
    nobody = people(tmp_path / "nobody", [{"iscrowd": 1}])
    with pytest.raises(DataError, match="nobody to be found is labelled in its 1 pictures"):
        detection.read_datasets([some, nobody], None)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("architecture: person-lite\nschedule: {steps: 1}\n")
    with pytest.raises(
        DataError, match=r"recipe\.yaml holds nothing out of .*: it has no hold_out"
    ):
        detection.read_datasets([some], recipe)
    recipe.write_text(recipe.read_text() + "hold_out: {source: door, every: 1}\n")
    with pytest.raises(DataError, match=r"holds nothing out of .*some, so there is nothing"):
        detection.read_datasets([some], recipe)
    with pytest.raises(UsageError, match="MOTChallenge sequence, which is scored whole"):
        detection.read_datasets([write(tmp_path / "street")], recipe)
    (some / "images/a.png").unlink()
    with pytest.raises(DataError, match=r"lists 1 pictures, and 1 of them are not there"):
        detection.read_datasets([some], None)


def write(folder):
    write_sequence(folder, SCENE)
    return folder


def test_what_a_training_held_out_is_read_from_its_directory(tmp_path):
    data, out = people(tmp_path / "data", [{}]), tmp_path / "out"
    recipe = DetectorRecipe("person-lite", Schedule(1), hold_out=(HoldOut("hall", 1),))
    begin(out, "detector", recipe, data={"--data": [data]}, weights={})
    (held,) = detection.read_datasets([data], out)
    assert [one.name for one in held.truth] == ["a.png"]
    with pytest.raises(DataError, match="is not the directory of a training"):
        detection.read_datasets([data], tmp_path)


def test_data_sets_of_one_name_are_told_apart_by_their_paths(tmp_path):
    a, b = (people(tmp_path / place / "check", [{}]) for place in "ab")
    assert [one.name for one in detection.read_datasets([a, b], None)] == [str(a), str(b)]
    with pytest.raises(UsageError, match="is given twice"):
        detection.read_datasets([a, b, a], None)
