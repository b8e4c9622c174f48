"""Folders of people with keypoints in COCO's layout, drawn by the test."""

import json
from pathlib import Path

import cv2
import numpy as np

# a standing figure in a box of 1×2: shares of width and height
FIGURE = np.array(
    [
        *((0.5, 0.08), (0.54, 0.06), (0.46, 0.06), (0.58, 0.08), (0.42, 0.08), (0.65, 0.22)),
        *((0.35, 0.22), (0.75, 0.38), (0.25, 0.38), (0.8, 0.52), (0.2, 0.52), (0.6, 0.52)),
        *((0.4, 0.52), (0.62, 0.75), (0.38, 0.75), (0.64, 0.96), (0.36, 0.96)),
    ]
)
LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12))
LEGS = ((11, 13), (13, 15), (12, 14), (14, 16))


def draw_person(picture: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Draw a figure into a picture; return its points (17, 2) in px."""
    x, y, width, height = box
    points = FIGURE * (width, height) + (x, y)
    places = [tuple(p) for p in points.round().astype(int).tolist()]
    for a, b in LIMBS:
        cv2.line(picture, places[a], places[b], (40, 60, 220), max(width // 12, 1))
    for a, b in LEGS:
        cv2.line(picture, places[a], places[b], (220, 160, 30), max(width // 12, 1))
    cv2.circle(picture, places[0], width // 8, (120, 180, 240), -1)
    return points


def write_folder(root: Path, pictures: int = 6, taught: bool = False, source: str = "") -> Path:
    """Write pictures of two people each with `annotations.json`; return the folder."""
    (root / "images").mkdir(parents=True)
    images, rows = [], []
    for number in range(pictures):
        picture = np.random.default_rng(number).integers(90, 160, (160, 200, 3)).astype(np.uint8)
        image = {"id": number, "file_name": f"{root.name}-{number:04}.png", "width": 200}
        images.append(image | {"height": 160} | ({"source": source} if source else {}))
        for box in ((10 + 3 * number, 20, 60, 120), (115, 10 + 2 * number, 50, 100)):
            points = draw_person(picture, box)
            triples = np.column_stack([points, np.full(17, 2)])
            row = {"id": len(rows) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            row |= {"bbox": box, "area": box[2] * box[3] / 2, "keypoints": triples.ravel().tolist()}
            rows.append(row | ({"point_scores": [0.9] * 17} if taught else {}))
        cv2.imwrite(str(root / "images" / image["file_name"]), picture)
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return root
