"""COCO annotation files: the people in each image, for scoring and for training alike.

One reader, one rule for both uses:
- a category called `person` or `pedestrian` counts, and all others are passed over;
- `iscrowd: 1` marks a crowd region, `ignore: 1` a person that costs nothing;
- a box of no width or no height holds no pixel, so it is kept and ignored; a negative size is an
  error.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.parsing import read_text

PERSON_NAMES = ("person", "pedestrian")
UNCHECKED = "not checked by anyone"  # what `streamvis label` writes about its file
PREDICTED = "predicted"  # and in `box_label` and `mask_label` of each row


@dataclass(frozen=True)
class ImageTruth:
    """The annotated people of one image."""

    name: str
    width: int
    height: int
    boxes: Array  # (G, 4) float64, xyxy pixels
    ignore: Array  # (G,) bool: neither finding nor missing this person costs anything
    crowd: Array  # (G,) bool: a region in which any number of detections costs nothing
    masks: tuple[Any, ...]  # (G,) COCO segmentations: polygons or run lengths, None without one
    predicted_boxes: Array | None = None  # (G,) bool: by a network, and not checked; None: nobody's
    predicted_masks: Array | None = None  # (G,) bool: the same of masks
    source: str = ""  # the video or folder that the image came from, where the file says so

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.width, self.height

    @property
    def people(self) -> int:
        """The number of people that a detector has to find."""
        return int((~self.ignore & ~self.crowd).sum())

    @property
    def predicted(self) -> int:
        """Of the people, how many were labelled by a network and not checked."""
        if self.predicted_boxes is None:
            return 0
        return int((self.predicted_boxes & ~self.ignore & ~self.crowd).sum())


def read_coco(path: Path) -> list[ImageTruth]:
    """Return every image of the file with its people, in the file's order; DataError."""
    dataset = _load(path)
    people = _person_ids(dataset, path)
    ids = [_key(image, "id", f"{path}: images[{i}]") for i, image in enumerate(dataset["images"])]
    check_distinct(ids, path)
    images = dict(zip(ids, dataset["images"], strict=True))
    found: dict[Any, list[Mapping[str, Any]]] = {key: [] for key in images}
    for i, annotation in enumerate(dataset["annotations"]):
        where = f"{path}: annotations[{i}]"
        if _key(annotation, "category_id", where) not in people:
            continue
        image = images.get(_key(annotation, "image_id", where))
        if image is None:
            raise DataError(f"{where}: image_id {annotation['image_id']!r} is none of the images")
        _check(annotation, image, where)
        found[annotation["image_id"]].append(annotation)
    unchecked = UNCHECKED in str(dataset["info"])
    return [
        _truth(image, found[key], f"{path}: image {key}", unchecked)
        for key, image in images.items()
    ]


def check_distinct(ids: Sequence[Any], path: Path) -> None:
    """Raise DataError where two images of a file have one id: the people of one would be lost."""
    first: dict[Any, int] = {}
    for i, key in enumerate(ids):
        if first.setdefault(key, i) != i:
            raise DataError(
                f"{path}: images[{i}] has the id {key!r} of images[{first[key]}]; expected an id "
                "of its own for each image"
            )


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


def _person_ids(dataset: Mapping[str, Any], path: Path) -> set[Any]:
    names = {
        _key(category, "id", f"{path}: categories[{i}]"): category.get("name")
        for i, category in enumerate(dataset["categories"])
    }
    found = {id_ for id_, name in names.items() if name in PERSON_NAMES}
    if not found:
        raise DataError(f"{path}: no category is called person; found {list(names.values())}")
    return found


def _key(record: Any, key: str, where: str) -> Any:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, int | str):
        raise DataError(f"{where}: {key} is {value!r}; expected a number or a name")
    return value


def _size(image: Mapping[str, Any], where: str) -> tuple[int, int]:
    height, width = image.get("height"), image.get("width")
    for value in (height, width):
        if not isinstance(value, int) or not 0 < value <= 100_000:
            raise DataError(f"{where}: height×width is {height!r}×{width!r}; expected pixels")
    return height, width  # type: ignore[return-value]


def _check(annotation: Mapping[str, Any], image: Mapping[str, Any], where: str) -> None:
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
        sound = isinstance(mask, dict) and _are_run_lengths(mask, _size(image, where))
    if not sound:
        raise DataError(
            f"{where}: segmentation is neither polygons [[x, y, x, y, x, y, …], …] nor run "
            "lengths of the image's size"
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
    """Return the number of pixels that compressed run lengths cover; None when they are malformed.

    pycocotools does not check them, and writes past its buffers when they are too long.
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
    image: Mapping[str, Any], annotations: list[Mapping[str, Any]], where: str, unchecked: bool
) -> ImageTruth:
    label = PREDICTED if unchecked else None  # where a row does not say who made it
    height, width = _size(image, where)
    xywh = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)
    crowd = np.array([bool(a.get("iscrowd")) for a in annotations], bool)
    ignore = np.array([bool(a.get("ignore")) for a in annotations], bool)
    ignore |= (xywh[:, 2:] == 0).any(1)
    predicted, drawn = (
        np.array([a.get(key, label) == PREDICTED for a in annotations], bool)
        for key in ("box_label", "mask_label")
    )
    return ImageTruth(
        name=str(image.get("file_name", image["id"])),
        width=width,
        height=height,
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        ignore=ignore,
        crowd=crowd,
        masks=tuple(a.get("segmentation") or None for a in annotations),
        predicted_boxes=predicted,
        predicted_masks=drawn,
        source=str(image.get("source") or ""),
    )
