"""Small labelled street pictures, whose classes are readable from their red channel."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from streamvis.datasets.classes import CAMVID
from streamvis.models.inference.segmentation import SegmentedFrame
from streamvis.runners.scene_networks import SegmentedPicture

ROAD, TREE, CAR, VOID = 3, 5, 8, 11  # CamVid's classes
STREET_SIZE = (72, 96)  # height, width in px, of `write_street`
CAR_SIZE = (64, 96)  # of `write_growing_car`
CLASS_COLOURS = np.random.default_rng(5).integers(0, 256, (256, 3), dtype=np.uint8)
THING = (10, 250, 10)  # RGB of the object of `write_thing`


class ClassReader:
    """A segmenter that reads a class from the red of each pixel, but takes some for others."""

    def __init__(self, mistakes=(), names=CAMVID.names):
        self.names, self.mistakes = names, dict(mistakes)

    def segment(self, pixels):
        labels = pixels[..., 0].copy()
        for found, said in self.mistakes.items():
            labels[pixels[..., 0] == found] = said
        return SegmentedPicture(
            SegmentedFrame(None, labels, np.zeros((0, 0), np.uint8)), labels.shape
        )

    def unknown(self, picture):
        return np.zeros(picture.size, np.float32)


def write_street(folder: Path, count: int) -> Path:
    """Write so many pictures of a road with a car, void on the right."""
    for n in range(count):
        truth = np.full(STREET_SIZE, ROAD, np.uint8)
        truth[30:60, 10:40], truth[:, -10:] = CAR, VOID
        red = np.dstack([np.zeros_like(truth)] * 2 + [truth])
        _write(folder, n, truth, red)
    return folder


def write_growing_car(
    folder: Path, numbers: Iterable[int], images: str = "images", labels: str = "labels"
) -> Path:
    """Write pictures of trees, a road, and a car that is 5 px longer in each; void on the right."""
    for n in numbers:
        truth = np.full(CAR_SIZE, ROAD, np.uint8)
        truth[:20], truth[:, 80:] = TREE, VOID
        truth[30:50, 10 : 10 + 5 * n] = CAR
        _write(folder, n, truth, np.dstack([truth] * 3), images, labels)
    return folder


def write_thing(folder: Path) -> Path:
    """Write one cut-out object with an alpha channel."""
    cut_out = np.zeros((40, 40, 4), np.uint8)
    cut_out[4:36, 4:36] = (*THING[::-1], 255)
    cv2.imwrite(str(folder / "thing.png"), cut_out)
    return folder


def random_labels(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Return random classes of CamVid, void included, in squares of 16 px."""
    rough = np.random.default_rng(seed).integers(0, 12, (size[0] // 16, size[1] // 16))
    return np.kron(rough, np.ones((16, 16), int)).astype(np.uint8)


def write_random_street(
    folder: Path, count: int = 3, images: str = "images", labels: str = "labels"
) -> Path:
    """Write pictures of random classes in which each class has its colour."""
    for name in (images, labels):
        (folder / name).mkdir(parents=True)
    for n in range(count):
        truth = random_labels(n)
        cv2.imwrite(str(folder / images / f"{n}.png"), CLASS_COLOURS[truth][..., ::-1])
        cv2.imwrite(str(folder / labels / f"{n}.png"), truth)
    return folder


def _write(
    folder: Path,
    n: int,
    truth: np.ndarray,
    picture: np.ndarray,
    images: str = "images",
    labels: str = "labels",
) -> None:
    for name, pixels in ((images, picture), (labels, truth)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name / f"{n:03}.png"), pixels)
