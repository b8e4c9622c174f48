"""Labelled street images in the folder layouts of CamVid and Cityscapes as published."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.datasets.classes import CAMVID, CITYSCAPES, VOID, Classes
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.sources.listing import entries, is_hidden

PICTURES = (".jpg", ".jpeg", ".png")


class LabelledImage(NamedTuple):
    """The files of one image and of its labels."""

    name: str
    image: Path
    label: Path


def read_scenes(folder: Path) -> tuple[Classes, list[LabelledImage]]:
    """Return the classes and the labelled images of a folder; DataError when it has none."""
    if scenes := _cityscapes(folder):
        return CITYSCAPES, scenes
    for images, labels in ((folder / "images", folder / "labels"), (folder, _beside(folder))):
        if not (images.is_dir() and labels.is_dir()):
            continue
        paths = sorted(p for p in entries(images) if p.suffix.lower() in PICTURES)
        scenes = [LabelledImage(p.stem, p, labels / f"{p.stem}.png") for p in paths]
        _check_labels(scenes)
        if scenes:
            return CAMVID, scenes
    raise DataError(
        f"{folder} holds no labelled images; expected CamVid's layout (images/ and labels/, or "
        "a folder beside its …annot) or that of Cityscapes (leftImg8bit/ and gtFine/)"
    )


def _check_labels(scenes: Sequence[LabelledImage]) -> None:
    """Raise DataError where an image has no labels."""
    if lacking := [scene for scene in scenes if not scene.label.is_file()]:
        label, image = lacking[0].label, lacking[0].image
        raise DataError(
            f"{label.parent} has no {label.name} for {image} "
            f"({len(lacking)} of {len(scenes)} images have no labels)"
        )


def _beside(folder: Path) -> Path:
    whole = Path(os.path.abspath(folder))  # `.` has no name
    return whole.parent / f"{whole.name}annot"


def _cityscapes(folder: Path) -> list[LabelledImage]:
    """Return the images of all splits below `folder`, or of the split that it is.

    Cities without any labels, as those of a test split may be, are left out.
    """
    root = next((p for p in (folder, *folder.parents[:2]) if (p / "leftImg8bit").is_dir()), None)
    if root is None:
        return []
    within = folder if folder != root else root / "leftImg8bit"
    cities: dict[Path, list[LabelledImage]] = {}
    for path in sorted(within.rglob("*_leftImg8bit.png")):
        if is_hidden(path):
            continue
        name = path.name.removesuffix("_leftImg8bit.png")
        city = path.parent.relative_to(root / "leftImg8bit")
        label = root / "gtFine" / city / f"{name}_gtFine_labelIds.png"
        cities.setdefault(city, []).append(LabelledImage(name, path, label))
    labelled = [some for some in cities.values() if any(one.label.is_file() for one in some)]
    scenes = [one for some in labelled for one in some]
    _check_labels(scenes)
    return scenes


def read_labels(path: Path, classes: Classes) -> Array:
    """Read classes (H, W) uint8, VOID where there is none; DataError when they cannot be read."""
    try:
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # more pixels than OpenCV allows
        found = None
    if found is None or found.ndim != 2 or found.dtype != np.uint8:
        raise DataError(f"{path} is not an image of labels; expected one channel of 8 bits")
    table = np.full(256, VOID, np.uint8)
    for number, index in classes.numbers:
        table[number] = index
    return table[found]
