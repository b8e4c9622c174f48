"""A sheet of people with labelled keypoints, to look at what a training would learn."""

import cv2
import numpy as np

from streamvis.datasets.pictures import read_picture
from streamvis.errors import DataError
from streamvis.messages import KEYPOINTS, Array
from streamvis.stages.pose.keypoints import LEFT_LIMBS, MIDDLE_LIMBS, RIGHT_LIMBS
from streamvis.training.detector.annotation import CocoAnnotation
from streamvis.training.detector.coco_folder import CocoFolder
from streamvis.viz.contact_sheet import contact_sheet
from streamvis.viz.style import PALETTE

SHOWN, COLUMNS = 48, 12
SIZE = 192  # px of a person on the sheet
LEFT, RIGHT, MIDDLE = PALETTE[4], PALETTE[5], PALETTE[0]


def pose_sheet(folder: CocoFolder) -> Array:
    """Draw every n-th person with the points that are sure."""
    rows = [row for row in folder.labels.annotations if row.num_keypoints]
    if not rows:
        raise DataError(f"{folder.path} has no person with a sure keypoint to show")
    names = {image.id: image.file_name for image in folder.labels.images}
    picked = np.unique(np.linspace(0, len(rows) - 1, SHOWN).round().astype(int))
    chosen = [rows[i] for i in picked]
    drawn = [_draw(folder, names[row.image_id], row) for row in chosen]
    return contact_sheet(drawn, COLUMNS, [names[row.image_id][-20:] for row in chosen])


def _draw(folder: CocoFolder, name: str, row: CocoAnnotation) -> Array:
    pixels = read_picture(folder.images / name)
    left, top, width, height = row.bbox
    scale = SIZE / (1.25 * max(width, height))
    shift = SIZE / 2 - scale * np.array([left + width / 2, top + height / 2])
    affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    canvas = cv2.warpAffine(pixels, affine, (SIZE, SIZE))
    known = np.array(row.keypoints, float).reshape(KEYPOINTS, 3)
    places = np.round(known[:, :2] * scale + shift).astype(int)
    for a, b in (*MIDDLE_LIMBS, *LEFT_LIMBS, *RIGHT_LIMBS):
        if known[a, 2] and known[b, 2]:
            cv2.line(canvas, places[a].tolist(), places[b].tolist(), _side(max(a, b)), 2)
    for i in np.flatnonzero(known[:, 2]):
        cv2.circle(canvas, places[i].tolist(), 3, _side(int(i)), -1)
    return np.asarray(canvas)


def _side(keypoint: int) -> tuple[int, int, int]:
    return MIDDLE if keypoint == 0 else LEFT if keypoint % 2 else RIGHT
