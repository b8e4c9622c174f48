"""A sheet of labelled pictures, to look at what a training would learn."""

import cv2
import numpy as np

from streamvis.datasets.pictures import read_picture
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.training.detector.annotation import CocoAnnotation
from streamvis.training.detector.coco_folder import CocoFolder
from streamvis.viz.contact_sheet import contact_sheet
from streamvis.viz.style import GREY, PALETTE, rectangle, shade

SHOWN, COLUMNS = 24, 4
WIDTH = 480  # px of a picture on the sheet
TRUE, FOUND = PALETTE[4], PALETTE[5]  # green, vermilion
OPACITY = 0.4


def label_sheet(folder: CocoFolder) -> Array:
    """Draw every n-th picture: true boxes, people found, and, dashed, what is in doubt."""
    images = folder.labels.images
    if not images:
        raise DataError(f"{folder.path} has no picture to show")
    picked = np.unique(np.linspace(0, len(images) - 1, SHOWN).round().astype(int))
    rows: dict[int, list[CocoAnnotation]] = {}
    for row in folder.labels.annotations:
        rows.setdefault(row.image_id, []).append(row)
    drawn = [_draw(folder, i, rows.get(images[i].id, [])) for i in picked]
    return contact_sheet(drawn, COLUMNS, [images[i].file_name for i in picked])


def _draw(folder: CocoFolder, index: int, rows: list[CocoAnnotation]) -> Array:
    pixels = read_picture(folder.images / folder.labels.images[index].file_name)
    scale = WIDTH / pixels.shape[1]
    canvas = cv2.resize(pixels, (WIDTH, round(pixels.shape[0] * scale)))
    for row in sorted(rows, key=lambda one: -one.iscrowd):
        colour = GREY if row.iscrowd else TRUE if row.box_label == "gt" else FOUND
        for polygon in row.segmentation:
            points = np.array(polygon).reshape(-1, 2) * scale
            inside = np.zeros(canvas.shape[:2], np.uint8)
            cv2.fillPoly(inside, [np.round(points).astype(np.int32)], 1)
            tinted = canvas.copy()
            shade(tinted, colour, OPACITY)
            canvas[inside > 0] = tinted[inside > 0]
        left, top, width, height = (value * scale for value in row.bbox)
        box = np.array([left, top, left + width, top + height])
        rectangle(canvas, box, colour, 2, dashed=bool(row.iscrowd))
    return canvas
