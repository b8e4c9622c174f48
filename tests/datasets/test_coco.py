import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from streamvis.datasets.coco import read_coco
from streamvis.errors import DataError
from streamvis.training.detector.crowd_dataset import read_people


def dataset(**changes):
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 20, "height": 10}],
        "categories": [{"id": 3, "name": "person"}, {"id": 4, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 9, 9]},
            {"id": 3, "image_id": 7, "category_id": 3, "bbox": [5, 5, 2, 2], "iscrowd": 1},
        ],
        **changes,
    }


def annotated(**fields):
    one = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], **fields}
    return dataset(annotations=[one])


def saved(folder, content):
    path = folder / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_people_are_read_and_others_are_not(tmp_path):
    (truth,) = read_coco(saved(tmp_path, dataset()))
    assert (truth.name, truth.width, truth.height) == ("a.jpg", 20, 10)
    np.testing.assert_array_equal(truth.boxes, [[1, 2, 4, 6], [5, 5, 7, 7]])
    np.testing.assert_array_equal(truth.crowd, [False, True])
    assert truth.masks == (None, None)


def test_a_picture_without_people_is_kept(tmp_path):
    (truth,) = read_coco(saved(tmp_path, dataset(annotations=[])))
    assert truth.boxes.shape == (0, 4)


def test_every_category_of_people_counts_for_scoring_and_for_training(tmp_path):
    names = ("person", "car", "pedestrian")
    row = {"image_id": 7, "bbox": [1, 2, 3, 4]}
    content = dataset(
        categories=[{"id": i, "name": name} for i, name in enumerate(names)],
        annotations=[row | {"id": i, "category_id": i} for i in range(3)],
    )
    (truth,) = read_coco(saved(tmp_path, content))
    (image,) = read_people(tmp_path)
    assert truth.people == 2
    assert [list(one.box) for one in image.instances] == truth.boxes.tolist() == [[1, 2, 4, 6]] * 2


@pytest.mark.parametrize(
    "fields",
    [{"bbox": [1, 2, 0, 4]}, {"bbox": [1, 2, 3, 0]}, {"ignore": 1}, {"iscrowd": 1}],
)
def test_what_is_not_scored_is_not_trained_on(tmp_path, fields):
    content = annotated(segmentation=[[1, 2, 4, 2, 4, 6]], **fields)
    (truth,) = read_coco(saved(tmp_path, content))
    ((person,),) = (image.instances for image in read_people(tmp_path))
    assert truth.people == 0
    assert person.ignore
    assert person.mask is None


def test_an_image_has_its_source_and_its_path(tmp_path):
    image = {"id": 7, "file_name": "a.jpg", "width": 20, "height": 10, "source": "hall"}
    (truth,) = read_coco(saved(tmp_path, dataset(images=[image])))
    (picture,) = read_people(tmp_path)
    assert truth.source == picture.source == "hall"
    assert picture.path == tmp_path / "images/a.jpg"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "no list of images"),
        ({"images": [], "annotations": []}, "no list of categories"),
        (dataset(categories=[{"id": 1, "name": "car"}]), "no category is called person"),
        (dataset(images=[{"id": 7, "width": 0, "height": 5}]), "image 7: height×width is 5×0"),
        (
            dataset(images=2 * dataset()["images"]),
            r"images\[1\] has the id 7 of images\[0\]; expected an id",
        ),
        (dataset(images=["a.jpg"]), r"images\[0\]: id is None"),
        (annotated(image_id=8), r"annotations\[0\]: image_id 8 is none of the images"),
        (annotated(bbox=[1, 2, -3, 4]), r"annotations\[0\]: bbox is \[1, 2, -3, 4\]"),
        (annotated(bbox="1 2 3 4"), "bbox is '1 2 3 4'"),
        (annotated(bbox=[1, 2, float("nan"), 4]), "bbox is"),
        (annotated(segmentation=[[1, 2, 3]]), "segmentation is neither polygons"),
        (annotated(segmentation={"size": [9, 9], "counts": [81]}), "segmentation is neither"),
        (annotated(segmentation={"size": [10, 20], "counts": [199]}), "segmentation is neither"),
        (annotated(segmentation={"size": [10, 20], "counts": "ooooo"}), "segmentation is neither"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    path = saved(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(path)
    assert str(path) in str(caught.value)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_compressed_run_lengths_of_pycocotools_are_accepted(tmp_path_factory, seed, share):
    pixels = np.random.default_rng(seed).random((10, 20)) < share
    counts = coco_mask.encode(np.asfortranarray(pixels, np.uint8))["counts"].decode()
    mask = {"size": [10, 20], "counts": counts}
    (truth,) = read_coco(saved(tmp_path_factory.getbasetemp(), annotated(segmentation=mask)))
    assert truth.masks == (mask,)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
@settings(max_examples=150)
@given(st.text(alphabet=[chr(c) for c in range(40, 120)], max_size=30))
def test_no_run_lengths_reach_pycocotools_that_do_not_fill_the_picture(tmp_path_factory, counts):
    mask = {"size": [10, 20], "counts": counts}
    path = saved(tmp_path_factory.getbasetemp(), annotated(segmentation=mask))
    try:
        (truth,) = read_coco(path)
    except DataError:
        return
    assert coco_mask.decode(truth.masks[0]).shape == (10, 20)
