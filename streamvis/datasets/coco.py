"""COCO annotation files, as the people in each picture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.parsing import read_text

UNCHECKED = "not checked by anyone"  # what `streamvis label` writes about its file
PREDICTED = "predicted"  # and in `box_label` of each row


@dataclass(frozen=True)
class ImageTruth:
    """Who is in one picture."""

    name: str
    width: int
    height: int
    boxes: Array  # (G, 4) float64, xyxy pixels
    ignore: Array  # (G,) bool, finding or missing this one costs nothing
    crowd: Array  # (G,) bool, a region in which any number of detections costs nothing
    masks: tuple[Any, ...]  # (G,) COCO segmentations: polygons or run lengths, None without one
    predicted: int = 0  # of those who count, how many a network labelled and nobody checked

    @property
    def people(self) -> int:
        """Who is to be found; the rest costs nothing."""
        return int((~self.ignore & ~self.crowd).sum())


def read_coco(path: Path) -> list[ImageTruth]:
    """Every picture of the file with its people, in the file's order."""
    dataset = _load(path)
    people = _person(dataset, path)
    pictures = {
        _key(picture, "id", f"{path}: images[{i}]"): picture
        for i, picture in enumerate(dataset["images"])
    }
    found: dict[Any, list[Mapping[str, Any]]] = {key: [] for key in pictures}
    for i, annotation in enumerate(dataset["annotations"]):
        where = f"{path}: annotations[{i}]"
        if _key(annotation, "category_id", where) != people:
            continue
        picture = pictures.get(_key(annotation, "image_id", where))
        if picture is None:
            raise DataError(f"{where}: image_id {annotation['image_id']!r} is none of the images")
        _check(annotation, picture, where)
        found[annotation["image_id"]].append(annotation)
    unchecked = UNCHECKED in str(dataset["info"])
    return [
        _truth(picture, found[key], f"{path}: image {key}", unchecked)
        for key, picture in pictures.items()
    ]


def _load(path: Path) -> dict[str, Any]:
    try:
        dataset = json.loads(read_text(path, DataError))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(dataset, dict) or not isinstance(dataset.get(key), list):
            raise DataError(
                f"{path} is not in COCO's layout: no list of {key}; expected an object with "
                "images, annotations and categories"
            )
    return {"info": {}, **dataset}


def _person(dataset: Mapping[str, Any], path: Path) -> Any:
    names = {
        _key(category, "id", f"{path}: categories[{i}]"): category.get("name")
        for i, category in enumerate(dataset["categories"])
    }
    for id_, name in names.items():
        if name in ("person", "pedestrian"):
            return id_
    raise DataError(f"{path}: no category is called person; found {list(names.values())}")


def _key(record: Any, key: str, where: str) -> Any:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, int | str):
        raise DataError(f"{where}: {key} is {value!r}; expected a number or a name")
    return value


def _size(picture: Mapping[str, Any], where: str) -> tuple[int, int]:
    height, width = picture.get("height"), picture.get("width")
    for value in (height, width):
        if not isinstance(value, int) or not 0 < value <= 100_000:
            raise DataError(f"{where}: height×width is {height!r}×{width!r}; expected pixels")
    return height, width  # type: ignore[return-value]


def _check(annotation: Mapping[str, Any], picture: Mapping[str, Any], where: str) -> None:
    box = annotation.get("bbox")
    if not _are_numbers(box, 4) or box[2] < 0 or box[3] < 0:  # type: ignore[index]
        raise DataError(f"{where}: bbox is {box!r}; expected [left, top, width, height]")
    mask = annotation.get("segmentation")
    if not mask:
        return
    if isinstance(mask, list):
        sound = all(_are_numbers(polygon) and len(polygon) % 2 == 0 for polygon in mask)
        sound = sound and all(len(polygon) >= 6 for polygon in mask)
    else:
        sound = isinstance(mask, dict) and _are_run_lengths(mask, _size(picture, where))
    if not sound:
        raise DataError(
            f"{where}: segmentation is neither polygons [[x, y, x, y, x, y, …], …] nor run "
            "lengths of the picture's size"
        )


def _are_numbers(values: Any, count: int | None = None) -> bool:
    return (
        isinstance(values, list)
        and (count is None or len(values) == count)
        and all(isinstance(v, int | float) and abs(v) < 1e9 for v in values)
    )


def _are_run_lengths(mask: Mapping[str, Any], size: tuple[int, int]) -> bool:
    counts = mask.get("counts")
    if mask.get("size") != list(size):
        return False
    if isinstance(counts, list):
        return (
            all(isinstance(n, int) and n >= 0 for n in counts) and sum(counts) == size[0] * size[1]
        )
    return isinstance(counts, str) and _decoded_length(counts) == size[0] * size[1]


def _decoded_length(text: str) -> int | None:
    """How many pixels COCO's compressed run lengths cover; None when they are not that.

    pycocotools trusts them, and writes past its buffers when they lie.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 30:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        if value < 0:
            return None
        counts.append(value)
        value, shift = 0, 0
    return sum(counts) if shift == 0 else None


def _truth(
    picture: Mapping[str, Any], annotations: list[Mapping[str, Any]], where: str, unchecked: bool
) -> ImageTruth:
    label = PREDICTED if unchecked else None  # where a row does not say who made it
    height, width = _size(picture, where)
    xywh = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
    return ImageTruth(
        name=str(picture.get("file_name", picture["id"])),
        width=width,
        height=height,
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        ignore=np.array([bool(a.get("ignore")) for a in annotations], bool),
        crowd=np.array([bool(a.get("iscrowd")) for a in annotations], bool),
        masks=tuple(a.get("segmentation") or None for a in annotations),
        predicted=sum(
            a.get("box_label", label) == PREDICTED and not (a.get("ignore") or a.get("iscrowd"))
            for a in annotations
        ),
    )
