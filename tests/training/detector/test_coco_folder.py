"""A labelled folder is whole at any time, goes on, and keeps what somebody has corrected."""

import json

import numpy as np
import pytest
from msgspec.structs import replace

from streamvis.datasets import coco
from streamvis.errors import DataError, RunError, UsageError
from streamvis.messages import Detections
from streamvis.training.detector.annotation import CocoImage, LabelPlan, annotate
from streamvis.training.detector.coco_folder import SAVE_EVERY, LabelOrigin, open_folder
from streamvis.training.detector.crowd_dataset import read_people

ORIGIN = LabelOrigin(
    command="streamvis label a.mp4",
    sources={"a": "a.mp4"},
    weights_sha256="0" * 64,
    streamvis="0.1.0",
    date_created="2026-01-01T00:00:00+00:00",
)
PLAN = LabelPlan(every=1, sure=0.7, unsure=0.2)
PIXELS = np.full((120, 160, 3), 90, np.uint8)
FOUND = Detections(
    boxes=np.array([[20, 10, 60, 110], [90, 20, 120, 100], [130, 30, 150, 90]], np.float32),
    scores=np.array([0.9, 0.8, 0.4], np.float32),
    labels=np.ones(3, np.int32),
    masks=np.stack(
        [np.pad(np.full((20, 20), 255, np.uint8), 4)] + 2 * [np.zeros((28, 28), np.uint8)]
    ),
)


def test_labels_are_not_replaced_by_those_that_are_made_of_them(tmp_path):
    before = tmp_path / "annotations.json"
    before.write_text("{}")
    (tmp_path / "same").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "same"):
        with pytest.raises(UsageError, match="its labels are what is read"):
            open_folder(tmp_path, ORIGIN, read=[folder], overwrite=True)
    assert before.read_text() == "{}"


def add(folder, count: int, source: str = "a") -> None:
    for _ in range(count):
        number = folder.next_image
        image = CocoImage(
            id=number,
            file_name=f"{source}_{number}.jpg",
            width=160,
            height=120,
            source=source,
            media_us=number * 1000,
        )
        folder.add(PIXELS, image, annotate(FOUND, image, folder.next_annotation, PLAN))


@pytest.fixture
def labelled(tmp_path):
    folder = open_folder(tmp_path, ORIGIN)
    add(folder, 2)
    folder.save()
    return tmp_path


def test_both_readers_and_pycocotools_find_the_same_people(labelled, capsys):
    path = labelled / "annotations.json"
    for truth, picture in zip(coco.read_coco(path), read_people(labelled), strict=True):
        assert picture.path.is_file()
        assert (truth.name, picture.source) == (picture.path.name, "a")
        np.testing.assert_allclose(truth.boxes, FOUND.boxes)
        np.testing.assert_allclose([one.box for one in picture.instances], FOUND.boxes)
        assert truth.crowd.tolist() == [one.ignore for one in picture.instances]
        assert truth.crowd.tolist() == [False, False, True]
        assert not truth.ignore.any()
        assert [mask is not None for mask in truth.masks] == [True, False, False]
        assert [one.mask is not None for one in picture.instances] == [True, False, False]
        mask = picture.instances[0].mask
        assert mask is not None
        assert mask.mean() == pytest.approx((20 / 28) ** 2, abs=0.04)
    tools = pytest.importorskip("pycocotools.coco").COCO(str(path))
    assert len(tools.getAnnIds(catIds=tools.getCatIds(["person"]), iscrowd=0)) == 4
    assert len({row["id"] for row in tools.anns.values()}) == 6


def test_an_export_of_a_tool_that_corrects_labels_takes_its_place(labelled):
    """As CVAT lays out *COCO 1.0*: no source, attributes, run lengths for what is a crowd."""
    path = labelled / "annotations.json"
    document = json.loads(path.read_text())
    image = {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
    about = {"attributes": {"occluded": False, "is_crowd": False}}
    keys = ("id", "image_id", "category_id", "iscrowd", "bbox", "area", "segmentation")
    export = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "year": ""},
        "categories": [{"id": 1, "name": "person", "supercategory": ""}],
        "images": [
            image | {k: one[k] for k in ("id", "width", "height", "file_name")}
            for one in document["images"]
        ],
        "annotations": [{k: row[k] for k in keys} | about for row in document["annotations"]],
    }
    counts = {"counts": [160 * 120 - 30, 30], "size": [120, 160]}
    export["annotations"][2] |= {"segmentation": counts, "area": 30.0}
    path.write_text(json.dumps(export))
    first, _ = coco.read_coco(path)
    one, _ = read_people(labelled)
    np.testing.assert_allclose(first.boxes, [person.box for person in one.instances])
    assert [person.ignore for person in one.instances] == first.crowd.tolist()
    assert first.crowd.tolist() == [False, False, True]
    with pytest.raises(DataError, match="was not written by streamvis label"):
        open_folder(labelled, ORIGIN)


