"""The lists of classes are consistent, and number files as they are published."""

import pytest

from streamvis.datasets.classes import CAMVID, CITYSCAPES, LISTS, VOID, movable


@pytest.mark.parametrize("classes", LISTS.values(), ids=LISTS)
def test_every_class_has_one_name_and_one_number_of_its_own(classes):
    assert LISTS[classes.name] is classes
    count = len(classes.names)
    assert classes.name.endswith(f"-{count}")
    assert len(set(classes.names)) == count
    numbers, indexes = zip(*classes.numbers, strict=True)
    assert len(set(numbers)) == count
    assert sorted(indexes) == list(range(count))
    assert classes.void == VOID
    assert VOID not in indexes


def test_cityscapes_numbers_are_those_of_its_label_ids():
    """Some of the published table, by name."""
    number = {CITYSCAPES.names[index]: found for found, index in CITYSCAPES.numbers}
    published = {
        "road": 7, "sidewalk": 8, "building": 11, "pole": 17, "traffic light": 19,
        "vegetation": 21, "sky": 23, "person": 24, "rider": 25, "car": 26, "bus": 28,
        "train": 31, "motorcycle": 32, "bicycle": 33,
    }  # fmt: skip
    assert {name: number[name] for name in published} == published


def test_people_and_vehicles_are_movable_whatever_the_list():
    names = ["road", "car", "pedestrian", "person", "sky", "train", "unheard of"]
    assert movable(names) == [False, True, True, True, False, True, False]
    for classes in (CAMVID, CITYSCAPES):
        moves = movable(classes.names)
        there = {name for name, one in zip(classes.names, moves, strict=True) if one}
        assert there == {classes.names[i] for i in classes.movable}
