"""People with keypoints from files in COCO's layout, for training and for scoring.

`keypoints` has 17 × (x, y, v); v = 0 is a point that is not labelled. Of files that
`streamvis label-poses` wrote, `point_scores` has the probability of each point.
"""

import hashlib
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from streamvis.datasets.coco import check_distinct
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.parsing import read_text

NAMES = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
FLIPPED = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])  # in a mirror image
# standard deviation of a point placed by hand over the root of the person's area (COCO's OKS)
SIGMAS = np.repeat(
    [0.026, 0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089], [1, 2, 2, 2, 2, 2, 2, 2, 2]
)
LIMIT = 1e6  # px; coordinates beyond are mistakes
Id = int | str
Number = Annotated[float, Meta(ge=-LIMIT, le=LIMIT)]
Side = Annotated[int, Meta(ge=1, le=100_000)]


class PersonKeypoints(NamedTuple):
    """A person in a picture, with COCO's 17 keypoints."""

    path: Path  # of the picture
    picture: Id  # its id in the file
    id: Id  # of the person in the file
    source: str  # the video or folder that the picture came from
    box: Array  # (4,) xyxy px
    area: float  # px² of the person, COCO's scale of errors
    points: Array  # (17, 2) px; 0 where not labelled
    weights: Array  # (17,) probability that the point is right: 1 by hand, 0 not labelled
    taught: bool  # by a network, and not by hand
    ignore: bool  # a crowd: finding it or not costs nothing
    picture_size: tuple[int, int] | None = None  # width and height of the picture, px


class _Image(msgspec.Struct):
    id: Id
    file_name: str
    width: Side
    height: Side
    source: str = ""


class _Person(msgspec.Struct):
    id: Id
    image_id: Id
    bbox: tuple[Number, Number, Number, Number]
    keypoints: list[Number] = []
    area: Annotated[float, Meta(ge=0)] | None = None
    iscrowd: int = 0
    point_scores: list[Annotated[float, Meta(ge=0, le=1)]] | None = None


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Person]


def read_keypoints(folder: Path) -> list[PersonKeypoints]:
    """Return everybody in a folder's `annotations.json` whose keypoints are labelled; DataError.

    Pictures are in `images/`. People without keypoints are left out.
    """
    path = folder / "annotations.json" if folder.is_dir() else folder
    try:
        file = msgspec.json.decode(read_text(path, DataError), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} has no keypoints in COCO's layout: {error}") from None
    check_distinct([image.id for image in file.images], path)
    pictures = {image.id: image for image in file.images}
    found = []
    for row in file.annotations:
        image = pictures.get(row.image_id)
        if image is None:
            raise DataError(f"{path}: person {row.id}: image_id {row.image_id} is none of `images`")
        if row.keypoints:
            found.append(_person(row, image, path))
    if not found:
        raise DataError(
            f"{path}: none of {len(file.annotations)} people has `keypoints`; expected COCO's 17, "
            "such as in person_keypoints_val2017.json. Make them with: streamvis label-poses"
        )
    return found


def _person(row: _Person, image: _Image, path: Path) -> PersonKeypoints:
    count = len(NAMES)
    where = f"{path}: person {row.id}"
    if len(row.keypoints) != 3 * count:
        raise DataError(
            f"{where}: `keypoints` has {len(row.keypoints)} numbers, expected {3 * count}: x, y "
            f"and v of {count} points"
        )
    if row.point_scores is not None and len(row.point_scores) != count:
        raise DataError(
            f"{where}: `point_scores` has {len(row.point_scores)} numbers, expected {count}"
        )
    x, y, width, height = row.bbox
    if width <= 0 or height <= 0:
        raise DataError(f"{where}: bbox is {row.bbox}; expected a width and a height above 0")
    values = np.array(row.keypoints, np.float64).reshape(count, 3)
    labelled = values[:, 2] > 0
    scores = np.ones(count) if row.point_scores is None else np.array(row.point_scores)
    return PersonKeypoints(
        path=path.parent / "images" / image.file_name,
        picture=image.id,
        id=row.id,
        source=image.source or path.resolve().parent.name,
        box=np.array([x, y, x + width, y + height], np.float64),
        area=row.area if row.area else width * height,
        points=values[:, :2] * labelled[:, None],
        weights=scores * labelled,
        taught=row.point_scores is not None,
        ignore=bool(row.iscrowd),
        picture_size=(image.width, image.height),
    )


def is_tuned_on(picture: Path) -> bool:
    """Whether a picture is in the third that networks may be tuned on, by a hash of its name.

    The other two thirds of pictures that are labelled by hand are for measuring alone.
    """
    digest = hashlib.sha256(picture.stem.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 3 == 0