def test_what_was_saved_last_is_found_after_a_kill(tmp_path):
    folder = open_folder(tmp_path, ORIGIN)
    assert coco.read_coco(tmp_path / "annotations.json") == []  # whole from the first moment
    add(folder, SAVE_EVERY + 3)  # and then killed
    again = open_folder(tmp_path, ORIGIN)
    assert len(again) == SAVE_EVERY
    assert "a_1.jpg" in again
    assert f"a_{SAVE_EVERY + 1}.jpg" not in again
    add(again, 3)
    again.save()
    (tmp_path / "other").mkdir()
    whole = open_folder(tmp_path / "other", ORIGIN)
    add(whole, SAVE_EVERY + 3)
    whole.save()
    texts = [(root / "annotations.json").read_text() for root in (tmp_path, tmp_path / "other")]
    assert texts[0] == texts[1]


def test_the_same_command_goes_on_with_sources_that_came_since(labelled):
    more = replace(ORIGIN, sources={"a": "a.mp4", "b": "b.mp4"})
    folder = open_folder(labelled, more)
    add(folder, 1, "b")
    folder.save()
    assert [count.source for count in folder.counts()] == ["a", "b"]
    assert [(c.pictures, c.people, c.in_doubt) for c in folder.counts()] == [(2, 4, 2), (1, 2, 1)]
    info = json.loads((labelled / "annotations.json").read_text())["info"]
    assert info["sources"] == {"a": "a.mp4", "b": "b.mp4"}
    open_folder(labelled, replace(ORIGIN, sources={"b": "b.mp4"})).save()  # a was taken away
    info = json.loads((labelled / "annotations.json").read_text())["info"]
    assert info["sources"] == {"a": "a.mp4", "b": "b.mp4"}


def edit(path, change) -> str:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path.read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["annotations"][0]["bbox"].__setitem__(0, 21.0),
        lambda document: document["annotations"][2].update(iscrowd=0),
        lambda document: document["annotations"][0].update(attributes={"occluded": True}),
        lambda document: document["annotations"].pop(),
        lambda document: document["images"].pop(),
    ],
)
def test_labels_that_somebody_corrected_are_kept(labelled, change):
    path = labelled / "annotations.json"
    text = edit(path, change)
    with pytest.raises(DataError, match=r"annotations\.json was edited since .* --overwrite"):
        open_folder(labelled, ORIGIN)
    assert path.read_text() == text
    folder = open_folder(labelled, ORIGIN, overwrite=True)
    assert len(folder) == 0
    assert coco.read_coco(path) == []


def test_a_file_that_was_only_laid_out_anew_is_the_same(labelled):
    edit(labelled / "annotations.json", lambda document: document)
    assert len(open_folder(labelled, ORIGIN)) == 2


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"images": [], "annotations": [], "categories": [], "info": {}}'],
)
def test_annotations_from_elsewhere_are_kept(text, tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(text)
    with pytest.raises(DataError, match="was not written by streamvis label"):
        open_folder(tmp_path, ORIGIN)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"command": "streamvis label b.mp4"}, "by `streamvis label a.mp4`, and now .* b.mp4`"),
        ({"weights_sha256": "1" * 64}, "with weights 000000000000, now 111111111111"),
        ({"streamvis": "0.2.0"}, r"by streamvis 0\.1\.0, now 0\.2\.0"),
        ({"sources": {"a": "b/a.mp4"}}, r"from a\.mp4 as 'a', now b/a\.mp4"),
    ],
)
def test_another_command_is_told_what_made_the_labels(labelled, other, words):
    before = (labelled / "annotations.json").read_bytes()
    with pytest.raises(DataError, match=rf"annotations\.json was made {words}\. Choose another"):
        open_folder(labelled, replace(ORIGIN, **other))
    assert (labelled / "annotations.json").read_bytes() == before


def test_a_disk_that_cannot_be_written_is_told(labelled):
    folder = open_folder(labelled, ORIGIN)
    (labelled / "images" / "a_3.jpg").mkdir()
    with pytest.raises(RunError, match=r"a_3\.jpg cannot be written: Is a directory"):
        add(folder, 1)
    folder.save()
    assert len(coco.read_coco(labelled / "annotations.json")) == 2
