"""Classes of labelled street images, and the numbers that published label files use for them."""

from collections.abc import Sequence
from typing import NamedTuple


class Classes(NamedTuple):
    """A list of classes, and the class that each number of a label file stands for."""

    name: str
    names: tuple[str, ...]
    movable: tuple[int, ...]  # classes of objects that move by themselves
    numbers: tuple[tuple[int, int], ...] = ()  # (in the file, class); all others are void

    @property
    def void(self) -> int:
        """The label, inside streamvis, of a pixel that has no class."""
        return VOID


VOID = 255

CAMVID = Classes(
    "camvid-11",
    (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    ),
    movable=(8, 9, 10),
    numbers=tuple((index, index) for index in range(11)),  # 11 is void
)

CITYSCAPES = Classes(
    "cityscapes-19",
    (
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    ),
    movable=tuple(range(11, 19)),
    numbers=tuple(
        (found, index)
        for index, found in enumerate(
            (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
        )
    ),  # of *_gtFine_labelIds.png
)

LISTS = {classes.name: classes for classes in (CAMVID, CITYSCAPES)}


def movable(names: Sequence[str]) -> list[bool]:
    """Tell for each class whether its objects move by themselves, by all known lists."""
    known = {one.names[index] for one in LISTS.values() for index in one.movable}
    return [name in known for name in names]
